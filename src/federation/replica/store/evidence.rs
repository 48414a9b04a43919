//! SQL on evidence against homes, and on the servers that must get it.

use std::time::Duration;

use sqlx::PgExecutor;

use crate::federation::replica::evidence::Kind;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Did, Hash, Seq, UnixMillis};

/// Keeps a piece of evidence; its id, if it was not kept before.
pub async fn insert_evidence(
    on: impl PgExecutor<'_>,
    stream_id: i64,
    kind: Kind,
    seq: Seq,
    bytes: &[u8],
    now: UnixMillis,
) -> Result<Option<i64>, Error> {
    let digest = Hash::of(bytes);
    Ok(sqlx::query_scalar!(
        "insert into evidence (stream_id, kind, seq, digest, bytes, created_at) values ($1, $2, $3, $4, $5, $6)
         on conflict do nothing returning id",
        stream_id,
        kind.to_db(),
        seq.to_db(),
        digest.as_slice(),
        bytes,
        now.to_datetime()
    )
    .fetch_optional(on)
    .await?)
}

/// Every other server with a seat is to be shown it, the home too.
pub async fn insert_reports(
    conn: &mut PgConnection,
    evidence_id: i64,
    stream_id: i64,
    us: &Did,
    now: UnixMillis,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into evidence_report (evidence_id, server, due_at)
         select distinct $1::bigint, s.server, $4::timestamptz from seat s
         where s.stream_id = $2 and s.until_seq is null and s.server <> $3",
        evidence_id,
        stream_id,
        us.as_str(),
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub async fn insert_report(
    conn: &mut PgConnection,
    evidence_id: i64,
    server: &str,
    now: UnixMillis,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into evidence_report (evidence_id, server, due_at) values ($1, $2, $3)",
        evidence_id,
        server,
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A piece of evidence that is due to be shown to a server.
pub struct Report {
    pub evidence_id: i64,
    pub server: String,
    pub failures: i32,
    pub kind: i16,
    pub bytes: Vec<u8>,
    pub stream: String,
}

/// Due reports, leased to this worker.
pub async fn due_reports(pool: &PgPool, lease: Duration, now: UnixMillis, limit: i64) -> Result<Vec<Report>, Error> {
    Ok(sqlx::query_as!(
        Report,
        r#"with due as (
               select evidence_id, server from evidence_report where due_at <= $1
               order by due_at limit $2 for no key update skip locked
           ), leased as (
               update evidence_report r set due_at = $1::timestamptz + make_interval(secs => $3) from due
               where r.evidence_id = due.evidence_id and r.server = due.server
               returning r.evidence_id, r.server, r.failures
           )
           select l.evidence_id, l.server, l.failures, e.kind, e.bytes, s.public_id as stream
           from leased l join evidence e on e.id = l.evidence_id join stream s on s.id = e.stream_id"#,
        now.to_datetime(),
        limit,
        lease.as_secs_f64()
    )
    .fetch_all(pool)
    .await?)
}

pub async fn report_done(pool: &PgPool, report: &Report) -> Result<(), Error> {
    sqlx::query!(
        "delete from evidence_report where evidence_id = $1 and server = $2",
        report.evidence_id,
        report.server
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn put_off_report(pool: &PgPool, report: &Report, pause: Duration, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "update evidence_report set failures = failures + 1, due_at = $3::timestamptz + make_interval(secs => $4)
         where evidence_id = $1 and server = $2",
        report.evidence_id,
        report.server,
        now.to_datetime(),
        pause.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}
