//! SQL of admission.

use chrono::{DateTime, TimeDelta, Utc};

use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Did, Hash};

/// How exact the time of an account's last proof is.
const PROVEN_EVERY: TimeDelta = TimeDelta::hours(1);

pub(super) async fn is_allowed(conn: &mut PgConnection, account: &Did) -> Result<bool, Error> {
    let allowed = sqlx::query_scalar!(
        r#"select exists (select 1 from account_allowance where did = $1) as "allowed!""#,
        account.as_str()
    );
    Ok(allowed.fetch_one(conn).await?)
}

pub(super) async fn insert_allowance(conn: &mut PgConnection, account: &Did, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "insert into account_allowance (did, created_at) values ($1, $2) on conflict do nothing",
        account.as_str(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn insert_invite(
    conn: &mut PgConnection,
    code: Hash,
    uses: u16,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into invite (code_hash, uses_left, expires_at, created_at) values ($1, $2, $3, $4)",
        code.as_slice(),
        i32::from(uses),
        expires_at,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes one use of the code; whether there was one. Two at once take turns at its row.
pub(super) async fn use_invite(conn: &mut PgConnection, code: Hash, now: DateTime<Utc>) -> Result<bool, Error> {
    let used = sqlx::query!(
        "update invite set uses_left = uses_left - 1 where code_hash = $1 and uses_left > 0 and expires_at > $2",
        code.as_slice(),
        now
    );
    Ok(used.execute(conn).await?.rows_affected() == 1)
}

pub(super) async fn set_account_proven(pool: &PgPool, device: &str, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "update device set account_proven_at = $2, last_seen_at = $2
         where public_id = $1 and coalesce(account_proven_at, created_at) < $3",
        device,
        now,
        now - PROVEN_EVERY
    )
    .execute(pool)
    .await?;
    Ok(())
}
