//! `blue.catbird.peer.unfollow`: a server wants no more of a stream of ours.

use crate::lexicon::peer::unfollow::{Error, Output, Unfollow};
use crate::xrpc::{Call, Failure, Peer, Services};

pub async fn unfollow(cx: &Services, caller: Peer, call: Call<Unfollow>) -> Result<Output, Failure<Error>> {
    cx.replicas.end_following(&caller.server, &call.input.stream).await?;
    Ok(Output {})
}
