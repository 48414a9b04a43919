//! SQL of replication to other servers.

use super::hash;
use crate::identity::Signed;
use crate::log::chain::Head;
use crate::log::{EntryKind, Error, Held, RawEntry};
use crate::storage::{PgConnection, PgPool};
use crate::types::{Seq, Term, UnixMillis};

pub(in crate::log) async fn genesis(pool: &PgPool, stream_id: i64) -> Result<Vec<u8>, Error> {
    Ok(sqlx::query_scalar!("select genesis from stream where id = $1", stream_id).fetch_one(pool).await?)
}

/// Entries that ended or opened a term, oldest first.
pub(in crate::log) async fn changes_of_reign(pool: &PgPool, stream_id: i64) -> Result<Vec<RawEntry>, Error> {
    let rows = sqlx::query!(
        r#"select seq as "seq!", hash as "hash!", header as "header!", content
           from entry_content where stream_id = $1 and kind in (21, 22, 23) order by seq"#,
        stream_id
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let held = Held { header: row.header, content: row.content };
            Ok(RawEntry { seq: Seq::from_db(row.seq), hash: hash(&row.hash)?, held })
        })
        .collect()
}

/// Entries from one number on, as many as fit. Sizes are summed up before contents are read.
pub(in crate::log) async fn raw_entries(
    pool: &PgPool,
    stream_id: i64,
    from: Seq,
    limit: u32,
    max_bytes: i64,
    reader: Option<&str>,
) -> Result<Vec<RawEntry>, Error> {
    let rows = sqlx::query!(
        r#"with span as (
               select min(s.from_seq) as from_seq, s.until_seq
               from seat s where s.stream_id = $1 and s.server = $5
               group by s.until_seq
           ), sized as (
               select e.seq, covered.is as is_covered,
                      sum(octet_length(e.header) + case when covered.is then e.content_bytes else 0 end)
                          over (order by e.seq) as bytes
               from (select * from entry where stream_id = $1 and seq >= $2 order by seq limit $3) e
               cross join lateral (
                   select $5::text is null or exists (
                       select 1 from span
                       where span.from_seq <= e.seq and (span.until_seq is null or e.seq <= span.until_seq)
                   ) as is
               ) covered
           )
           -- What says who orders is withheld from nobody: it names servers alone.
           select e.seq as "seq!", e.hash as "hash!", e.header as "header!",
                  case when z.is_covered or e.kind in (21, 22, 23) then e.content end as content
           from sized z join entry_content e on e.stream_id = $1 and e.seq = z.seq
           where z.bytes <= $4 or z.seq = $2
           order by e.seq"#,
        stream_id,
        from.to_db(),
        i64::from(limit),
        max_bytes,
        reader
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let held = Held { header: row.header, content: row.content };
            Ok(RawEntry { seq: Seq::from_db(row.seq), hash: hash(&row.hash)?, held })
        })
        .collect()
}

pub(in crate::log) async fn missing_messages(
    pool: &PgPool,
    stream_id: i64,
    (from, until): (Seq, Seq),
    reader: &str,
    since: UnixMillis,
) -> Result<Vec<Seq>, Error> {
    let seqs = sqlx::query_scalar!(
        r#"select e.seq as "seq!" from entry_content e
         where e.stream_id = $1 and e.seq between $2 and $3 and e.kind = $6 and e.content is null
           and e.created_at >= $5 and exists (
               select 1 from seat s
               where s.stream_id = e.stream_id and s.server = $4
                 and s.from_seq <= e.seq and (s.until_seq is null or e.seq <= s.until_seq)
           )
         order by e.seq"#,
        stream_id,
        from.to_db(),
        until.to_db(),
        reader,
        since.to_datetime(),
        EntryKind::Message.to_db()
    )
    .fetch_all(pool)
    .await?;
    Ok(seqs.into_iter().map(Seq::from_db).collect())
}

pub(in crate::log) async fn erasures(
    pool: &PgPool,
    stream_id: i64,
    after: Seq,
    limit: u32,
) -> Result<Vec<RawEntry>, Error> {
    // The number itself, so that the planner finds the index of such entries.
    let rows = sqlx::query!(
        r#"select seq as "seq!", hash as "hash!", header as "header!", content from entry_content
           where stream_id = $1 and kind = 8 and seq > $2 and content is not null order by seq limit $3"#,
        stream_id,
        after.to_db(),
        i64::from(limit)
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let held = Held { header: row.header, content: row.content };
            Ok(RawEntry { seq: Seq::from_db(row.seq), hash: hash(&row.hash)?, held })
        })
        .collect()
}

/// Raises the rights version after a change without an entry.
pub(in crate::log) async fn raise_rules(conn: &mut PgConnection, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("update stream set rules = rules + 1 where id = $1", stream_id).execute(conn).await?;
    Ok(())
}

/// Headers that may have to lead from a number to the next checkpoint.
const CHECKPOINT_DISTANCE: i64 = 1024;

/// Keeps a checkpoint at the head, and lets go of the one before it, if those on both sides are near enough.
pub(in crate::log) async fn keep_checkpoint(
    conn: &mut PgConnection,
    stream_id: i64,
    head: &Head,
    signed: &Signed,
) -> Result<(), Error> {
    sqlx::query!(
        "with newest as (
             select seq, lag(seq) over (order by seq) as before
             from (select seq from checkpoint where stream_id = $1 and term = $2 order by seq desc limit 2) c
             order by seq desc limit 1
         )
         delete from checkpoint c using newest n
         where c.stream_id = $1 and c.term = $2 and c.seq = n.seq and $3 - n.before <= $4",
        stream_id,
        head.term.to_db(),
        head.seq.to_db(),
        CHECKPOINT_DISTANCE
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into checkpoint (stream_id, term, seq, statement, key, sig) values ($1, $2, $3, $4, $5, $6)
         on conflict do nothing",
        stream_id,
        head.term.to_db(),
        head.seq.to_db(),
        signed.statement.as_slice(),
        signed.key,
        signed.sig.as_slice()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The earliest checkpoint held at or after this number; of one term, if it is named.
pub(in crate::log) async fn find_checkpoint(
    pool: &PgPool,
    stream_id: i64,
    seq: Seq,
    term: Option<Term>,
) -> Result<Option<(Seq, Signed)>, Error> {
    let row = sqlx::query!(
        "select seq, statement, key, sig from checkpoint
         where stream_id = $1 and seq >= $2 and ($3::bigint is null or term = $3) order by seq, term limit 1",
        stream_id,
        seq.to_db(),
        term.map(Term::to_db)
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        (Seq::from_db(row.seq), Signed { statement: row.statement.into(), key: row.key, sig: row.sig.into() })
    }))
}

pub(in crate::log) async fn newest_checkpoint(pool: &PgPool, stream_id: i64) -> Result<Option<(Seq, Signed)>, Error> {
    let row = sqlx::query!(
        "select seq, statement, key, sig from checkpoint where stream_id = $1 order by term desc, seq desc limit 1",
        stream_id
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        (Seq::from_db(row.seq), Signed { statement: row.statement.into(), key: row.key, sig: row.sig.into() })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_are_looked_for_by_kind_have_the_numbers_that_are_written_here() {
        let kinds = [
            EntryKind::Membership,
            EntryKind::Commit,
            EntryKind::Erased,
            EntryKind::HomeOpened,
            EntryKind::HomeRestored,
            EntryKind::HomeChanged,
        ];
        assert_eq!(kinds.map(EntryKind::to_db), [3, 5, 8, 21, 22, 23]);
    }
}
