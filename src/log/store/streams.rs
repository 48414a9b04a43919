//! SQL on streams.

use chrono::{DateTime, Utc};

use super::hash;
use crate::limit::Weigh;
use crate::log::chain::Head;
use crate::log::{Error, StreamKind, StreamState, features};
use crate::storage::{self, PgConnection, PgPool};
use crate::types::{Epoch, Hash, Seq, StreamId, Term, UnixMillis};

/// The immutable facts of a stream, and its home, which seldom changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    pub id: i64,
    pub public_id: StreamId,
    pub kind: StreamKind,
    pub home: String,
}

impl Weigh for StreamInfo {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.public_id.as_str().len() + self.home.len()
    }
}

/// A stream's row.
#[derive(Clone, Debug)]
pub struct StreamRow {
    pub id: i64,
    pub public_id: StreamId,
    pub kind: StreamKind,
    /// did:web of the server that orders it.
    pub home: String,
    pub state: StreamState,
    pub term: Term,
    /// That of this server in which the term was opened, or went on.
    pub incarnation: i64,
    pub epoch: Epoch,
    pub epoch_floor: Epoch,
    pub head_seq: Seq,
    pub head_pos: i64,
    pub head_time: UnixMillis,
    pub head_hash: Hash,
    pub rules: i64,
    /// Features that the stream's entries require.
    pub requires: Vec<String>,
    /// The newest entry is not applied: it required a feature that the adopting version lacked.
    pub is_unapplied: bool,
    /// Of headers, and of contents that are not gone.
    pub held_bytes: i64,
}

impl StreamRow {
    pub fn head(&self) -> Head {
        Head {
            stream: self.public_id.clone(),
            term: self.term,
            seq: self.head_seq,
            hash: self.head_hash,
            time: self.head_time,
        }
    }
}

/// The columns as they come; `try_into` reads them once.
struct RawStream {
    id: i64,
    public_id: String,
    kind: i16,
    home: String,
    state: i16,
    term: i64,
    incarnation: i64,
    epoch: i64,
    epoch_floor: i64,
    head_seq: i64,
    head_pos: i64,
    head_time: DateTime<Utc>,
    head_hash: Vec<u8>,
    rules: i64,
    requires: Vec<String>,
    unapplied: bool,
    held_bytes: i64,
}

impl TryFrom<RawStream> for StreamRow {
    type Error = storage::Error;

    fn try_from(raw: RawStream) -> Result<Self, storage::Error> {
        let state = StreamState::from_db(raw.state).ok_or(storage::Error::Corrupt("stream.state"))?;
        let needs_newer = !state.is_over() && features::lacks(&raw.requires);
        Ok(Self {
            id: raw.id,
            public_id: StreamId::parse(&raw.public_id).map_err(|_| storage::Error::Corrupt("stream.public_id"))?,
            kind: StreamKind::from_db(raw.kind).ok_or(storage::Error::Corrupt("stream.kind"))?,
            home: raw.home,
            state: if needs_newer { StreamState::NeedsNewerVersion } else { state },
            term: Term::from_db(raw.term),
            incarnation: raw.incarnation,
            epoch: Epoch::from_db(raw.epoch),
            epoch_floor: Epoch::from_db(raw.epoch_floor),
            head_seq: Seq::from_db(raw.head_seq),
            head_pos: raw.head_pos,
            head_time: raw.head_time.into(),
            head_hash: hash(&raw.head_hash)?,
            rules: raw.rules,
            requires: raw.requires,
            is_unapplied: raw.unapplied,
            held_bytes: raw.held_bytes,
        })
    }
}

pub(in crate::log) async fn find_stream(pool: &PgPool, public_id: &str) -> Result<Option<StreamInfo>, Error> {
    let row = sqlx::query!("select id, public_id, kind, home from stream where public_id = $1", public_id)
        .fetch_optional(pool)
        .await?;
    row.map(|row| {
        Ok(StreamInfo {
            id: row.id,
            public_id: StreamId::parse(&row.public_id).map_err(|_| storage::Error::Corrupt("stream.public_id"))?,
            kind: StreamKind::from_db(row.kind).ok_or(storage::Error::Corrupt("stream.kind"))?,
            home: row.home,
        })
    })
    .transpose()
}

/// Waiters of this lock hold no transaction id, so they do not hold the readers' horizon back.
pub(in crate::log) async fn lock_stream_advisory(conn: &mut PgConnection, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock($1)", stream_id).execute(conn).await?;
    Ok(())
}

pub(in crate::log) async fn stream_for_update(conn: &mut PgConnection, stream_id: i64) -> Result<StreamRow, Error> {
    let raw = sqlx::query_as!(
        RawStream,
        r#"select id, public_id, kind, home, state, term, incarnation, epoch, epoch_floor, head_seq, head_pos, head_time,
                  head_hash, rules, requires, unapplied,
                  size_bytes - coalesce((select f.freed_bytes from stream_freed f where f.stream_id = stream.id), 0)
                      as "held_bytes!"
           from stream where id = $1 for no key update"#,
        stream_id
    )
    .fetch_one(conn)
    .await?;
    Ok(raw.try_into()?)
}

