//! SQL on entries that their home took back.

use crate::identity::Signed;
use crate::storage::{Error, PgConnection};
use crate::types::{Seq, Term, UnixMillis};

pub struct FrozenRow {
    pub id: i64,
    pub state: i16,
    pub head_seq: Seq,
}

/// Finds and locks a stream that this server follows or followed.
pub async fn lock_frozen(conn: &mut PgConnection, stream: &str) -> Result<Option<FrozenRow>, Error> {
    let row = sqlx::query!(
        "select s.id, s.state, s.head_seq from stream s join replica r on r.stream_id = s.id
         where s.public_id = $1 for no key update of s",
        stream
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| FrozenRow { id: row.id, state: row.state, head_seq: Seq::from_db(row.head_seq) }))
}

/// The rewind that froze the stream; `None` if a proven fork froze it.
pub async fn find_rewind(conn: &mut PgConnection, stream_id: i64) -> Result<Option<Vec<u8>>, Error> {
    Ok(sqlx::query_scalar!(
        "select bytes from evidence e where stream_id = $1 and kind = 3
             and not exists (select 1 from evidence f where f.stream_id = $1 and f.kind = 2)
         order by id desc limit 1",
        stream_id
    )
    .fetch_optional(conn)
    .await?)
}

/// The hash and header of an entry.
pub async fn entry_at(conn: &mut PgConnection, stream_id: i64, seq: Seq) -> Result<Option<(Vec<u8>, Vec<u8>)>, Error> {
    let row = sqlx::query!("select hash, header from entry where stream_id = $1 and seq = $2", stream_id, seq.to_db())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| (row.hash, row.header)))
}

/// The most bytes of a content that changes a role: a `#membership` is far smaller.
const MEMBERSHIP_BYTES: i32 = 4 << 10;

/// An entry to give up, with its content only if it changes a seat.
pub struct Gone {
    pub seq: Seq,
    pub header: Vec<u8>,
    pub content: Option<Vec<u8>>,
}

pub async fn entries_after(conn: &mut PgConnection, stream_id: i64, base: Seq) -> Result<Vec<Gone>, Error> {
    let rows = sqlx::query!(
        r#"select seq as "seq!", header as "header!",
                  case when kind = 3 and octet_length(content) <= $3 then content end as content
           from entry_content where stream_id = $1 and seq > $2 order by seq"#,
        stream_id,
        base.to_db(),
        MEMBERSHIP_BYTES
    )
    .fetch_all(conn)
    .await?;
    let gone = rows.into_iter();
    Ok(gone.map(|row| Gone { seq: Seq::from_db(row.seq), header: row.header, content: row.content }).collect())
}

pub async fn checkpoint_at(conn: &mut PgConnection, stream_id: i64, seq: Seq) -> Result<Option<Signed>, Error> {
    let row = sqlx::query!(
        "select statement, key, sig from checkpoint where stream_id = $1 and seq = $2 order by term limit 1",
        stream_id,
        seq.to_db()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Signed { statement: row.statement.into(), key: row.key, sig: row.sig.into() }))
}

pub async fn put_role(conn: &mut PgConnection, stream_id: i64, account: &str, role: i16) -> Result<(), Error> {
    sqlx::query!(
        "update seat s set role = $3, role_name = null from account a where a.did = $2 and s.stream_id = $1 and s.account_id = a.id",
        stream_id,
        account,
        role
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes the entries beyond `base` and all rows derived from them, and makes the stream due to be followed from
/// there.
pub async fn give_up(
    conn: &mut PgConnection,
    stream_id: i64,
    base: Seq,
    term: Term,
    now: UnixMillis,
) -> Result<(), Error> {
    let base = base.to_db();
    sqlx::query!(
        "with old as materialized (
             delete from entry where stream_id = $1 and seq > $2 returning week, pos
         ), calls as (
             delete from call_identity where stream_id = $1 and seq > $2
         )
         delete from content c
         where c.week = any(array(select distinct week from old)) and c.pos = any(array(select pos from old))",
        stream_id,
        base
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("delete from checkpoint where stream_id = $1 and seq > $2", stream_id, base)
        .execute(&mut *conn)
        .await?;
    sqlx::query!("delete from seat where stream_id = $1 and from_seq > $2", stream_id, base)
        .execute(&mut *conn)
        .await?;
    sqlx::query!("update seat set until_seq = null where stream_id = $1 and until_seq > $2", stream_id, base)
        .execute(&mut *conn)
        .await?;
    sqlx::query!("delete from seat_device where stream_id = $1 and from_seq > $2", stream_id, base)
        .execute(&mut *conn)
        .await?;
    sqlx::query!("update seat_device set until_seq = null where stream_id = $1 and until_seq > $2", stream_id, base)
        .execute(&mut *conn)
        .await?;
    sqlx::query!("update read_position set seq = $2 where stream_id = $1 and seq > $2", stream_id, base)
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "update stream s
         set head_seq = e.seq, head_hash = e.hash, head_time = e.created_at, term = $3, state = 0, rules = s.rules + 1,
             epoch = coalesce(
                 (select c.epoch + 1 from entry c
                  where c.stream_id = $1 and c.kind = 5 and c.epoch is not null order by c.seq desc limit 1),
                 s.epoch),
             epoch_floor = 0
         from entry e where s.id = $1 and e.stream_id = $1 and e.seq = $2",
        stream_id,
        base,
        term.to_db()
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update replica
         set from_seq = least(from_seq, $2::bigint + 1), view = null, failures = 0, stops = 0, stopped_by = null,
             follow_failures = 0, follow_due_at = $3, ended_at = null, backfilled_seq = least(backfilled_seq, $2)
         where stream_id = $1",
        stream_id,
        base,
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}
