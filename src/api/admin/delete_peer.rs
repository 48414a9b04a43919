//! `blue.catbird.admin.deletePeer`: forgets another server.
//!
//! Invariant: a server that signed anything of a conversation here is not forgotten, for its keys are what proves it.

use super::peers::{self, Decision};
use crate::federation::roster::Undecided;
use crate::lexicon::Nothing;
use crate::lexicon::admin::delete_peer::{DeletePeer, Error};
use crate::xrpc::{Call, Failure, Fault, Operator, Services};

pub async fn delete_peer(cx: &Services, caller: Operator, call: Call<DeletePeer>) -> Result<Nothing, Failure<Error>> {
    let (by, now, development) = (caller.name(), cx.clock.now(), !cx.config.is_production());
    let forgotten = peers::decide(&cx.storage, &by, &call.input.server, &Decision::Forget, now, development).await;

    forgotten.map(|()| Nothing {}).map_err(|undecided| match undecided {
        Undecided::NotFound => Failure::Named(Error::PeerNotFound(undecided.to_string().into())),
        Undecided::InUse => Failure::Named(Error::PeerInUse(undecided.to_string().into())),
        Undecided::Storage(error) => error.into(),
        Undecided::NotAServer | Undecided::NoSuchKey => Failure::Fault(Fault::internal(undecided.to_string())),
    })
}
