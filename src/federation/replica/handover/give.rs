//! The old home's side.

use std::time::Duration;

use bytes::Bytes as Body;

use super::HANDING;
use super::snapshot::{CallOf, Caller, Snapshot};
use super::wire::Transfer;
use crate::federation::replica::Replicas;
use crate::federation::replica::store::{self, handover as rows, snapshot as snapshots};
use crate::federation::{CallError, PeerRequest};
use crate::identity::Signed;
use crate::lexicon::peer::defs;
use crate::lexicon::peer::transfer_home::{Output, TransferHome};
use crate::lexicon::{Kind, Method};
use crate::log::acceptance::{ACCEPTANCE_LABEL, Acceptance};
use crate::log::{Accepted, Author, CallIdentity, Error, Handover, Head};
use crate::storage;
use crate::types::{Bytes, Did, Refusal, Seq};

/// Pause between two offers while entries in flight to the next home have not arrived.
const BEHIND_PAUSE: Duration = Duration::from_millis(250);
const BEHIND_ATTEMPTS: u32 = 12;

/// A member asks that the stream go to another server.
#[derive(Clone, Debug)]
pub struct Order {
    pub stream_id: i64,
    pub to: Did,
    pub author: Author,
    pub identity: CallIdentity,
}

/// Why the stream stays.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// The next home refused, or its acceptance fails verification.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The next home's decision is unknown now.
    #[error("the next home did not answer")]
    Unreached,
    #[error(transparent)]
    Log(Error),
}

impl From<Error> for HandError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => Self::Refused(refusal),
            error => Self::Log(error),
        }
    }
}

impl From<storage::Error> for HandError {
    fn from(error: storage::Error) -> Self {
        Self::Log(error.into())
    }
}

impl Replicas {
    /// Hands the stream over, or leaves everything as it was. It goes on when the caller goes away.
    pub async fn hand_over(&self, order: Order) -> Result<Accepted, HandError> {
        let replicas = self.clone();
        let handing = tokio::spawn(async move { replicas.hand_over_now(order).await });
        handing.await.unwrap_or(Err(HandError::Log(Error::Busy)))
    }

    async fn hand_over_now(&self, order: Order) -> Result<Accepted, HandError> {
        let (pool, now) = (self.storage().pool(), self.clock().now());
        let seated = store::seated(pool, order.stream_id, &order.to).await?;
        if self.is_ours(order.to.as_str()) || seated.is_none_or(|seated| seated.until.is_some()) {
            let why = "the next home is another server, of which an account has a seat here";
            return Err(Refusal::new("TransferRefused", why).into());
        }
        rows::ask(pool, order.stream_id, &order.to, now).await?;
        let collided = |error: &Error| error.is_collision();
        let head = storage::retrying(collided, || self.stop(&order)).await?;
        let outcome = self.offer_and_move(&order, &head).await;
        if let Err(error) = &outcome {
            tracing::info!(peer = order.to.as_str(), %error, "a stream was not handed over");
            storage::retrying(collided, || self.keep(order.stream_id)).await?;
        }
        outcome
    }

    async fn stop(&self, order: &Order) -> Result<Head, Error> {
        let mut tx = self.log().handing(order.stream_id).await?;
        let until = self.clock().now().to_datetime() + HANDING;
        rows::begin_handing(tx.conn(), order.stream_id, until).await?;
        let head = tx.row().head();
        tx.commit().await?;
        Ok(head)
    }

    async fn offer_and_move(&self, order: &Order, head: &Head) -> Result<Accepted, HandError> {
        // The wait for the next home ends with the time that the stream may stand still.
        let offered = tokio::time::timeout(HANDING, self.offer(order, head)).await;
        let (acceptance, signed) = offered.unwrap_or(Err(HandError::Unreached))?;
        let collided = |error: &HandError| matches!(error, HandError::Log(error) if error.is_collision());
        storage::retrying(collided, || self.move_away(order, head, &acceptance, &signed)).await
    }

    /// The next home's signed acceptance of the stream.
    async fn offer(&self, order: &Order, head: &Head) -> Result<(Acceptance, Signed), HandError> {
        let transfer = Transfer::of(head, self.snapshot(order, head).await?.encode()?);
        let body = Body::from(transfer.encode().map_err(Error::from)?);
        let mut attempts = 0;
        let answer = loop {
            attempts += 1;
            let request = PeerRequest {
                nsid: TransferHome::NSID,
                kind: Kind::Procedure,
                query: "",
                body: body.clone(),
                content_type: Some("application/vnd.ipld.dag-cbor"),
                actor: None,
            };
            match self.federation().call(&order.to, request).await {
                Err(error) if error.is("ReplicaBehind") && attempts < BEHIND_ATTEMPTS => {
                    tokio::time::sleep(BEHIND_PAUSE).await;
                }
                Err(error) => return Err(refused(error)),
                Ok(answer) => break answer,
            }
        };
        let answer: Output = serde_json::from_slice(answer.body()).map_err(|_| HandError::Unreached)?;
        let defs::Signed { statement, key, sig } = answer.acceptance;
        let signed = Signed { statement, key, sig };
        self.word_of(&order.to, ACCEPTANCE_LABEL, &signed).await?;
        let meant = |acceptance: &Acceptance| {
            let head = (acceptance.term, acceptance.seq) == (head.term, head.seq) && acceptance.stream == head.stream;
            let parties = (acceptance.from.as_str(), &acceptance.to) == (self.log().home().as_str(), &order.to);
            head && parties && acceptance.snapshot.as_slice() == transfer.snapshot_hash().as_slice()
        };
        let acceptance = Acceptance::of(&signed).ok().filter(meant);
        let why = "what the next home accepted is not what it was offered";
        Ok((acceptance.ok_or_else(|| Refusal::new("TransferRefused", why))?, signed))
    }

