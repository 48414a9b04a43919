//! `blue.catbird.peer.reportFork`: a server shows a proof of a fork by the home of a stream.
//!
//! Invariant: the proof proves itself; who shows it does not matter.

use crate::federation::replica::proof_of;
use crate::lexicon::peer::report_fork::{Error, Output, ReportFork};
use crate::xrpc::{Call, Failure, Peer, Services};

pub async fn report_fork(cx: &Services, _: Peer, call: Call<ReportFork>) -> Result<Output, Failure<Error>> {
    cx.replicas.judge_fork(&call.input.stream, proof_of(call.input.proof)).await?;
    Ok(Output {})
}
