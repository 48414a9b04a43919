//! All SQL on streams, entries, seats and the outbox that is not the writer's batch or a reader's page.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::body::Role;
use super::chain::{Head, Header, Sealed};
use super::identity::{Author, CallIdentity};
use super::seats::{Roster, Seat, SeatChange};
use super::{EntryKind, Error, StreamKind};
use crate::storage;
use crate::types::{DeviceId, Did, Epoch, Hash, Refusal, Seq, StreamId, Term, UnixMillis};

/// What never changes about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    pub id: i64,
    pub public_id: StreamId,
    pub kind: StreamKind,
    pub home: String,
}

/// A stream's row.
#[derive(Clone, Debug)]
pub struct StreamRow {
    pub id: i64,
    pub public_id: StreamId,
    pub kind: StreamKind,
    pub term: Term,
    pub epoch: Epoch,
    pub epoch_floor: Epoch,
    pub head_seq: Seq,
    pub head_pos: i64,
    pub head_time: UnixMillis,
    pub head_hash: Hash,
    pub rules: i64,
}

impl StreamRow {
    pub fn head(&self) -> Result<Head, Error> {
        Ok(Head {
            stream: self.public_id.clone(),
            term: self.term,
            seq: self.head_seq,
            hash: self.head_hash,
            time: self.head_time,
        })
    }
}

/// The columns as they come; `try_into` reads them once.
struct RawStream {
    id: i64,
    public_id: String,
    kind: i16,
    term: i64,
    epoch: i64,
    epoch_floor: i64,
    head_seq: i64,
    head_pos: i64,
    head_time: DateTime<Utc>,
    head_hash: Vec<u8>,
    rules: i64,
}

impl TryFrom<RawStream> for StreamRow {
    type Error = storage::Error;

    fn try_from(raw: RawStream) -> Result<Self, storage::Error> {
        Ok(Self {
            id: raw.id,
            public_id: StreamId::parse(&raw.public_id).map_err(|_| storage::Error::Corrupt("stream.public_id"))?,
            kind: StreamKind::from_db(raw.kind).ok_or(storage::Error::Corrupt("stream.kind"))?,
            term: Term::from_db(raw.term),
            epoch: Epoch::from_db(raw.epoch),
            epoch_floor: Epoch::from_db(raw.epoch_floor),
            head_seq: Seq::from_db(raw.head_seq),
            head_pos: raw.head_pos,
            head_time: raw.head_time.into(),
            head_hash: hash(&raw.head_hash)?,
            rules: raw.rules,
        })
    }
}

pub(super) fn hash(bytes: &[u8]) -> Result<Hash, storage::Error> {
    Hash::from_slice(bytes).ok_or(storage::Error::Corrupt("hash"))
}

/// An entry as its sender was told of it.
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
    pub(super) fn answer_to(self, identity: &CallIdentity) -> Result<Self, Refusal> {
        if self.request_hash == Some(identity.request_hash) {
            Ok(self)
        } else {
            Err(Refusal::new("IdempotencyConflict", "this idem was used before, with another request"))
        }
    }
}

pub(super) struct Origin {
    pub system_id: i64,
    pub timeline: i32,
    pub incarnation: i64,
}

pub(super) async fn lock_origin(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("lock table log_origin in access exclusive mode").execute(conn).await?;
    Ok(())
}

pub(super) async fn cluster_identity(conn: &mut PgConnection) -> Result<(i64, i32), Error> {
    let row = sqlx::query!(
        r#"select s.system_identifier as "system_id!", c.timeline_id as "timeline!"
           from pg_control_system() s, pg_control_checkpoint() c"#
    )
    .fetch_one(conn)
    .await?;
    Ok((row.system_id, row.timeline))
}

pub(super) async fn find_origin(conn: &mut PgConnection) -> Result<Option<Origin>, Error> {
    Ok(sqlx::query_as!(Origin, "select system_id, timeline, incarnation from log_origin").fetch_optional(conn).await?)
}