/// One stream's row, read by the holder of the stream's advisory lock: the quick path alone changes the row meanwhile,
/// and of the row only the head.
pub(in crate::log) async fn stream_of(conn: &mut PgConnection, stream_id: i64) -> Result<StreamRow, Error> {
    let raw = sqlx::query_as!(
        RawStream,
        r#"select id, public_id, kind, home, state, term, incarnation, epoch, epoch_floor, head_seq, head_pos, head_time,
                  head_hash, rules, requires, unapplied,
                  size_bytes - coalesce((select f.freed_bytes from stream_freed f where f.stream_id = stream.id), 0)
                      as "held_bytes!"
           from stream where id = $1"#,
        stream_id
    )
    .fetch_one(conn)
    .await?;
    Ok(raw.try_into()?)
}

/// Whether this transaction has written, or locked a row.
#[cfg(debug_assertions)]
pub(in crate::log) async fn has_transaction_id(conn: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(r#"select pg_current_xact_id_if_assigned() is not null as "has!""#).fetch_one(conn).await?)
}

/// Stream rows as they are now, without a lock.
pub(in crate::log) async fn streams(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<StreamRow>, Error> {
    let rows = sqlx::query_as!(
        RawStream,
        r#"select s.id as "id!", s.public_id as "public_id!", s.kind as "kind!", s.home as "home!", s.state as "state!",
                  s.term as "term!", s.incarnation as "incarnation!", s.epoch as "epoch!", s.epoch_floor as "epoch_floor!", s.head_seq as "head_seq!", s.head_pos as "head_pos!",
                  s.head_time as "head_time!", s.head_hash as "head_hash!", s.rules as "rules!",
                  s.requires as "requires!", s.unapplied as "unapplied!",
                  s.size_bytes - coalesce((select f.freed_bytes from stream_freed f where f.stream_id = s.id), 0)
                      as "held_bytes!"
           from unnest($1::bigint[]) wanted (id)
           cross join lateral (select * from stream where stream.id = wanted.id limit 1) s"#,
        ids
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|raw| Ok(raw.try_into()?)).collect()
}

/// One stream's row without a lock, on any connection of the pool.
pub(in crate::log) async fn stream_row(pool: &PgPool, stream_id: i64) -> Result<StreamRow, Error> {
    stream_of(&mut pool.acquire().await?, stream_id).await
}

/// `base + (xid << 10)` of this transaction; gives it an id if it has none. None if the log is of another incarnation.
pub(in crate::log) async fn first_position(conn: &mut PgConnection, incarnation: i64) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar!(
        r#"select base + (pg_current_xact_id()::text::bigint << 10) as "first_pos!"
           from log_origin where incarnation = $1"#,
        incarnation
    )
    .fetch_optional(conn)
    .await?)
}

pub(in crate::log) async fn insert_stream(
    conn: &mut PgConnection,
    head: &Head,
    kind: StreamKind,
    home: &str,
    incarnation: i64,
    genesis: &[u8],
) -> Result<StreamRow, Error> {
    let raw = sqlx::query_as!(
        RawStream,
        r#"insert into stream
               (public_id, kind, home, term, incarnation, asked_incarnation, head_seq, head_time, head_hash, genesis,
                created_at)
           values ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9, $7)
           returning id, public_id, kind, home, state, term, incarnation, epoch, epoch_floor, head_seq, head_pos,
                     head_time, head_hash, rules, requires, unapplied, size_bytes as "held_bytes!""#,
        head.stream.as_str(),
        kind.to_db(),
        home,
        head.term.to_db(),
        incarnation,
        head.seq.to_db(),
        head.time.to_datetime(),
        head.hash.as_slice(),
        genesis
    )
    .fetch_one(conn)
    .await?;
    Ok(raw.try_into()?)
}

pub(in crate::log) async fn update_head(
    conn: &mut PgConnection,
    row: &StreamRow,
    head: &Head,
    head_pos: i64,
    rules_changed: bool,
    added_bytes: usize,
) -> Result<(), Error> {
    sqlx::query!(
        "update stream set head_seq = $2, head_pos = $3, head_time = $4, head_hash = $5, epoch = $6, epoch_floor = $7,
                           rules = rules + $8, term = $9, incarnation = $10, home = $11, requires = $12,
                           unapplied = $13, size_bytes = size_bytes + $14
         where id = $1",
        row.id,
        head.seq.to_db(),
        head_pos,
        head.time.to_datetime(),
        head.hash.as_slice(),
        row.epoch.to_db(),
        row.epoch_floor.to_db(),
        i64::from(rules_changed),
        head.term.to_db(),
        row.incarnation,
        row.home,
        &row.requires,
        row.is_unapplied,
        i64::try_from(added_bytes).unwrap_or(i64::MAX)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts entries that came before the first that a replica held.
pub(in crate::log) async fn grow(conn: &mut PgConnection, stream_id: i64, added_bytes: usize) -> Result<(), Error> {
    let added = i64::try_from(added_bytes).unwrap_or(i64::MAX);
    sqlx::query!("update stream set size_bytes = size_bytes + $2 where id = $1", stream_id, added)
        .execute(conn)
        .await?;
    Ok(())
}
