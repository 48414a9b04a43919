//! The operator has what stopped start again.
//!
//! Invariant: it works beside a running server and from the database alone: the workers find the rows due.

use super::store;
use crate::storage::{Error, Storage};
use crate::types::{Did, StreamId, UnixMillis};

/// One stream of another home is followed anew. Answers its id, or nothing where it is not followed or is frozen.
pub async fn resume_stream(storage: &Storage, stream: &StreamId, now: UnixMillis) -> Result<Vec<String>, Error> {
    store::resume(storage.pool(), Some(stream.as_str()), None, now).await
}

/// Every stream of that home is followed anew, and what waits for that server is sent at once. Answers the streams.
pub async fn resume_peer(storage: &Storage, peer: &Did, now: UnixMillis) -> Result<Vec<String>, Error> {
    store::reached(storage.pool(), peer.as_str()).await?;
    store::resume_follower(storage.pool(), peer, now).await?;
    store::resume(storage.pool(), None, Some(peer), now).await
}