pub(super) async fn insert_origin(
    conn: &mut PgConnection,
    system_id: i64,
    timeline: i32,
    incarnation: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into log_origin (base, system_id, timeline, incarnation) values (0, $1, $2, $3)",
        system_id,
        timeline,
        incarnation
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn raise_origin(
    conn: &mut PgConnection,
    step: i64,
    system_id: i64,
    timeline: i32,
    incarnation: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "update log_origin set
             base = greatest(
                 coalesce((select max(pos) from entry), 0),
                 base + (pg_current_xact_id()::text::bigint << 10)
             ) + $1,
             system_id = $2, timeline = $3, incarnation = $4",
        step,
        system_id,
        timeline,
        incarnation
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn find_stream(pool: &PgPool, public_id: &str) -> Result<Option<StreamInfo>, Error> {
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

/// Waiters of this lock hold no transaction id, so they do not hold the readers' fence.
pub(super) async fn lock_stream_advisory(conn: &mut PgConnection, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock($1)", stream_id).execute(conn).await?;
    Ok(())
}

pub(super) async fn stream_for_update(conn: &mut PgConnection, stream_id: i64) -> Result<StreamRow, Error> {
    let raw = sqlx::query_as!(
        RawStream,
        "select id, public_id, kind, term, epoch, epoch_floor, head_seq, head_pos, head_time, head_hash, rules
         from stream where id = $1 for update",
        stream_id
    )
    .fetch_one(conn)
    .await?;
    Ok(raw.try_into()?)
}

/// Stream rows as they are now, without a lock.
pub(super) async fn streams(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<StreamRow>, Error> {
    let rows = sqlx::query_as!(
        RawStream,
        r#"select s.id as "id!", s.public_id as "public_id!", s.kind as "kind!", s.term as "term!", s.epoch as "epoch!",
                  s.epoch_floor as "epoch_floor!", s.head_seq as "head_seq!", s.head_pos as "head_pos!",
                  s.head_time as "head_time!", s.head_hash as "head_hash!", s.rules as "rules!"
           from unnest($1::bigint[]) wanted (id)
           cross join lateral (select * from stream where stream.id = wanted.id limit 1) s"#,
        ids
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|raw| Ok(raw.try_into()?)).collect()
}

/// One stream's row without a lock, on any connection of the pool.
pub(super) async fn stream_row(pool: &PgPool, stream_id: i64) -> Result<StreamRow, Error> {
    let raw = sqlx::query_as!(
        RawStream,
        "select id, public_id, kind, term, epoch, epoch_floor, head_seq, head_pos, head_time, head_hash, rules
         from stream where id = $1",
        stream_id
    )
    .fetch_one(pool)
    .await?;
    Ok(raw.try_into()?)
}

/// `base + (xid << 10)` of this transaction; gives it an id if it has none.
pub(super) async fn first_position(conn: &mut PgConnection) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"select base + (pg_current_xact_id()::text::bigint << 10) as "first_pos!" from log_origin"#
    )
    .fetch_one(conn)
    .await?)
}

pub(super) async fn insert_stream(
    conn: &mut PgConnection,
    head: &Head,
    kind: StreamKind,
    home: &str,
    genesis: &[u8],
) -> Result<StreamRow, Error> {
    let raw = sqlx::query_as!(
        RawStream,
        "insert into stream (public_id, kind, home, term, head_time, head_hash, genesis, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $5)
         returning id, public_id, kind, term, epoch, epoch_floor, head_seq, head_pos, head_time, head_hash, rules",
        head.stream.as_str(),
        kind.to_db(),
        home,
        head.term.to_db(),
        head.time.to_datetime(),
        head.hash.as_slice(),
        genesis
    )
    .fetch_one(conn)
    .await?;
    Ok(raw.try_into()?)
}

#[expect(clippy::too_many_arguments, reason = "one parameter a column: a struct would be built for this call alone")]
pub(super) async fn insert_entry(
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
                            header, content, hash)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
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
        sealed.hash.as_slice()
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn update_head(
    conn: &mut PgConnection,
    row: &StreamRow,
    head: &Head,
    head_pos: i64,
    rules_changed: bool,
) -> Result<(), Error> {
    sqlx::query!(
        "update stream set head_seq = $2, head_pos = $3, head_time = $4, head_hash = $5, epoch = $6, epoch_floor = $7,
                           rules = rules + $8
         where id = $1",
        row.id,
        head.seq.to_db(),
        head_pos,
        head.time.to_datetime(),
        head.hash.as_slice(),
        row.epoch.to_db(),
        row.epoch_floor.to_db(),
        i64::from(rules_changed)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The entry that a call with this identity made.
pub(super) async fn find_accepted(
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

/// Whether the account ever had a seat here.
pub(super) async fn was_seated(conn: &mut PgConnection, stream_id: i64, account_id: i64) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select 1 from seat where stream_id = $1 and account_id = $2) as "was_seated!""#,
        stream_id,
        account_id
    )
    .fetch_one(conn)
    .await?)
}

