//! `blue.catbird.admin.listPeers`: other servers, in the order in which they were first seen.

use super::peers::shown;
use crate::federation::roster;
use crate::lexicon::admin::list_peers::{Error, ListPeers, Output};
use crate::types::Cursor;
use crate::xrpc::{Call, Failure, Operator, Services, parse};

pub async fn list_peers(cx: &Services, _: Operator, call: Call<ListPeers>) -> Result<Output, Failure<Error>> {
    let after = match &call.params.cursor {
        Some(cursor) => parse(Cursor::parse, cursor)?.to_db(),
        None => 0,
    };
    let limit = i64::try_from(call.params.limit).unwrap_or(i64::MAX);

    let page = roster::list(&cx.storage, after, limit).await?;

    let peers = page.peers.into_iter().map(shown).collect();
    Ok(Output { peers, cursor: page.cursor.map(|cursor| cursor.to_string()) })
}
