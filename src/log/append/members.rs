//! Who can act in a stream that is locked.

use super::StreamTx;
use crate::log::{ActingMember, Error, store};

impl StreamTx {
    /// Members whose seats are shown to them and that have a leaf, those that came first before others.
    pub async fn acting_members(&mut self) -> Result<Vec<ActingMember>, Error> {
        store::acting_members(self.tx.conn(), self.row.id).await
    }
}
