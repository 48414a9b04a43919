//! `blue.catbird.admin.nameAdmin`: makes a member an admin of a conversation without an admin who can act.
//!
//! Invariant: an operator changes nothing in a conversation of which an admin can act.

use super::actions::{self, OperatorAction};
use crate::lexicon::Nothing;
use crate::lexicon::admin::name_admin::{Error, NameAdmin};
use crate::log::body::{Body, MembershipBody, MembershipChange, Role};
use crate::log::{Draft, EntryKind, StreamKind};
use crate::storage;
use crate::types::Did;
use crate::xrpc::{Call, Failure, Operator, Services};

pub async fn name_admin(cx: &Services, caller: Operator, call: Call<NameAdmin>) -> Result<Nothing, Failure<Error>> {
    let found = cx.log.find_stream(&call.input.stream).await?;
    let ours = found.filter(|info| info.kind == StreamKind::Convo && info.home == cx.log.home().as_str());
    let not_found = || Failure::Named(Error::StreamNotFound("this server orders no such conversation".into()));
    let stream = ours.ok_or_else(not_found)?;

    let named = (stream.id, call.input.stream.as_str(), &call.input.account);
    storage::retrying(Failure::is_collision, || name(cx, &caller, named)).await?;
    Ok(Nothing {})
}

async fn name(
    cx: &Services,
    caller: &Operator,
    (stream_id, stream, account): (i64, &str, &Did),
) -> Result<(), Failure<Error>> {
    let mut tx = cx.log.lock(stream_id).await?;
    let acting = tx.acting_members().await?;
    let Some(member) = acting.iter().find(|member| member.account == *account && !member.suspended) else {
        let why = "the account has not joined this conversation, or is suspended";
        return Err(Failure::Named(Error::MemberNotFound(why.into())));
    };
    if member.is_admin {
        return Ok(());
    }
    if acting.iter().any(|member| member.is_admin && !member.suspended) {
        let why = "the conversation has an admin who can act; ask that one";
        return Err(Failure::Named(Error::AdminRemains(why.into())));
    }
    let (change, role) = (MembershipChange::Role, Some(Role::Admin));
    let body = MembershipBody { account: account.clone(), change, role, server: None }.encode()?;
    let seat = tx.on_behalf(account).await?;
    tx.append(&seat, Draft { kind: EntryKind::Membership, epoch: None, body, identity: None }).await?;
    let (by, now, detail) = (caller.name(), tx.now(), [("stream", stream)]);
    let action = OperatorAction { by: &by, name: "nameAdmin", account: Some(account), detail: &detail };
    actions::record(tx.conn(), &action, now).await?;
    Ok(tx.commit().await?)
}
