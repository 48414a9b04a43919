//! `blue.catbird.peer.transferHome`: the home of a stream offers it to this server.
//!
//! Invariant: the answer is a promise and changes nothing; the home's own last entry is what moves the stream.

use super::wire;
use crate::federation::replica::Transfer;
use crate::lexicon::peer::transfer_home::{Error, Output, TransferHome};
use crate::xrpc::{Call, Failure, Peer, Services};

pub async fn transfer_home(cx: &Services, caller: Peer, call: Call<TransferHome>) -> Result<Output, Failure<Error>> {
    let transfer = Transfer::decode(&call.body)?;
    let acceptance = cx.replicas.accept(&caller.server, &transfer).await?;
    Ok(Output { acceptance: wire(acceptance) })
}
