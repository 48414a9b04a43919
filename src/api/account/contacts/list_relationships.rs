//! `blue.catbird.account.listRelationships`: contacts, open requests, and the invitation policy.

use super::model::{certified, page};
use crate::federation::joining::consent;
use crate::federation::joining::relationship::{self, Listed, State};
use crate::lexicon::account::list_relationships::{Error, ListRelationships, Output, Relationship};
use crate::types::{Bytes, UnixMillis};
use crate::xrpc::{Call, Failure, Fault, ProvenDevice, Services};

pub async fn list_relationships(
    cx: &Services,
    ProvenDevice(caller): ProvenDevice,
    call: Call<ListRelationships>,
) -> Result<Output, Failure<Error>> {
    certified(&caller)?;
    let params = call.params;
    let unsaid = cx.config.identity.invitations;
    let only = match params.state.as_deref() {
        Some(name) => Some(State::from_name(name).ok_or_else(|| {
            Fault::InvalidRequest("params/state: expected accepted, incoming or outgoing".to_owned())
        })?),
        None => None,
    };
    let account_id = caller.author.account_id;
    let mut connection = cx.storage.pool().acquire().await?;
    let policy = consent::policy(&mut connection, unsaid, account_id).await?;
    drop(connection);

    let (after, more) = (params.cursor.as_deref().unwrap_or_default(), params.limit.saturating_add(1));
    let limit = i64::try_from(more).unwrap_or(i64::MAX);
    let now = cx.clock.now().to_datetime();
    let found = relationship::list(cx.storage.pool(), account_id, only, after, limit, now).await?;
    let (found, cursor) = page(found, params.limit, |listed| &listed.other);

    let relationships = found.into_iter().map(shown).collect();
    Ok(Output { relationships, invitations: consent::name(policy).to_owned(), cursor })
}

fn shown(listed: Listed) -> Relationship {
    Relationship {
        account: listed.other,
        state: listed.state.name().to_owned(),
        note: listed.note.map(Bytes),
        updated_at: UnixMillis::from(listed.updated_at).to_rfc3339(),
        expires_at: listed.expires_at.map(|at| UnixMillis::from(at).to_rfc3339()),
    }
}
