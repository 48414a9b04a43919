//! Receipts that homes gave to accounts of this server.
//!
//! Invariant: a receipt is stored until its entry is held, with that hash at that seq. If the entry is still missing
//! when the home was reachable for ten minutes, the account that got the receipt is notified, once; a contradicted
//! receipt proves a fork.

use super::home::Witnessed;
use super::{Replicas, store};
use crate::identity::Signed;
use crate::log::body::{Body, ReceiptBrokenBody};
use crate::log::chain::Checkpoint;
use crate::log::{EntryKind, Error, Outgoing};
use crate::types::{Did, Seq};

/// Promises looked at in one pass.
const BATCH: i64 = 200;

impl Replicas {
    /// Remembers a receipt whose signature was verified.
    pub async fn remember_receipt(&self, account_id: i64, receipt: &Signed) -> Result<(), Error> {
        let checkpoint = Checkpoint::of(receipt)?;
        let Some(info) = self.log().find_stream(checkpoint.stream.as_str()).await? else { return Ok(()) };
        let row = self.log().row(info.id).await?;
        let pool = self.storage().pool();
        if let Ok(home) = Did::parse(&row.home) {
            store::heard(pool, &home, self.clock().now()).await?;
        }
        let held = self.log().head_at(row.id, checkpoint.seq).await?;
        if held.is_some_and(|held| held.hash == checkpoint.hash()) {
            return Ok(());
        }
        let at = (checkpoint.term, checkpoint.seq);
        store::insert_receipt(pool, row.id, account_id, at, receipt, self.clock().now()).await?;
        Ok(())
    }

    /// Looks at promises whose entry should be here by now.
    pub(super) async fn judge_receipts(&self) -> Result<(), Error> {
        let (pool, now) = (self.storage().pool(), self.clock().now());
        for receipt in store::ripe_receipts(pool, now, BATCH).await? {
            let row = self.log().row(receipt.stream_id).await?;
            let signed = receipt.signed();
            let held = self.log().head_at(row.id, Seq::from_db(receipt.seq)).await?;
            match held {
                Some(held) if held.hash == Checkpoint::of(&signed)?.hash() => {
                    store::delete_receipt(pool, &receipt).await?;
                    continue;
                }
                Some(_) => {
                    self.compare(&row, Witnessed { checkpoint: signed.clone(), headers: Vec::new() }).await?;
                }
                None if !receipt.is_due => continue,
                None => {}
            }
            let mut tx = self.storage().begin().await?;
            if store::break_receipt(tx.conn(), &receipt, now).await? {
                let body = ReceiptBrokenBody { stream: row.public_id.clone(), receipt: signed }.encode()?;
                let notice = Outgoing { account_id: receipt.account_id, kind: EntryKind::ReceiptBroken, body };
                crate::log::queue(tx.conn(), &[notice], now).await?;
                tracing::error!(
                    home = row.home,
                    stream.id = row.public_id.as_str(),
                    seq = receipt.seq,
                    "the home of a stream did not keep what it signed for"
                );
            }
            tx.commit().await?;
            self.log().wake_courier();
        }
        Ok(())
    }
}