/// The open seats and leaves of a stream.
pub(super) async fn roster(conn: &mut PgConnection, stream_id: i64) -> Result<Roster, Error> {
    let mut roster = Roster::default();
    let seats = sqlx::query!(
        "select a.did, s.from_seq, s.role, s.server from seat s join account a on a.id = s.account_id
         where s.stream_id = $1 and s.until_seq is null",
        stream_id
    )
    .fetch_all(&mut *conn)
    .await?;
    for row in seats {
        let seat = Seat { from: Seq::from_db(row.from_seq), role: Role::from_db(row.role), server: row.server };
        roster.seats.insert(did(&row.did)?, seat);
    }
    let leaves = sqlx::query!(
        "select a.did, d.public_id, l.from_seq from seat_device l
         join account a on a.id = l.account_id join device d on d.id = l.device_id
         where l.stream_id = $1 and l.until_seq is null",
        stream_id
    )
    .fetch_all(conn)
    .await?;
    for row in leaves {
        roster.leaves.insert((did(&row.did)?, device(&row.public_id)?), Seq::from_db(row.from_seq));
    }
    Ok(roster)
}

pub(super) fn did(text: &str) -> Result<Did, storage::Error> {
    Did::parse(text).map_err(|_| storage::Error::Corrupt("account.did"))
}

pub(super) fn device(text: &str) -> Result<DeviceId, storage::Error> {
    DeviceId::parse(text).map_err(|_| storage::Error::Corrupt("device.public_id"))
}

/// Writes what one entry changed: first what begins, then what ends.
pub(super) async fn write_seats(conn: &mut PgConnection, stream_id: i64, changes: &[SeatChange]) -> Result<(), Error> {
    for change in changes {
        match change {
            SeatChange::Opened { account, seat } => {
                sqlx::query!(
                    "insert into seat (stream_id, account_id, from_seq, role, server)
                     select $1, id, $3, $4, $5 from account where did = $2",
                    stream_id,
                    account.as_str(),
                    seat.from.to_db(),
                    seat.role.to_db(),
                    seat.server
                )
                .execute(&mut *conn)
                .await?
            }
            SeatChange::Role { account, role } => {
                sqlx::query!(
                    "update seat s set role = $3 from account a
                     where s.stream_id = $1 and s.account_id = a.id and a.did = $2 and s.until_seq is null",
                    stream_id,
                    account.as_str(),
                    role.to_db()
                )
                .execute(&mut *conn)
                .await?
            }
            SeatChange::Closed { account, until } => {
                sqlx::query!(
                    "update seat s set until_seq = $3 from account a
                     where s.stream_id = $1 and s.account_id = a.id and a.did = $2 and s.until_seq is null",
                    stream_id,
                    account.as_str(),
                    until.to_db()
                )
                .execute(&mut *conn)
                .await?
            }
            SeatChange::LeafAdded { account, device, from } => {
                sqlx::query!(
                    "insert into seat_device (stream_id, device_id, account_id, from_seq)
                     select $1, d.id, a.id, $4 from account a join device d on d.account_id = a.id
                     where a.did = $2 and d.public_id = $3",
                    stream_id,
                    account.as_str(),
                    device.as_str(),
                    from.to_db()
                )
                .execute(&mut *conn)
                .await?
            }
            SeatChange::LeafRemoved { account: _, device, until } => {
                sqlx::query!(
                    "update seat_device l set until_seq = $3 from device d
                     where l.stream_id = $1 and l.device_id = d.id and d.public_id = $2 and l.until_seq is null",
                    stream_id,
                    device.as_str(),
                    until.to_db()
                )
                .execute(&mut *conn)
                .await?
            }
        };
    }
    Ok(())
}

/// An entry waiting for its account stream.
pub(super) struct OutboxRow {
    pub id: i64,
    pub stream_id: i64,
    pub kind: i16,
    pub body: Vec<u8>,
}

pub(super) async fn insert_outbox(
    conn: &mut PgConnection,
    outgoing: &[super::Outgoing],
    now: UnixMillis,
) -> Result<(), Error> {
    let accounts: Vec<i64> = outgoing.iter().map(|one| one.account_id).collect();
    let kinds: Vec<i16> = outgoing.iter().map(|one| one.kind.to_db()).collect();
    let bodies: Vec<Vec<u8>> = outgoing.iter().map(|one| one.body.clone()).collect();
    sqlx::query!(
        "insert into outbox (account_id, kind, body, created_at)
         select account_id, kind, body, $4 from unnest($1::bigint[], $2::smallint[], $3::bytea[]) u (account_id, kind, body)",
        &accounts,
        &kinds,
        &bodies,
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn list_outbox(pool: &PgPool, limit: i64) -> Result<Vec<OutboxRow>, Error> {
    Ok(sqlx::query_as!(
        OutboxRow,
        r#"select o.id, a.stream_id as "stream_id!", o.kind, o.body
           from outbox o join account a on a.id = o.account_id and a.stream_id is not null
           order by o.id limit $1"#,
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// Takes these rows out of the outbox, and says which were still there.
pub(super) async fn delete_outbox(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!("delete from outbox where id = any($1) returning id", ids).fetch_all(conn).await?)
}
