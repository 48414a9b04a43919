//! `blue.catbird.mls.declineConvo`: declines an invitation. A repeat succeeds.
//!
//! Invariants: the inviter is not told. In a conversation of this server the seat ends, so that the account gets
//! nothing more of the conversation; where the last admin declines, the member that joined first becomes an admin.

use crate::api::mls::access;
use crate::federation::joining::consent;
use crate::federation::joining::invitation::{self, Invitation, State};
use crate::lexicon::mls::decline_convo::{DeclineConvo, Error, Output};
use crate::log::body::{Body, MembershipBody, MembershipChange, Role};
use crate::log::{self, Draft, EntryKind, Seat, StreamTx};
use crate::storage::{self, Tx};
use crate::types::{Did, StreamId, UnixMillis};
use crate::xrpc::{Call, Device, Failure, Services, parse};

pub async fn decline_convo(cx: &Services, caller: Device, call: Call<DeclineConvo>) -> Result<Output, Failure<Error>> {
    access::certified(&caller)?;
    let stream = parse(StreamId::parse, &call.input.stream)?;
    let block = call.input.block == Some(true);

    storage::retrying(Failure::is_collision, || decline(cx, &caller, &stream, block)).await?;
    cx.log.wake_courier();
    Ok(Output {})
}

async fn decline(cx: &Services, caller: &Device, stream: &StreamId, block: bool) -> Result<(), Failure<Error>> {
    let ours = cx.log.find_stream(stream.as_str()).await?.filter(|info| info.home == cx.log.home().as_str());
    match ours {
        Some(info) => {
            let mut tx = cx.log.lock(info.id).await?;
            let is_seated = tx.roster().await?.seats.contains_key(&caller.author.did);
            let seat = if is_seated { Some(tx.seat(&caller.author, false).await?) } else { None };
            let next_admin = if is_seated { next_admin(&mut tx, &caller.author.did).await? } else { None };
            tx.begin_writes().await?;
            if !pass(tx.conn(), caller, stream, block, cx.clock.now()).await? {
                return Ok(());
            }
            if let Some(seat) = seat {
                leave(&mut tx, &seat, caller, next_admin).await?;
            }
            Ok(tx.commit().await?)
        }
        None => {
            let mut tx: Tx = cx.storage.begin().await?;
            pass(tx.conn(), caller, stream, block, cx.clock.now()).await?;
            Ok(tx.commit().await?)
        }
    }
}

/// Whether it waited until now.
async fn pass(
    conn: &mut crate::storage::PgConnection,
    caller: &Device,
    stream: &StreamId,
    block: bool,
    now: UnixMillis,
) -> Result<bool, Failure<Error>> {
    let author = &caller.author;
    let Some(found) = invitation::find_for_update(conn, author.account_id, stream).await? else {
        return Err(Failure::Named(Error::InvitationNotFound("no invitation to this conversation waits".into())));
    };
    let Invitation { state, inviter, .. } = &found;
    match state {
        State::Waiting => {}
        State::Passed => return Ok(false),
        State::Joining | State::Taken => {
            return Err(Failure::Named(Error::InvitationNotFound("this invitation was taken".into())));
        }
    }
    let mut notices = vec![invitation::pass(conn, author.account_id, stream, &found, now.to_datetime()).await?];
    if let Some(inviter) = inviter.as_ref().filter(|_| block) {
        let own = (author.account_id, &author.did);
        if let Some(ended) = consent::block(conn, own, inviter, now.to_datetime()).await? {
            notices.extend(ended.notices);
        }
    }
    log::queue(conn, &notices, now).await?;
    Ok(true)
}

/// Who becomes an admin if this account leaves: the oldest acting member, where the account is the only admin.
async fn next_admin(tx: &mut StreamTx, did: &Did) -> Result<Option<Did>, log::Error> {
    let roster = tx.roster().await?;
    let is_last_admin = roster.admins().all(|admin| admin == did) && roster.admins().count() == 1;
    if !is_last_admin {
        return Ok(None);
    }
    let next = tx.acting_members().await?.into_iter().find(|next| next.account != *did);
    Ok(next.map(|next| next.account))
}

async fn leave(tx: &mut StreamTx, seat: &Seat, caller: &Device, next_admin: Option<Did>) -> Result<(), Failure<Error>> {
    if let Some(account) = next_admin {
        let (change, role) = (MembershipChange::Role, Some(Role::Admin));
        let body = MembershipBody { account, change, role, server: None }.encode()?;
        tx.append(seat, Draft { kind: EntryKind::Membership, epoch: None, body, identity: None }).await?;
    }
    let (account, change) = (caller.author.did.clone(), MembershipChange::Left);
    let body = MembershipBody { account, change, role: None, server: None }.encode()?;
    tx.append(seat, Draft { kind: EntryKind::Membership, epoch: None, body, identity: None }).await?;
    Ok(())
}
