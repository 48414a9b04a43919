//! `blue.catbird.peer.showCheckpoint`: a server shows us what we signed.
//!
//! Invariant: our own signature counts, whichever server shows it; entries that it covers beyond our log were lost.

use crate::identity::Signed;
use crate::lexicon::peer::show_checkpoint::{Error, Output, ShowCheckpoint};
use crate::xrpc::{Call, Failure, Peer, Services};

pub async fn show_checkpoint(
    cx: &Services,
    caller: Peer,
    call: Call<ShowCheckpoint>,
) -> Result<Output, Failure<Error>> {
    let input = call.input;
    let checkpoint = input.checkpoint;
    let signed = Signed { statement: checkpoint.statement, key: checkpoint.key, sig: checkpoint.sig };
    let shown = cx.replicas.shown(&caller.server, &input.stream, &signed).await?;
    Ok(Output { state: shown.name().to_owned() })
}
