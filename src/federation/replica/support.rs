//! Exchange of versions with other servers, in `peer.follow`.
//!
//! Invariant: a peer's latest `support` counts; a peer that sent none knows the kinds that every server knows.

use super::{Replicas, store};
use crate::federation::{own_support, support_digest};
use crate::lexicon::peer::defs::Support;
use crate::log::Error;
use crate::storage::PgConnection;
use crate::types::Did;

/// The most homes that one pass tells of this version.
const HOMES: i64 = 256;

impl Replicas {
    /// Stores the `support` of a peer, and sends waiting deliveries at once to a peer that was upgraded.
    pub(super) async fn heard_support(
        &self,
        conn: &mut PgConnection,
        peer: &Did,
        said: Option<&Support>,
    ) -> Result<(), Error> {
        let now = self.clock().now();
        if store::put_support(conn, peer, said, now).await? {
            tracing::info!(
                peer = peer.as_str(),
                version = said.map_or("unknown", |said| said.version.as_str()),
                "version of peer noted"
            );
            store::hasten_deliveries(conn, peer, now).await?;
        }
        Ok(())
    }

    /// Stores a home's answer to this server's `support`.
    pub(super) async fn told_support(&self, home: &Did, answered: Option<&Support>) -> Result<(), Error> {
        let mut tx = self.storage().begin().await?;
        self.heard_support(tx.conn(), home, answered).await?;
        store::put_told(tx.conn(), home, &support_digest(&own_support())).await?;
        Ok(tx.commit().await?)
    }

    /// Sends this version's `support` to homes that have another one, by following one of their streams again.
    pub(super) async fn tell_homes(&self) -> Result<(), Error> {
        let digest = support_digest(&own_support());
        let homes = store::tell_homes(self.storage().pool(), &digest, self.clock().now(), HOMES).await?;
        if homes > 0 {
            tracing::info!(homes, "telling homes of this version");
        }
        Ok(())
    }
}
