//! `blue.catbird.peer.getCheckpoint`: what the home of a stream signed for, as far as it is known here.

use crate::lexicon::peer::get_checkpoint::{Error, GetCheckpoint, Output};
use crate::types::Seq;
use crate::xrpc::{Call, Failure, Peer, Services};

use super::wire;

pub async fn get_checkpoint(cx: &Services, caller: Peer, call: Call<GetCheckpoint>) -> Result<Output, Failure<Error>> {
    let params = call.params;
    let found = cx.replicas.checkpoint(&caller.server, &params.stream, params.seq.map(Seq)).await?;
    Ok(Output { checkpoint: wire(found.checkpoint), headers: found.headers })
}
