//! SQL of erasures. When a job is due is judged by the database's clock, which all instances share.

use std::time::Duration;

use crate::log::{Author, EntryKind, Error};
use crate::storage::{self, PgConnection, PgPool};
use crate::types::{DeviceId, Did, Seq, UnixMillis};

/// An account's messages that are to be erased.
pub(super) struct Job {
    pub id: i64,
    pub stream_id: i64,
    pub author: Author,
    pub done: Seq,
    pub through: Seq,
}

/// What the next step erases.
pub(super) struct Found {
    pub messages: Vec<Seq>,
    /// All messages up to here are in it, or were erased before.
    pub looked_through: Seq,
}

pub(super) async fn insert_job(
    conn: &mut PgConnection,
    stream_id: i64,
    author: &Author,
    through: Seq,
    now: UnixMillis,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into erasure_job (stream_id, account_id, device_id, through_seq, created_at) values ($1, $2, $3, $4, $5)",
        stream_id,
        author.account_id,
        author.device_row,
        through.to_db(),
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The job that waits longest.
pub(super) async fn next_job(pool: &PgPool) -> Result<Option<Job>, Error> {
    let row = sqlx::query!(
        "select j.id, j.stream_id, j.account_id, j.device_id, j.done_seq, j.through_seq, a.did, d.public_id
         from erasure_job j join account a on a.id = j.account_id join device d on d.id = j.device_id
         where j.due_at <= clock_timestamp() order by j.due_at, j.id limit 1"
    )
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        let did = Did::parse(&row.did).map_err(|_| storage::Error::Corrupt("account.did"))?;
        let device = DeviceId::parse(&row.public_id).map_err(|_| storage::Error::Corrupt("device.public_id"))?;
        Ok(Job {
            id: row.id,
            stream_id: row.stream_id,
            author: Author { account_id: row.account_id, device_row: row.device_id, did, device },
            done: Seq::from_db(row.done_seq),
            through: Seq::from_db(row.through_seq),
        })
    })
    .transpose()
}

/// The next messages of the job that still have their contents: at most `messages`, among the next `entries` entries.
pub(super) async fn find_messages(pool: &PgPool, job: &Job, entries: i64, messages: i64) -> Result<Found, Error> {
    let row = sqlx::query!(
        r#"with page as materialized (
               select seq, author = $4 and kind = $5 and content is not null as wanted from entry_content
               where stream_id = $1 and seq > $2 and seq <= $3 order by seq limit $6
           ), wanted as materialized (
               select seq from page where wanted order by seq limit $7
           )
           select coalesce(array_agg(seq order by seq), '{}') as "seqs!", (select max(seq) from page) as last,
                  (select count(*) from page) as "entries!" from wanted"#,
        job.stream_id,
        job.done.to_db(),
        job.through.to_db(),
        job.author.account_id,
        EntryKind::Message.to_db(),
        entries,
        messages
    )
    .fetch_one(pool)
    .await?;
    let full = i64::try_from(row.seqs.len()).is_ok_and(|found| found >= messages);
    let looked_through = match (row.seqs.last(), row.last) {
        (Some(&last), _) if full => last,
        (_, Some(last)) if row.entries >= entries => last,
        _ => job.through.to_db(),
    };
    let messages = row.seqs.into_iter().map(Seq::from_db).collect();
    Ok(Found { messages, looked_through: Seq::from_db(looked_through) })
}

/// How far the job came; none if it is over.
pub(super) async fn done(conn: &mut PgConnection, job_id: i64) -> Result<Option<Seq>, Error> {
    let done = sqlx::query_scalar!("select done_seq from erasure_job where id = $1", job_id);
    Ok(done.fetch_optional(conn).await?.map(Seq::from_db))
}

/// Keeps how far the job came, and lets other jobs come first.
pub(super) async fn advance(conn: &mut PgConnection, job_id: i64, done: Seq) -> Result<(), Error> {
    sqlx::query!(
        "update erasure_job set done_seq = $2, due_at = clock_timestamp() where id = $1",
        job_id,
        done.to_db()
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn delete_job(conn: &mut PgConnection, job_id: i64) -> Result<(), Error> {
    sqlx::query!("delete from erasure_job where id = $1", job_id).execute(conn).await?;
    Ok(())
}

/// Looks at the job again later; deletes it if it began before `aged_out`.
pub(super) async fn put_off(pool: &PgPool, job: &Job, due_in: Duration, aged_out: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "with over as (delete from erasure_job where id = $1 and created_at < $3)
         update erasure_job set due_at = clock_timestamp() + make_interval(secs => $2)
         where id = $1 and created_at >= $3",
        job.id,
        due_in.as_secs_f64(),
        aged_out.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The newest messages of an account that still have their contents, oldest first: at most `messages`, among the newest
/// `entries` entries.
pub(super) async fn newest_messages(
    pool: &PgPool,
    stream_id: i64,
    account_id: i64,
    entries: i64,
    messages: i64,
) -> Result<Vec<Seq>, Error> {
    let mut seqs = sqlx::query_scalar!(
        r#"select e.seq as "seq!" from (
             select seq, author, kind, content is not null as has_content from entry_content
             where stream_id = $1 order by seq desc limit $3
         ) e
         where e.author = $2 and e.kind = $4 and e.has_content order by e.seq desc limit $5"#,
        stream_id,
        account_id,
        entries,
        EntryKind::Message.to_db(),
        messages
    )
    .fetch_all(pool)
    .await?;
    seqs.reverse();
    Ok(seqs.into_iter().map(Seq::from_db).collect())
}
