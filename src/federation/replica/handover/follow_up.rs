//! A call met a server that is not the home any more.
//!
//! Invariant: this server follows a named home only if the stream's lineage leads there.

use crate::federation::replica::{FollowError, Replicas, store};
use crate::log::Error;
use crate::types::{Did, Seq};

/// The next target of a call after a server named another home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The stream moved here meanwhile.
    Here,
    /// The named home.
    At,
    /// None: the lineage does not lead to the named server.
    Unknown,
}

impl Replicas {
    /// Whether the stream went to another home from here.
    pub async fn went_elsewhere(&self, stream_id: i64) -> Result<bool, Error> {
        Ok(store::handed_at(self.storage().pool(), stream_id).await?.is_some())
    }

    /// Whether `named` is the home, after `asked` answered that it is not.
    pub async fn next_home(&self, stream: &str, asked: &Did, named: &Did) -> Result<Next, Error> {
        self.log().forget_stream(stream);
        let Some(info) = self.log().find_stream(stream).await? else { return Ok(Next::Unknown) };
        if self.is_ours(&info.home) {
            return Ok(Next::Here);
        }
        if named == asked || self.is_ours(named.as_str()) {
            return Ok(Next::Unknown);
        }
        let row = self.log().row(info.id).await?;
        let replica = store::find_replica(self.storage().pool(), info.id).await?;
        if row.home == named.as_str() || replica.is_some_and(|replica| replica.foretells(named, row.term)) {
            return Ok(Next::At);
        }
        match self.follow(&row.public_id, named, Seq(row.head_seq.0 + 1), None).await {
            Ok(_) => Ok(Next::At),
            Err(FollowError::Log(error)) => Err(error),
            Err(error) => {
                tracing::info!(
                    peer = named.as_str(),
                    error = &error as &dyn std::error::Error,
                    "a named home is not the home"
                );
                Ok(Next::Unknown)
            }
        }
    }
}
