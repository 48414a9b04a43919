//! The purpose of a claim, and the servers of its targets.

use std::collections::HashMap;

use crate::api::mls::access;
use crate::federation::AccountHome;
use crate::federation::joining::claims::{ForeignAnswer, ForeignAnswers, UNAVAILABLE};
use crate::federation::joining::whereabouts::{self, Whereabouts};
use crate::lexicon::mls::claim_key_packages::{Error, Input, Target};
use crate::storage;
use crate::types::{Did, StreamId};
use crate::xrpc::{Device, Failure, Fault, Services, parse};

/// The stream that the packages are bound to.
pub(super) struct Purpose {
    pub stream: String,
    pub home: Did,
    /// Its row; none for a stream of another home that a peer claims for.
    pub stream_id: Option<i64>,
}

/// The claimer has a seat in the stream, as far as this server can tell: of another home's stream it knows nothing, and
/// the packages are good at that home alone.
pub(super) async fn of(cx: &Services, caller: &Device, input: &Input) -> Result<Purpose, Failure<Error>> {
    let elsewhere = input.home.as_ref().filter(|home| *home != cx.log.home());
    if let (Some(home), Some(_)) = (elsewhere, &caller.via) {
        let stream = parse(StreamId::parse, &input.stream)?.to_string();
        return Ok(Purpose { stream, home: home.clone(), stream_id: None });
    }
    let stream = access::seated(cx, &caller.author, &input.stream).await?.stream;
    let home = Did::parse(&stream.home).map_err(|_| Fault::from(storage::Error::Corrupt("stream.home")))?;
    if input.home.as_ref().is_some_and(|named| *named != home) {
        return Err(Fault::InvalidRequest(format!("input/home: the home of this stream is {home}")).into());
    }
    Ok(Purpose { stream: stream.public_id.to_string(), home, stream_id: Some(stream.id) })
}

pub(super) async fn locate(cx: &Services, caller: &Device, targets: &[Did]) -> Result<Whereabouts, Failure<Error>> {
    let located = whereabouts::locate(&cx.federation, &caller.author.did, targets.iter().cloned()).await;
    Ok(located.map_err(Fault::from)?)
}

/// Why another server gets nothing of those that do not live here. Who names no server takes no part in federation.
pub(super) async fn not_ours(
    cx: &Services,
    caller: &Device,
    targets: &[Did],
) -> Result<ForeignAnswers, Failure<Error>> {
    let mut answers = HashMap::new();
    let located = whereabouts::locate_for_peer(&cx.federation, &caller.author.did, targets.iter().cloned()).await;
    let homes = located.map_err(Fault::from)?;
    for account in targets {
        let problem = match homes.get(account) {
            Some(Ok(AccountHome::Here)) => continue,
            Some(Ok(AccountHome::Elsewhere(server))) => {
                let was_here = whereabouts::note_server(cx.storage.pool(), account, server).await?;
                if was_here { "moved" } else { "notHere" }
            }
            Some(Ok(AccountHome::Nowhere)) => "notHere",
            Some(Err(_)) | None => UNAVAILABLE,
        };
        let target = Target { account: account.clone(), packages: None, problem: Some(problem.to_owned()) };
        answers.insert(account.clone(), ForeignAnswer { target, part: None });
    }
    Ok(answers)
}
