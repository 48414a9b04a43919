//! `blue.catbird.event.streamEvents`: the same events as server-sent events, for whoever cannot open a WebSocket: a
//! browser's `EventSource`, or a client behind its PDS.

use super::feed::{Feed, filter};
use crate::lexicon::event::stream_events::{Error, Params};
use crate::xrpc::{DeviceOrTicket, Failure, Fault, Services};

pub async fn stream_events(cx: &Services, caller: DeviceOrTicket, params: Params) -> Result<Feed, Failure<Error>> {
    let device = caller.device();
    if params.device.is_some_and(|named| named != device.author.device.as_str()) {
        return Err(Fault::InvalidRequest("device: not the device that calls".to_owned()).into());
    }
    let filter = filter(params.streams, params.kinds);
    Feed::begin(cx, device, params.cursor.as_deref(), filter).await
}
