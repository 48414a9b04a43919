//! `blue.catbird.peer.replicate`: the home of a stream that we follow hands us its next entries.
//!
//! Invariant: all of a request is stored, or nothing of it.

use crate::federation::{Quota, replica};
use crate::lexicon::peer::replicate::{Error, Output, Replicate};
use crate::types::Bytes;
use crate::xrpc::{Call, Failure, Fault, Peer, Services};

pub async fn replicate(cx: &Services, caller: Peer, call: Call<Replicate>) -> Result<Output, Failure<Error>> {
    let request = replica::Replicate::decode(&call.body)?;
    cx.federation.take(&caller.counted, Quota::Entries, request.entries.len() as u64).map_err(Fault::from)?;
    let taken = cx.replicas.take(&caller.server, request).await?;
    Ok(Output {
        term: taken.term.0,
        seq: taken.seq.0,
        hash: Bytes(taken.hash.to_vec()),
        state: taken.state.name().to_owned(),
    })
}
