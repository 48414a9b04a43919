//! One stream of events for each account, for all products: pulled, or pushed over a WebSocket or as server-sent events.
//!
//! Invariant: an account sees what its seats cover, in cursor order, each entry once, by whichever way it asks.

mod feed;
mod get_ticket;
mod list_events;
mod stream_events;
mod subscribe;

use crate::lexicon::event::get_ticket::GetTicket;
use crate::lexicon::event::list_events::ListEvents;
use crate::lexicon::event::stream_events::StreamEvents;
use crate::lexicon::event::subscribe::Subscribe;
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new()
        .method::<GetTicket, _, _>(get_ticket::get_ticket)
        .method::<ListEvents, _, _>(list_events::list_events)
        .server_sent::<StreamEvents, _, _>(stream_events::stream_events)
        .subscription::<Subscribe, _, _>(subscribe::subscribe)
}
