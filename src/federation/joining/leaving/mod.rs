//! Leaving a conversation whose home is unreachable, hostile, or orders nothing any more.
//!
//! Invariants: from that moment on this server shows the account nothing of the conversation, whatever the home does; a
//! delivery tells the home, with the body and the idempotency key of the client's own call; once no account of this
//! server has a seat, the server accepts nothing more from the home.

mod store;

use serde_json::json;

use super::Joining;
use super::delivery::{self, Delivery, LEAVE};
use crate::federation::{Actor, CallError, PeerRequest};
use crate::lexicon::mls::leave_convo::LeaveConvo;
use crate::lexicon::peer::unfollow;
use crate::lexicon::{Kind, Method};
use crate::log::body::{Body, InvitationBody};
use crate::log::{EntryKind, Error, Outgoing, StreamInfo, queue};
use crate::storage::{self, PgConnection};
use crate::types::{DeviceId, Did, UnixMillis};

/// The account that leaves.
#[derive(Clone, Copy, Debug)]
pub struct Leaver<'a> {
    pub account_id: i64,
    pub account: &'a Did,
    pub device: &'a DeviceId,
}

/// Hides the account's seat and queues the delivery to the home. Answers whether there was a seat to hide.
pub async fn leave(
    conn: &mut PgConnection,
    leaver: Leaver<'_>,
    stream: &StreamInfo,
    call: &str,
    now: UnixMillis,
) -> Result<bool, Error> {
    let at = now.to_datetime();
    if !store::hide_seat(conn, stream.id, leaver.account_id).await? {
        return Ok(false);
    }
    store::pass_invitations(conn, leaver.account_id, stream.public_id.as_str()).await?;
    store::hold_welcomes(conn, leaver.account_id, stream.id).await?;
    store::end_if_last(conn, stream.id, at).await?;
    let home = Did::parse(&stream.home).map_err(|_| storage::Error::Corrupt("stream.home"))?;
    // The account's other devices get this notice, and its subscriptions lose the seat.
    let body = InvitationBody {
        stream: stream.public_id.clone(),
        home: home.clone(),
        inviter: None,
        state: "left".to_owned(),
    };
    let body = body.encode()?;
    queue(conn, &[Outgoing { account_id: leaver.account_id, kind: EntryKind::Invitation, body }], now).await?;
    let delivery = Delivery {
        sender: None,
        server: &home,
        to: leaver.account,
        kind: LEAVE,
        body: json!({ "stream": stream.public_id, "device": leaver.device, "call": call }),
        stream_id: None,
        welcome: None,
    };
    delivery::queue(conn, &[delivery], now).await?;
    Ok(true)
}

/// The client's call, as the delivery to the home carries it.
pub(super) struct Leave {
    pub stream: String,
    pub device: String,
    pub call: String,
}

/// Sends the call to the home. A home without such a seat counts as told.
pub(super) async fn tell(joining: &Joining, home: &Did, account: &Did, leave: Leave) -> Result<(), CallError> {
    let federation = &joining.inner.federation;
    let request = PeerRequest {
        nsid: LeaveConvo::NSID,
        kind: Kind::Procedure,
        query: "",
        body: leave.call.into(),
        content_type: Some("application/json"),
        actor: Some(Actor { account, device: Some(leave.device.as_str()) }),
    };
    match federation.call(home, request).await {
        Err(error) if !["StreamNotFound", "NotMember"].into_iter().any(|name| error.is(name)) => return Err(error),
        _ => {}
    }
    match store::is_followed(joining.log().storage().pool(), &leave.stream).await {
        Ok(false) => {
            let input = unfollow::Input { stream: leave.stream };
            // Best effort: the home also forgets a server without a seat by itself.
            drop(federation.procedure::<unfollow::Unfollow>(home, &input, None).await);
        }
        Ok(true) => {}
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "failed to look up a replica"),
    }
    Ok(())
}
