//! `blue.catbird.admin.putPeer`: decides about another server and its keys.
//!
//! Invariant: each call that comes after the answer is judged by it, on every instance: they look at the rows.

use super::peers::{self, Decision, policy, shown};
use crate::federation::roster::{self, Undecided};
use crate::lexicon::admin::put_peer::{Error, Output, PutPeer};
use crate::xrpc::{Call, Failure, Operator, Services};

pub async fn put_peer(cx: &Services, caller: Operator, call: Call<PutPeer>) -> Result<Output, Failure<Error>> {
    let (input, by) = (call.input, caller.name());
    let mut decisions = Vec::new();
    decisions.extend(input.accept_key.as_deref().map(Decision::AcceptKey));
    decisions.extend(input.refuse_key.as_deref().map(Decision::RefuseKey));
    decisions.extend(input.policy.as_deref().and_then(policy).map(Decision::Policy));

    let (now, development) = (cx.clock.now(), !cx.config.is_production());
    for decision in &decisions {
        peers::decide(&cx.storage, &by, &input.server, decision, now, development).await.map_err(told)?;
    }
    let peer = roster::get(&cx.storage, &input.server).await;

    Ok(Output { peer: shown(peer.map_err(told)?) })
}

fn told(undecided: Undecided) -> Failure<Error> {
    let message = undecided.to_string();
    match undecided {
        Undecided::NotAServer => Failure::Named(Error::NotAServer(message.into())),
        Undecided::NotFound => Failure::Named(Error::PeerNotFound(message.into())),
        Undecided::NoSuchKey => Failure::Named(Error::KeyNotFound(message.into())),
        Undecided::InUse => Failure::Fault(crate::xrpc::Fault::internal(message)),
        Undecided::Storage(error) => error.into(),
    }
}
