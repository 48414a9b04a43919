//! `blue.catbird.mls.getMessages`: pages through one conversation, either way.
//!
//! Invariant: the page has only entries that the account's seats cover, also for an account that left; it ends before 8
//! MiB and holds at least one entry if there is one.

use crate::api::mls::access;
use crate::lexicon::event::defs;
use crate::lexicon::mls::get_messages::{Error, GetMessages, Output};
use crate::log::{Direction, EntryPage, Event, NamedKind};
use crate::types::{Bytes, Seq};
use crate::xrpc::{Call, Device, Failure, Fault, Services};

pub async fn get_messages(cx: &Services, caller: Device, call: Call<GetMessages>) -> Result<Output, Failure<Error>> {
    let params = call.params;
    let direction = match (params.after_seq, params.before_seq) {
        (after, None) => Direction::After(Seq(after.unwrap_or(0))),
        (None, Some(before)) => Direction::Before(Seq(before)),
        (Some(_), Some(_)) => {
            return Err(Fault::InvalidRequest("params: give afterSeq or beforeSeq, not both".to_owned()).into());
        }
    };
    // An unknown kind matches no entry, and is no error.
    let asked = params.kinds.unwrap_or_default();
    let kinds: Vec<NamedKind> = asked.iter().filter_map(|name| NamedKind::from_name(name)).collect();
    let readable = access::readable(cx, &caller.author, &params.stream).await?;

    let page = if kinds.is_empty() && !asked.is_empty() {
        EntryPage::EMPTY
    } else {
        let limit = u32::try_from(params.limit).unwrap_or(u32::MAX);
        cx.log.entries(readable.stream.id, caller.author.account_id, direction, &kinds, limit).await?
    };

    let head =
        defs::Head { term: readable.head.term.0, seq: readable.head.seq.0, hash: Bytes(readable.head.hash.to_vec()) };
    Ok(Output { entries: page.events.into_iter().map(Event::into_entry).collect(), head, more: page.more })
}
