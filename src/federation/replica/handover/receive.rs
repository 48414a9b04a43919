//! The next home's side.

use super::ACCEPTED;
use super::snapshot::Snapshot;
use super::wire::Transfer;
use crate::federation::replica::Replicas;
use crate::federation::replica::store::{self, handover as rows, snapshot as snapshots};
use crate::federation::replica::stream_not_found;
use crate::identity::Signed;
use crate::log::acceptance::{ACCEPTANCE_LABEL, Acceptance};
use crate::log::lineage;
use crate::log::{Error, Replayed, StreamKind, StreamRow, StreamState, StreamTx};
use crate::storage;
use crate::types::{Did, Refusal, Seq, UnixMillis};

/// The verified data with which a stream moves here.
pub(in crate::federation::replica) struct Arrival {
    replayed: Option<Replayed>,
    snapshot: Option<Snapshot>,
}

impl Replicas {
    /// Answers the home's offer of a stream with our signed acceptance, which changes nothing yet.
    pub async fn accept(&self, peer: &Did, transfer: &Transfer) -> Result<Signed, Error> {
        let pool = self.storage().pool();
        let info = self.log().find_stream(transfer.stream.as_str()).await?.ok_or_else(stream_not_found)?;
        let row = self.log().row(info.id).await?;
        if row.home != peer.as_str() {
            return Err(Refusal::new("NotHome", "your server is not the home of this stream").into());
        }
        if row.state.refuses().is_some() {
            return Err(Error::Halted(row.state));
        }
        store::find_replica(pool, row.id).await?.ok_or_else(stream_not_found)?;
        self.would_order(&row).await?;
        let snapshot = Snapshot::decode(transfer.snapshot.as_slice())?;
        self.holds_all(&row, transfer).await?;
        let genesis = store::genesis(pool, row.id).await?;
        let lineage = lineage::trace(&row.public_id, &genesis, &snapshot.lineage)
            .map_err(|why| Refusal::new("Malformed", why.to_string()))?;
        if lineage.present.home != peer.as_str() || lineage.present.term != row.term {
            return Err(Refusal::new("Malformed", "the lineage leads to another reign").into());
        }
        self.hear(&lineage.words).await?;

        let not_after = UnixMillis(self.clock().now().0 + i64::try_from(ACCEPTED.as_millis()).unwrap_or(0));
        let us = self.log().home();
        let acceptance = Acceptance::new(peer, us, &row.head(), transfer.snapshot_hash(), not_after);
        rows::put_takeover(pool, row.id, peer, transfer, self.clock().now()).await?;
        Ok(self.federation().sign_statement(ACCEPTANCE_LABEL, acceptance.statement()?))
    }

    /// Refuses a stream that is no conversation of this server's members, or whose group this server orders otherwise.
    async fn would_order(&self, row: &StreamRow) -> Result<(), Error> {
        let pool = self.storage().pool();
        let mut connection = pool.acquire().await.map_err(storage::Error::from)?;
        let refused = |why: &'static str| Err(Refusal::new("TransferRefused", why).into());
        if row.kind != StreamKind::Convo {
            return refused("only conversations move");
        }
        if store::local_members(&mut connection, row.id).await?.is_empty() {
            return refused("no account of this server has a seat in it");
        }
        if rows::group_is_taken(&mut connection, row.id).await? {
            return refused("this server orders another conversation of that group id");
        }
        Ok(())
    }

    /// Whether our copy ends where the home's does, and lacks nothing that the home has.
    async fn holds_all(&self, row: &StreamRow, transfer: &Transfer) -> Result<(), Error> {
        let behind = |why: &'static str| Err(Refusal::new("ReplicaBehind", why).into());
        if !transfer.stands_at(&row.head()) {
            return behind("the copy here does not end there yet");
        }
        let pool = self.storage().pool();
        if !rows::is_whole(pool, row.id).await? {
            rows::want_backfill(pool, row.id, self.clock().now()).await?;
            self.inner.watch.notify_one();
            return behind("what lies before the first entry here is being fetched");
        }
        let replayed = self.log().replayed(row.id).await?;
        match replayed {
            Some(replayed) if replayed.roster == self.log().roster(row.id).await? => Ok(()),
            _ => {
                rows::forget_backfill(pool, row.id).await?;
                behind("the entries here do not tell who is in it: they are fetched anew")
            }
        }
    }

    /// After entries came: a stream that came to us is opened, one that went elsewhere is followed there.
    pub(in crate::federation::replica) async fn after_move(&self, before: &StreamRow) -> Result<(), Error> {
        let row = self.log().row(before.id).await?;
        if row.home == before.home {
            return Ok(());
        }
        self.inner.watch.notify_one();
        if !self.is_ours(&row.home) {
            return Ok(());
        }
        if row.state == StreamState::Recovering {
            return store::put_recovery(self.storage().pool(), row.id, self.clock().now()).await.map_err(Error::from);
        }
        self.open(row.id).await
    }

    /// Streams that moved here and were not opened, because the process that was to open them died.
    pub(in crate::federation::replica) async fn open_due(&self) -> Result<(), Error> {
        for stream_id in rows::unopened(self.storage().pool(), self.log().home()).await? {
            self.open(stream_id).await?;
        }
        Ok(())
    }

    async fn open(&self, stream_id: i64) -> Result<(), Error> {
        let collided = |error: &Error| error.is_collision();
        match storage::retrying(collided, || self.open_once(stream_id)).await {
            // Another replica of this server was quicker.
            Err(Error::Halted(StreamState::Active)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Reads the verified data before the transaction in which a stream moves here.
    pub(in crate::federation::replica) async fn arrival(&self, stream_id: i64) -> Result<Arrival, Error> {
        let whole = rows::first_held(self.storage().pool(), stream_id).await? == Some(Seq(1));
        let replayed = if whole { self.log().replayed(stream_id).await? } else { None };
        let snapshot = rows::find_snapshot(self.storage().pool(), stream_id).await?;
        let snapshot = snapshot.map(|bytes| Snapshot::decode(&bytes)).transpose()?;
        Ok(Arrival { replayed, snapshot })
    }

    /// A replica becomes a stream of ours.
    pub(in crate::federation::replica) async fn settle(
        &self,
        tx: &mut StreamTx,
        arrival: &Arrival,
    ) -> Result<(), Error> {
        let stream_id = tx.row().id;
        match &arrival.replayed {
            Some(replayed) => tx.reseat(replayed).await?,
            None => tracing::error!("a stream came here that is not held whole: who was in it once is not known"),
        }
        match &arrival.snapshot {
            Some(snapshot) => {
                let period = self.log().identity_period();
                snapshots::take_snapshot(tx.conn(), stream_id, snapshot, period).await?;
            }
            None => tracing::error!("a stream came here without what goes with it: repeated calls are new ones"),
        }
        Ok(rows::arrived(tx.conn(), stream_id).await?)
    }

    async fn open_once(&self, stream_id: i64) -> Result<(), Error> {
        let arrival = self.arrival(stream_id).await?;
        let mut tx = self.log().open_reign(stream_id).await?;
        self.settle(&mut tx, &arrival).await?;
        let (row, head) = (tx.row().clone(), tx.head().clone());
        tx.commit().await?;
        tracing::warn!(stream.id = %row.public_id, seq = head.seq.0, term = head.term.0, "a stream came here: it is ordered here now");
        self.inner.wake.notify_one();
        Ok(())
    }
}
