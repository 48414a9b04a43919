//! `blue.catbird.event.subscribe`: events as they happen, over a WebSocket; with a cursor, first those that were missed.

use super::feed::{Feed, filter};
use crate::lexicon::event::subscribe::{Error, Params};
use crate::xrpc::{DeviceOrTicket, Failure, Services};

pub async fn subscribe(cx: &Services, caller: DeviceOrTicket, params: Params) -> Result<Feed, Failure<Error>> {
    let filter = filter(params.streams, params.kinds);
    Feed::begin(cx, caller.device(), params.cursor.as_deref(), filter).await
}
