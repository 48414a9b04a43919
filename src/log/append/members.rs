//! Members that can act in a locked stream.

use super::StreamTx;
use crate::log::{ActingMember, Error, store};

impl StreamTx {
    /// Members that see their seats and have a leaf, the earliest first.
    pub async fn acting_members(&mut self) -> Result<Vec<ActingMember>, Error> {
        store::acting_members(self.tx.conn(), self.row.id).await
    }
}
