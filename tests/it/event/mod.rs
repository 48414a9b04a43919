//! `blue.catbird.event.*`.

mod get_ticket;
mod list_events;
mod stream_events;
mod subscribe;
