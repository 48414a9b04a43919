//! `blue.catbird.mls.leaveConvo`: ends the account's seat.
//!
//! Invariants: the entry of the leave is the last entry that the account reads; a conversation with members keeps an
//! admin. The account's leaves stay in the tree until a member commits their removal, which any member may. With `erase`
//! the home erases the account's newest messages in the transaction that ends the seat, and the others afterwards, in
//! steps. An unresponsive home keeps no account: see `leave_here`.

use super::leave_here::leave_here;
use crate::api::mls::access;
use crate::lexicon::mls::leave_convo::{Error, LeaveConvo, Output};
use crate::log::body::{Body, ErasedBody, MembershipBody, MembershipChange, Role};
use crate::log::{CallIdentity, Draft, EntryKind, Roster, StreamInfo, StreamTx};
use crate::storage;
use crate::types::{Bytes, Did, Seq};
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn leave_convo(cx: &Services, caller: Device, call: Call<LeaveConvo>) -> Result<Output, Failure<Error>> {
    access::certified(&caller)?;
    let identity = call.identity(&caller.author, &call.input.idem)?;
    let stream = access::find(cx, &call.input.stream).await?;
    if stream.home != cx.log.home().as_str() {
        return leave_here(cx, &caller, &call, &stream).await;
    }
    let erase = call.input.erase == Some(true);
    // Before the transaction: a search holds back nobody there.
    let erased = if erase { cx.log.newest_messages(stream.id, &caller.author).await? } else { Vec::new() };
    let wishes = Wishes { successor: call.input.new_admin.as_ref(), erase, erased: &erased };

    storage::retrying(Failure::is_collision, || leave(cx, &caller, &stream, identity, wishes)).await
}

#[derive(Clone, Copy)]
struct Wishes<'a> {
    successor: Option<&'a Did>,
    erase: bool,
    /// Messages that are erased before the seat ends; others are erased afterwards.
    erased: &'a [Seq],
}

async fn leave(
    cx: &Services,
    caller: &Device,
    stream: &StreamInfo,
    identity: CallIdentity,
    Wishes { successor, erase, erased }: Wishes<'_>,
) -> Result<Output, Failure<Error>> {
    let did = &caller.author.did;
    let mut tx = cx.log.lock(stream.id).await?;
    if let Some(first) = tx.repeated(&identity).await? {
        return Ok(Output {
            term: first.term.0,
            seq: first.seq.0,
            hash: Bytes(first.hash.to_vec()),
            receipt: None,
            queued: None,
        });
    }
    let seat = tx.seat(&caller.author, false).await?;
    let promoted = successor_needed(tx.roster().await?, did, successor)?;
    if let Some(successor) = promoted {
        may_succeed(&mut tx, successor).await?;
    }

    let membership =
        |account: &Did, change, role| MembershipBody { account: account.clone(), change, role, server: None };
    if let Some(successor) = promoted {
        let body = membership(successor, MembershipChange::Role, Some(Role::Admin)).encode()?;
        tx.append(&seat, Draft { kind: EntryKind::Membership, epoch: None, body, identity: None }).await?;
    }
    if !erased.is_empty() {
        let body = ErasedBody { seqs: erased.to_vec() }.encode()?;
        tx.append(&seat, Draft { kind: EntryKind::Erased, epoch: None, body, identity: None }).await?;
    }
    let body = membership(did, MembershipChange::Left, None).encode()?;
    let draft = Draft { kind: EntryKind::Membership, epoch: None, body, identity: Some(identity) };
    let left = tx.append(&seat, draft).await?;
    if erase {
        tx.erase_later(&caller.author, left.seq).await?;
    }
    tx.commit().await?;
    Ok(Output { term: left.term.0, seq: left.seq.0, hash: Bytes(left.hash.to_vec()), receipt: None, queued: None })
}

/// Refuses a successor that has not accepted its invitation, or has no device in the group: it may never act.
async fn may_succeed(tx: &mut StreamTx, successor: &Did) -> Result<(), Failure<Error>> {
    if tx.acting_members().await?.iter().any(|member| member.account == *successor) {
        return Ok(());
    }
    let why = "newAdmin has not joined this conversation yet; name a member that has, or remove it first";
    Err(Failure::Named(Error::MemberNotFound(why.into())))
}

/// The successor: the member that a leaving admin names. A leaving member that is no admin names none.
fn successor_needed<'a>(
    roster: &Roster,
    leaving: &Did,
    successor: Option<&'a Did>,
) -> Result<Option<&'a Did>, Failure<Error>> {
    let others_remain = roster.seats.keys().any(|member| member != leaving);
    let admin_remains = roster.admins().any(|admin| admin != leaving);
    let is_admin = roster.admins().any(|admin| admin == leaving);
    match successor {
        Some(named) if named == leaving || !roster.seats.contains_key(named) => {
            Err(Failure::Named(Error::MemberNotFound("newAdmin is not another member of this conversation".into())))
        }
        Some(named) => Ok(is_admin.then_some(named)),
        None if others_remain && !admin_remains => {
            Err(Failure::Named(Error::LastAdmin("the last admin leaves by naming another member in newAdmin".into())))
        }
        None => Ok(None),
    }
}