    /// The snapshot that goes with the stream's entries.
    async fn snapshot(&self, order: &Order, head: &Head) -> Result<Snapshot, Error> {
        let (pool, stream_id) = (self.storage().pool(), order.stream_id);
        let (_, changes) = self.log().lineage(stream_id).await?;
        let lineage = self.links(stream_id, changes).await?;
        let (group_infos, keys) =
            (snapshots::group_infos(pool, stream_id).await?, snapshots::leaf_keys(pool, stream_id).await?);
        let mut snapshot = Snapshot::new(group_infos, keys, lineage);
        snapshots::calls(pool, stream_id, &mut snapshot).await?;
        // The call that moves it is repeated at the new home, if its answer is lost.
        let Author { did, device, .. } = &order.author;
        snapshot.callers.push(Caller { account: did.clone(), device: device.clone() });
        let (place, identity) = (snapshot.callers.len() as u64 - 1, &order.identity);
        let (idem, hash) = (Bytes(identity.idem.as_bytes().to_vec()), Bytes(identity.request_hash.to_vec()));
        snapshot.calls.push(CallOf(head.seq.next(), place, idem, hash));
        Ok(snapshot)
    }

    /// The move.
    async fn move_away(
        &self,
        order: &Order,
        head: &Head,
        acceptance: &Acceptance,
        signed: &Signed,
    ) -> Result<Accepted, HandError> {
        let Order { stream_id, author, identity, .. } = order;
        let (identity, signed) = (*identity, signed.clone());
        let handover = Handover { head, acceptance, signed, author, identity };
        let (mut tx, entry) = self.log().change_home(*stream_id, handover).await?;
        self.gone(tx.conn(), *stream_id, entry.seq, &order.to).await?;
        tx.commit().await?;
        let (peer, seq) = (order.to.as_str(), entry.seq.0);
        tracing::warn!(peer, stream.id = %head.stream, seq, "a stream went to another home");
        self.inner.wake.notify_one();
        self.inner.watch.notify_one();
        Ok(Accepted::of(&entry, None, Some(identity)))
    }

    /// The rows of a stream that is not ours any more: what we owe others, and what we follow for our own members.
    async fn gone(
        &self,
        conn: &mut crate::storage::PgConnection,
        stream_id: i64,
        seq: Seq,
        to: &Did,
    ) -> Result<(), Error> {
        let now = self.clock().now();
        rows::moved(conn, stream_id, to, seq, now).await?;
        if !store::local_members(conn, stream_id).await?.is_empty() {
            rows::follow_next(conn, stream_id, now).await?;
        }
        Ok(())
    }

    /// After a restore: the move was found among what others hold of ours.
    pub(in crate::federation::replica) async fn remember_move(&self, stream_id: i64) -> Result<(), Error> {
        let (_, changes) = self.log().lineage(stream_id).await?;
        let row = self.log().row(stream_id).await?;
        let Some(last) = changes.last() else { return Ok(()) };
        let Ok(to) = Did::parse(&row.home) else { return Ok(()) };
        let mut tx = self.storage().begin().await?;
        self.gone(tx.conn(), stream_id, last.seq, &to).await?;
        Ok(tx.commit().await?)
    }

    /// The stream goes on here, if it still waits.
    async fn keep(&self, stream_id: i64) -> Result<(), Error> {
        if let Some(mut tx) = self.log().keeping(stream_id).await? {
            rows::end_handing(tx.conn(), stream_id).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Streams whose next home never answered go on here.
    pub(in crate::federation::replica) async fn keep_due(&self) -> Result<(), Error> {
        let pool = self.storage().pool();
        for stream_id in rows::overdue(pool, self.clock().now()).await? {
            self.keep(stream_id).await?;
            rows::end_handing(&mut pool.acquire().await.map_err(storage::Error::from)?, stream_id).await?;
        }
        Ok(())
    }
}

fn refused(error: CallError) -> HandError {
    let named = |name: &'static str, why: String| HandError::Refused(Refusal::new(name, why));
    match error {
        CallError::Refused { error, message, .. } if error == "ReplicaBehind" => named("ReplicaBehind", message),
        CallError::Refused { status: 400..=499, error, message, .. } if error != "RateLimitExceeded" => {
            named("TransferRefused", format!("{error}: {message}"))
        }
        _ => HandError::Unreached,
    }
}
