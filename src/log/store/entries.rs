//! SQL on single entries, and on the answers to their senders.

use uuid::Uuid;

use super::hash;
use crate::log::chain::{Header, Sealed};
use crate::log::partitions::TimePartitions;
use crate::log::retention::{Keep, identities_forgotten_before};
use crate::log::{Application, Author, AuthorState, CallIdentity, EntryKind, Error, identity_conflict};
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
        if self.request_hash == Some(identity.request_hash) { Ok(self) } else { Err(identity_conflict()) }
    }
}

#[expect(clippy::too_many_arguments, reason = "one parameter a column: a struct would be built for this call alone")]
pub(in crate::log) async fn insert_entry(
    conn: &mut PgConnection,
    stream_id: i64,
    pos: i64,
    at: TimePartitions,
    kind: EntryKind,
    epoch: Option<Epoch>,
    sealed: &Sealed,
    author: Option<&Author>,
    identity: Option<CallIdentity>,
) -> Result<(), Error> {
    sqlx::query!(
        "with contents as (
             insert into content (week, pos, bytes) values ($15, $2, $12)
         ), called as (
             insert into call_identity (period, stream_id, idem, seq, request_hash)
             select $16::smallint, $5, $8, $1, $9 where $8::uuid is not null
         )
         insert into entry (seq, pos, epoch, created_at, stream_id, author, device, kind, header, content_bytes, hash,
                            kind_name, week)
         values ($1, $2, $3, $4, $5, $6, $7, $10, $11, octet_length($12::bytea), $13, $14, $15)",
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
        kind.is_later().then(|| kind.name()),
        at.week_of(Keep::of(kind)),
        at.period
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The entry that a call with this identity made, unless the identity is forgotten.
pub(in crate::log) async fn find_accepted(
    conn: &mut PgConnection,
    stream_id: i64,
    idem: Uuid,
    now: UnixMillis,
) -> Result<Option<Accepted>, Error> {
    let period = TimePartitions::at(now).period;
    let row = sqlx::query!(
        "select e.header, e.hash, e.epoch, c.request_hash
         from call_identity c
         cross join lateral (
             select header, hash, epoch, created_at from entry
             where entry.stream_id = c.stream_id and entry.seq = c.seq limit 1
         ) e
         where c.stream_id = $1 and c.idem = $2 and c.period in ($3::smallint - 1, $3::smallint) and e.created_at >= $4
         order by c.period desc limit 1",
        stream_id,
        idem,
        period,
        identities_forgotten_before(now).to_datetime()
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| accepted(&row.header, &row.hash, row.epoch, Some(&row.request_hash))).transpose()
}

/// What is known of a call before it is judged.
pub(in crate::log) struct FirstAnswer {
    pub accepted: Option<Accepted>,
    pub author: AuthorState,
}

/// For each call its first answer, if it was appended before, and whether its author may act now; in their order.
pub(in crate::log) async fn first_answers(
    conn: &mut PgConnection,
    items: &[&Application],
    now: UnixMillis,
) -> Result<Vec<FirstAnswer>, Error> {
    let streams: Vec<i64> = items.iter().map(|item| item.stream.id).collect();
    let idems: Vec<Uuid> = items.iter().map(|item| item.identity.idem).collect();
    let devices: Vec<i64> = items.iter().map(|item| item.author.device_row).collect();
    let rows = sqlx::query!(
        r#"select e.header as "header?", e.hash as "hash?", e.epoch as "epoch?", e.request_hash as "request_hash?",
                  coalesce(a.revoked, false) as "revoked!", coalesce(a.suspended, false) as "suspended!"
           from unnest($1::bigint[], $2::uuid[], $3::bigint[]) with ordinality n (stream_id, idem, device_id, place)
           left join lateral (
               select seq, request_hash from call_identity c
               where c.stream_id = n.stream_id and c.idem = n.idem and c.period in ($4::smallint - 1, $4::smallint)
               order by c.period desc limit 1
           ) c on true
           left join lateral (
               select header, hash, epoch, c.request_hash from entry
               where entry.stream_id = n.stream_id and entry.seq = c.seq and entry.created_at >= $5 limit 1
           ) e on true
           left join lateral (
               select d.state = 'revoked' as revoked, account.suspended_at is not null as suspended
               from device d join account on account.id = d.account_id where d.id = n.device_id limit 1
           ) a on true
           order by n.place"#,
        &streams,
        &idems,
        &devices,
        TimePartitions::at(now).period,
        identities_forgotten_before(now).to_datetime()
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let author = AuthorState::of(row.revoked, row.suspended);
            let (Some(header), Some(found)) = (row.header, row.hash) else {
                return Ok(FirstAnswer { accepted: None, author });
            };
            let accepted = accepted(&header, &found, row.epoch, row.request_hash.as_deref())?;
            Ok(FirstAnswer { accepted: Some(accepted), author })
        })
        .collect()
}

fn accepted(header: &[u8], found: &[u8], epoch: Option<i64>, request_hash: Option<&[u8]>) -> Result<Accepted, Error> {
    let header = Header::decode(header)?;
    Ok(Accepted {
        term: header.term,
        seq: header.seq,
        hash: hash(found)?,
        time: header.time,
        epoch: epoch.map(Epoch::from_db),
        request_hash: request_hash.map(hash).transpose()?,
    })
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
        // The sweep frees messages behind its mark: the lock keeps both from freeing one message.
        "with swept as materialized (
             select pos from log_sweep where job = 2 for share
         ), old as materialized (
             select e.pos, e.week, e.author, e.content_bytes from entry e cross join swept
             where e.stream_id = $1 and e.seq = any($2) and e.kind = $3 and (e.pos < 0 or e.pos > swept.pos)
         ), deleted as (
             delete from content c
             where c.week = any(array(select distinct week from old)) and c.pos = any(array(select pos from old))
             returning c.pos
         ), gone as materialized (
             select old.author, old.content_bytes as bytes from deleted join old on old.pos = deleted.pos
         ), freed as (
             insert into stream_freed (stream_id, freed_bytes) select $1, sum(bytes) from gone having count(*) > 0
             on conflict (stream_id) do update set freed_bytes = stream_freed.freed_bytes + excluded.freed_bytes
         )
         insert into account_usage (account_id, freed_bytes)
         select author, sum(bytes) from gone where author is not null group by author order by author
         on conflict (account_id) do update set freed_bytes = account_usage.freed_bytes + excluded.freed_bytes",
        stream_id,
        &seqs,
        EntryKind::Message.to_db()
    )
    .execute(conn)
    .await?;
    Ok(())
}
