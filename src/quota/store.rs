//! SQL of quotas.

use chrono::{DateTime, Utc};

use crate::storage::{Error, PgConnection, PgPool};

/// What an account uses, and what it may.
pub(super) struct Totals {
    pub bytes: u64,
    pub rows: u64,
    pub measured_at: Option<DateTime<Utc>>,
    /// An operator's word for this account.
    pub quota_bytes: Option<u64>,
    pub quota_rows: Option<u64>,
    /// Bytes and rows of the account's registrable domain, if it has one.
    pub domain: Option<(u64, u64)>,
}

pub(super) async fn totals(pool: &PgPool, account_id: i64) -> Result<Totals, Error> {
    let row = sqlx::query!(
        r#"select greatest(0, coalesce(u.log_bytes - u.freed_bytes, 0)) + coalesce(u.other_bytes, 0) as "bytes!",
                  coalesce(u.log_rows + u.other_rows, 0) as "rows!", u.measured_at as "measured_at?",
                  q.bytes as "quota_bytes?", q.rows as "quota_rows?", d.bytes as "domain_bytes?", d.rows as "domain_rows?"
           from (select $1::bigint as id) a
           left join account_usage u on u.account_id = a.id
           left join account_quota q on q.account_id = a.id
           left join domain_usage d on d.domain = u.domain"#,
        account_id
    )
    .fetch_one(pool)
    .await?;
    let count = |value: i64| u64::try_from(value).unwrap_or_default();
    Ok(Totals {
        bytes: count(row.bytes),
        rows: count(row.rows),
        measured_at: row.measured_at,
        quota_bytes: row.quota_bytes.map(count),
        quota_rows: row.quota_rows.map(count),
        domain: row.domain_bytes.map(count).zip(row.domain_rows.map(count)),
    })
}

pub(super) async fn find_account(pool: &PgPool, did: &str) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar!("select id from account where did = $1", did).fetch_optional(pool).await?)
}

/// Quotas of one account in the place of the settings; none: as the settings say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Override {
    pub bytes: Option<u64>,
    pub rows: Option<u64>,
}

/// Sets an account's own quotas, or takes them back. False: no such account is here.
pub async fn set_override(pool: &PgPool, did: &str, set: Override, now: DateTime<Utc>) -> Result<bool, Error> {
    let quota = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    let set = sqlx::query!(
        "insert into account_quota (account_id, bytes, rows, set_at)
         select id, $2, $3, $4 from account where did = $1
         on conflict (account_id) do update set bytes = excluded.bytes, rows = excluded.rows, set_at = excluded.set_at",
        did,
        quota(set.bytes),
        quota(set.rows),
        now
    )
    .execute(pool)
    .await?;
    Ok(set.rows_affected() > 0)
}

/// Whether this transaction may sum up; another instance may be at it.
pub(super) async fn try_lock(conn: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended('usage of accounts', 0)) as "locked!""#
    )
    .fetch_one(conn)
    .await?)
}

/// Adds the next entries of the log to the totals of their authors, at most `limit`; how many there were. Below the
/// horizon: beyond it an older entry may still appear.
pub(super) async fn count_entries(conn: &mut PgConnection, limit: i64) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"with mark as materialized (
               select pos from log_sweep where job = 50
           ), page as materialized (
               select e.pos, e.author, e.bytes
               from mark cross join lateral (
                   select pos, author, octet_length(header) + content_bytes as bytes from entry
                   where entry.pos > mark.pos and entry.pos < (
                       select base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10) from log_origin
                   )
                   order by entry.pos limit $1
               ) e
           ), counted as (
               insert into account_usage (account_id, log_bytes, log_rows)
               select author, sum(bytes), count(*) from page where author is not null group by author order by author
               on conflict (account_id) do update
               set log_bytes = account_usage.log_bytes + excluded.log_bytes,
                   log_rows = account_usage.log_rows + excluded.log_rows
           ), moved as (
               update log_sweep set pos = (select max(pos) from page) where job = 50 and exists (select 1 from page)
           )
           select count(*) as "count!" from page"#,
        limit
    )
    .fetch_one(conn)
    .await?)
}

/// Accounts whose totals are the oldest, if they are older than `before`.
pub(super) async fn stale_accounts(pool: &PgPool, before: DateTime<Utc>, limit: i64) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select account_id from account_usage where measured_at is null or measured_at < $1
         order by measured_at nulls first limit $2",
        before,
        limit
    )
    .fetch_all(pool)
    .await?)
}

pub(super) async fn dids(pool: &PgPool, account_ids: &[i64]) -> Result<Vec<(i64, String)>, Error> {
    let rows =
        sqlx::query!("select id, did from account where id = any($1) order by id", account_ids).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.did)).collect())
}

/// Sums what the accounts have in every table that is counted by account (`tables.rs`). In the order of their ids.
pub(super) async fn measure_accounts(
    conn: &mut PgConnection,
    account_ids: &[i64],
    domains: &[Option<String>],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into account_usage (account_id, domain, other_bytes, other_rows, measured_at)
         select n.id, n.domain, m.bytes, m.rows, $3
         from unnest($1::bigint[], $2::text[]) n (id, domain)
         cross join lateral (
             select coalesce(sum(t.bytes), 0) as bytes, sum(t.rows) as rows from (
                 select count(*) as rows, sum(octet_length(body::text)) as bytes from answer where account_id = n.id
                 union all select count(*), sum(octet_length(other)) from block where account_id = n.id
                 union all select count(*), sum(octet_length(coalesce(name, ''))) from device where account_id = n.id
                 union all select count(*), sum(octet_length(bytes)) from device_link where account_id = n.id
                 union all select count(*), sum(octet_length(bytes)) from group_info where account_id = n.id
                 union all select count(*), sum(octet_length(coalesce(offer, ''))) from invitation where account_id = n.id
                 union all select count(*), sum(octet_length(bytes)) from key_package where account_id = n.id
                 union all select count(*), sum(octet_length(body)) from outbox where account_id = n.id
                 union all select count(*), 0 from read_position where account_id = n.id
                 union all select count(*), sum(octet_length(coalesce(note, ''))) from relationship where account_id = n.id
                 union all select count(*), 0 from seat where account_id = n.id
                 union all select count(*), sum(octet_length(bytes)) from welcome where account_id = n.id
             ) t
         ) m
         order by n.id
         on conflict (account_id) do update
         set domain = excluded.domain, other_bytes = excluded.other_bytes, other_rows = excluded.other_rows,
             measured_at = excluded.measured_at",
        account_ids,
        domains as &[Option<String>],
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sums what the accounts of each of these domains have.
pub(super) async fn measure_domains(
    conn: &mut PgConnection,
    domains: &[String],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into domain_usage (domain, bytes, rows, measured_at)
         select n.domain, m.bytes, m.rows, $2 from unnest($1::text[]) n (domain)
         cross join lateral (
             select coalesce(sum(greatest(0, u.log_bytes - u.freed_bytes) + u.other_bytes), 0) as bytes,
                    coalesce(sum(u.log_rows + u.other_rows), 0) as rows
             from account_usage u where u.domain = n.domain
         ) m
         order by n.domain
         on conflict (domain) do update
         set bytes = excluded.bytes, rows = excluded.rows, measured_at = excluded.measured_at",
        domains,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
