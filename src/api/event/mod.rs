//! One stream of events for each account, for all products: pulled, or pushed over a WebSocket.
//!
//! Invariant: an account sees what its seats cover, in cursor order, each entry once, by whichever way it asks.

mod list_events;
mod subscribe;

use crate::lexicon::event::{list_events::ListEvents, subscribe::Subscribe};
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new()
        .method::<ListEvents, _, _>(list_events::list_events)
        .subscription::<Subscribe, _, _>(subscribe::subscribe)
}
