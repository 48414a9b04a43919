//! Look-up of a conversation for a caller.
//!
//! Invariant: for an account that never had a seat there, a conversation does not exist.

use std::sync::Arc;

use crate::log::{Author, Head, StreamInfo, StreamKind, Window, stream_not_found};
use crate::storage::Error;
use crate::types::{Named, Refusal};
use crate::xrpc::{Failure, Fault, Group, Services};

/// A conversation that exists. What the caller may do there is for the log to say.
pub(super) async fn find<E: Named>(cx: &Services, stream: &str) -> Result<Arc<StreamInfo>, Failure<E>> {
    let found = cx.log.find_stream(stream).await?;
    let convo = found.filter(|info| info.kind == StreamKind::Convo);
    Ok(convo.ok_or_else(stream_not_found)?)
}

/// Group id, suite and policy of a conversation.
pub(super) async fn group<E: Named>(cx: &Services, stream: &StreamInfo) -> Result<Arc<Group>, Failure<E>> {
    if let Some(group) = cx.groups.get(&stream.id) {
        return Ok(group);
    }
    let row = super::conversations::store::group(cx.storage.pool(), stream.id).await?;
    let group = Arc::new(row.ok_or_else(|| Fault::from(Error::Corrupt("convo without its row")))?);
    cx.groups.insert(stream.id, Arc::clone(&group));
    Ok(group)
}

/// A conversation of which the caller may read some span.
pub(super) struct Readable {
    pub stream: Arc<StreamInfo>,
    pub windows: Vec<Window>,
    /// The head, as far as the caller may see.
    pub head: Head,
}

impl Readable {
    /// Whether the caller's seat is open now.
    pub fn is_seated(&self) -> bool {
        self.windows.last().is_some_and(|window| window.until.is_none())
    }
}

pub(super) async fn readable<E: Named>(cx: &Services, author: &Author, stream: &str) -> Result<Readable, Failure<E>> {
    let stream = find(cx, stream).await?;
    let windows = cx.log.windows(stream.id, author.account_id).await?;
    let head = cx.log.visible_head(stream.id, &windows).await?;
    Ok(Readable { stream, windows, head })
}

/// Finds a conversation in which the caller has an open seat.
pub(super) async fn seated<E: Named>(cx: &Services, author: &Author, stream: &str) -> Result<Readable, Failure<E>> {
    let readable = readable(cx, author, stream).await?;
    if readable.is_seated() {
        Ok(readable)
    } else {
        Err(Refusal::new("NotMember", "the account's seat in this stream has ended").into())
    }
}

/// Only a device that the account itself vouches for may begin things.
pub(super) fn certified<E: Named>(caller: &crate::xrpc::Device) -> Result<(), Failure<E>> {
    if caller.certified {
        Ok(())
    } else {
        Err(Refusal::new("DeviceUncertified", "a certified device of the account must approve this device first")
            .into())
    }
}
