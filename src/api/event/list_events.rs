//! `blue.catbird.event.listEvents`: the events after a cursor.
//!
//! Invariant: the answered cursor is that of the last read entry, so that paging misses and repeats nothing under
//! concurrent writes; a page ends before 8 MiB and holds at least one event if there is one.

use crate::lexicon::event::list_events::{Error, ListEvents, Output};
use crate::log::{Event, Standing};
use crate::types::Cursor;
use crate::xrpc::{Call, Device, Failure, Services, parse};

pub async fn list_events(cx: &Services, caller: Device, call: Call<ListEvents>) -> Result<Output, Failure<Error>> {
    let after = match &call.params.cursor {
        Some(cursor) => parse(Cursor::parse, cursor)?,
        None => Cursor(0),
    };
    let outdated = (cx.log.judge(after).await? != Standing::Current).then_some(true);

    let limit = u32::try_from(call.params.limit).unwrap_or(u32::MAX);
    let page = cx.log.events(caller.author.account_id, after, None, limit).await?;

    let cursor = page.reached.map_or(after, |(cursor, _)| cursor);
    let events = page.events.into_iter().map(Event::into_event).collect();
    Ok(Output { events, cursor: cursor.to_string(), more: page.more, outdated })
}
