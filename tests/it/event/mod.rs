//! `blue.catbird.event.*`.

mod list_events;
mod subscribe;
