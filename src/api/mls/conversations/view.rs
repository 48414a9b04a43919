//! A member's view of a conversation.

use std::collections::HashMap;

use super::store::{self, ConvoRow, MemberRow};
use crate::lexicon::event::defs::Head;
use crate::lexicon::mls::defs::{Convo, Leaf, Member, Settings};
use crate::log::body::Role;
use crate::storage::Error;
use crate::types::{Bytes, Did, Seq, UnixMillis};
use crate::xrpc::Services;

/// Puts the members to their conversations: two queries, however many there are.
pub(super) async fn views(cx: &Services, rows: Vec<ConvoRow>) -> Result<Vec<Convo>, Error> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut members: HashMap<i64, Vec<Member>> = HashMap::new();
    for row in store::list_members(cx.storage.pool(), &ids).await? {
        add_leaf(members.entry(row.stream_id).or_default(), row)?;
    }
    Ok(rows.into_iter().map(|row| convo(members.remove(&row.id).unwrap_or_default(), row)).collect())
}

/// Rows of one member follow each other.
fn add_leaf(members: &mut Vec<Member>, row: MemberRow) -> Result<(), Error> {
    let same = members.last().is_some_and(|last| last.account.as_str() == row.did);
    if !same {
        members.push(Member {
            account: Did::parse(&row.did).map_err(|_| Error::Corrupt("account.did"))?,
            role: Role::from_db(row.role, row.role_name.as_deref()).name().to_owned(),
            from_seq: Seq::from_db(row.from_seq).0,
            devices: Vec::new(),
        });
    }
    if let (Some(member), Some(device), Some(from)) = (members.last_mut(), row.device, row.device_from) {
        member.devices.push(Leaf { device, from_seq: Seq::from_db(from).0 });
    }
    Ok(())
}

fn convo(members: Vec<Member>, row: ConvoRow) -> Convo {
    let number = |value: i64| u64::try_from(value).unwrap_or_default();
    Convo {
        stream: row.public_id,
        group_id: Bytes(row.group_id),
        cipher_suite: u64::try_from(row.cipher_suite).unwrap_or_default(),
        handshake_policy: "opaque".to_owned(),
        epoch: number(row.epoch),
        head: Head { term: number(row.term), seq: number(row.head_seq), hash: Bytes(row.head_hash) },
        role: Role::from_db(row.role, row.role_name.as_deref()).name().to_owned(),
        members,
        unread: number(row.unread),
        metadata: row.metadata.map(Bytes),
        settings: Settings { last_read_seq: number(row.last_read) },
        created_at: UnixMillis::from(row.created_at).to_rfc3339(),
    }
}
