//! SQL on single entries, and on the answers to their senders.

use uuid::Uuid;

use super::hash;
use crate::log::chain::{Header, Sealed};
use crate::log::{Author, CallIdentity, EntryKind, Error};
use crate::storage::PgConnection;
use crate::types::{Epoch, Hash, Refusal, Seq, Term, UnixMillis};

/// An entry, as the answer to its sender names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub term: Term,
    pub seq: Seq,
    pub hash: Hash,
    pub time: UnixMillis,
    pub epoch: Option<Epoch>,
    request_hash: Option<Hash>,
}

impl Accepted {
    /// The answer to a call that just appended `sealed`.
    pub fn of(sealed: &Sealed, epoch: Option<Epoch>, identity: Option<CallIdentity>) -> Self {
        let request_hash = identity.map(|identity| identity.request_hash);
        Self { term: sealed.term, seq: sealed.seq, hash: sealed.hash, time: sealed.time, epoch, request_hash }
    }

    /// The first answer again, if the same was asked.
    pub(in crate::log) fn answer_to(self, identity: &CallIdentity) -> Result<Self, Refusal> {
        if self.request_hash == Some(identity.request_hash) {
            Ok(self)
        } else {
            Err(Refusal::new("IdempotencyConflict", "this idem was used before, with another request"))
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one parameter a column: a struct would be built for this call alone")]
pub(in crate::log) async fn insert_entry(
    conn: &mut PgConnection,
    stream_id: i64,
    pos: i64,
    kind: EntryKind,
    epoch: Option<Epoch>,
    sealed: &Sealed,
    author: Option<&Author>,
    identity: Option<CallIdentity>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into entry (seq, pos, epoch, created_at, stream_id, author, device, idem, request_hash, kind,
                            header, content, hash, kind_name)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        sealed.seq.to_db(),
        pos,
        epoch.map(Epoch::to_db),
        sealed.time.to_datetime(),
        stream_id,
        author.map(|author| author.account_id),
        author.map(|author| author.device_row),
        identity.map(|identity| identity.idem),
        identity.map(|identity| identity.request_hash.to_vec()),
        kind.to_db(),
        sealed.header,
        sealed.content,
        sealed.hash.as_slice(),
        kind.is_later().then(|| kind.name())
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The entry that a call with this identity made.
pub(in crate::log) async fn find_accepted(
    conn: &mut PgConnection,
    stream_id: i64,
    idem: Uuid,
) -> Result<Option<Accepted>, Error> {
    let row = sqlx::query!(
        "select header, hash, epoch, request_hash from entry where stream_id = $1 and idem = $2",
        stream_id,
        idem
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let header = Header::decode(&row.header)?;
    Ok(Some(Accepted {
        term: header.term,
        seq: header.seq,
        hash: hash(&row.hash)?,
        time: header.time,
        epoch: row.epoch.map(Epoch::from_db),
        request_hash: row.request_hash.as_deref().map(hash).transpose()?,
    }))
}

/// Header and hash of one entry.
pub(in crate::log) async fn find_head(
    pool: &crate::storage::PgPool,
    stream_id: i64,
    seq: Seq,
) -> Result<Option<(Header, Hash)>, Error> {
    let row = sqlx::query!("select header, hash from entry where stream_id = $1 and seq = $2", stream_id, seq.to_db())
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((Header::decode(&row.header)?, hash(&row.hash)?)))
}

/// Erases the contents of these messages. Contents from which seats, roles or devices follow always stay.
pub(in crate::log) async fn erase(conn: &mut PgConnection, stream_id: i64, seqs: &[Seq]) -> Result<(), Error> {
    if seqs.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = seqs.iter().map(|seq| seq.to_db()).collect();
    sqlx::query!(
        "update entry set content = null where stream_id = $1 and seq = any($2) and kind = $3",
        stream_id,
        &seqs,
        EntryKind::Message.to_db()
    )
    .execute(conn)
    .await?;
    Ok(())
}
