//! `blue.catbird.event.*`.

mod get_ticket;
mod list_events;
mod stalled_readers;
mod stream_events;
mod subscribe;
