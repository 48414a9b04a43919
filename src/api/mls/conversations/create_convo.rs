//! `blue.catbird.mls.createConvo`: creates a conversation from the GroupInfo of epoch 0.
//!
//! Invariant: group id and cipher suite are those of the GroupInfo, whose one leaf is the calling device. Members come by
//! addMembers, because key packages are claimed for a stream that exists.

use super::store::{self, NewConvo};
use crate::api::mls::access;
use crate::api::mls::store::signature_keys;
use crate::lexicon::mls::create_convo::{CreateConvo, Error, Output};
use crate::log::body::{Body, ConvoBody, MembershipBody, MembershipChange, Role};
use crate::log::{Draft, EntryKind, StreamKind};
use crate::mls::{self, Founded, StoredLeaf};
use crate::storage;
use crate::types::Bytes;
use crate::xrpc::{Call, Device, Failure, Fault, Services, blocking, keep_answer, repeated_answer};

pub async fn create_convo(cx: &Services, caller: Device, call: Call<CreateConvo>) -> Result<Output, Failure<Error>> {
    access::certified(&caller)?;
    if call.input.handshake_policy != "opaque" {
        return Err(Fault::NotConfigured("validated handshakes; found the conversation as opaque").into());
    }
    let group_info = call.input.group_info.clone();
    let founder = StoredLeaf {
        account: caller.author.did.clone(),
        device: caller.author.device.clone(),
        signature_keys: signature_keys(cx.storage.pool(), caller.author.device_row).await?,
    };
    let founded = blocking(cx, move || mls::founding(group_info.as_slice(), &founder)).await??;

    storage::retrying(Failure::is_collision, || found(cx, &caller, &call, &founded)).await
}

async fn found(
    cx: &Services,
    caller: &Device,
    call: &Call<CreateConvo>,
    founded: &Founded,
) -> Result<Output, Failure<Error>> {
    let author = &caller.author;
    let repeat = match repeated_answer(cx, author, call, &call.input.idem).await? {
        Ok(answer) => return Ok(answer),
        Err(repeat) => repeat,
    };
    let policy = serde_json::to_value(&call.input.policy).map_err(Fault::internal)?;
    let convo = ConvoBody {
        group_id: Bytes::from(founded.group_id()),
        cipher_suite: founded.cipher_suite(),
        handshake_policy: call.input.handshake_policy.clone(),
        policy: policy.to_string(),
        metadata: call.input.metadata.clone(),
    };
    let opened = MembershipBody {
        account: author.did.clone(),
        change: MembershipChange::Opened,
        role: Some(Role::Admin),
        server: Some(cx.log.home().to_string()),
    };

    let tx = cx.storage.begin().await?;
    let mut tx = cx.log.found(tx, StreamKind::Convo).await?;
    let seat = tx.founder(author).await?;
    tx.append(&seat, Draft { kind: EntryKind::Convo, epoch: None, body: convo.encode()?, identity: None }).await?;
    let draft = Draft { kind: EntryKind::Membership, epoch: None, body: opened.encode()?, identity: None };
    let last = tx.append(&seat, draft).await?;

    let answer = Output {
        stream: tx.row().public_id.to_string(),
        term: last.term.0,
        seq: last.seq.0,
        hash: Bytes(last.hash.to_vec()),
    };
    // Before the group id is taken: a simultaneous repeat must find its answer, not `GroupIdInUse`.
    keep_answer::<CreateConvo>(tx.conn(), cx, author, &repeat, &answer).await?;
    let new = NewConvo {
        stream_id: tx.row().id,
        group_id: founded.group_id(),
        cipher_suite: i32::from(founded.cipher_suite()),
        policy: &policy,
        metadata: call.input.metadata.as_ref().map(Bytes::as_slice),
        group_info: founded.group_info(),
        founder_id: author.account_id,
        now: tx.now().to_datetime(),
    };
    store::insert_convo(tx.conn(), &new).await.map_err(|error| match error.constraint() {
        Some("convo_group_id_key") => {
            Failure::Named(Error::GroupIdInUse("another conversation has this group id".into()))
        }
        _ => error.into(),
    })?;
    tx.commit().await?;
    Ok(answer)
}
