//! `blue.catbird.peer.getEntries`: entries of a stream as made.
//!
//! Invariant: contents go to the stream's home, which made them, and to servers whose seats cover them; headers to
//! servers with a seat; nothing to anybody else.

use crate::lexicon::peer::defs::Entry;
use crate::lexicon::peer::get_entries::{Error, GetEntries, Output};
use crate::types::{Bytes, Seq};
use crate::xrpc::{Call, Failure, Peer, Services};

use super::wire;

pub async fn get_entries(cx: &Services, caller: Peer, call: Call<GetEntries>) -> Result<Output, Failure<Error>> {
    let params = call.params;
    let limit = u32::try_from(params.limit).unwrap_or(u32::MAX);
    let max_bytes = usize::try_from(params.max_bytes).unwrap_or(usize::MAX);
    let found = cx.replicas.entries(&caller.server, &params.stream, Seq(params.from), limit, max_bytes).await?;
    let entry = |entry: crate::log::RawEntry| Entry {
        header: Bytes(entry.held.header),
        content: entry.held.content.map(Bytes),
    };
    Ok(Output {
        stream: params.stream,
        term: found.term.0,
        from: found.from.0,
        prev: Bytes(found.prev.to_vec()),
        entries: found.entries.into_iter().map(entry).collect(),
        checkpoint: found.checkpoint.map(wire),
        more: found.more,
    })
}
