//! `blue.catbird.admin.putPeer`: decides about another server and its keys.
//!
//! Invariant: each call that comes after the answer is judged by it, on every replica: they look at the rows.

use super::peers::{policy, shown};
use crate::federation::roster::{self, Undecided};
use crate::lexicon::admin::put_peer::{Error, Output, PutPeer};
use crate::xrpc::{Call, Failure, Operator, Services};

pub async fn put_peer(cx: &Services, _: Operator, call: Call<PutPeer>) -> Result<Output, Failure<Error>> {
    let input = call.input;
    let decided = [(input.accept_key.as_deref(), true), (input.refuse_key.as_deref(), false)];

    for (key, accept) in decided {
        if let Some(key) = key {
            roster::decide_key(&cx.storage, &input.server, key, accept).await.map_err(told)?;
        }
    }
    let peer = match input.policy.as_deref().and_then(policy) {
        Some(policy) => {
            let (now, development) = (cx.clock.now(), !cx.config.is_production());
            roster::decide(&cx.storage, &input.server, policy, now, development).await
        }
        None => roster::get(&cx.storage, &input.server).await,
    };

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
