//! Resumes stopped streams and waiting deliveries for the operator.
//!
//! Invariant: resuming works beside a running server and through the database alone: the workers find the due rows.

use super::store;
use crate::storage::{Error, Storage};
use crate::types::{Did, StreamId, UnixMillis};

/// Makes one stream of another home due to be followed again. Answers its id, or nothing if the stream is not followed
/// or is frozen.
pub async fn resume_stream(storage: &Storage, stream: &StreamId, now: UnixMillis) -> Result<Vec<String>, Error> {
    store::resume(storage.pool(), Some(stream.as_str()), None, now).await
}

/// Makes every stream of that home due to be followed again, and all deliveries to that server due. Answers the
/// streams.
pub async fn resume_peer(storage: &Storage, peer: &Did, now: UnixMillis) -> Result<Vec<String>, Error> {
    store::reached(storage.pool(), peer.as_str()).await?;
    store::resume_follower(storage.pool(), peer, now).await?;
    store::resume(storage.pool(), None, Some(peer), now).await
}
