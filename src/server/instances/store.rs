use std::time::Duration;

use super::Roll;
use crate::config::Role;
use crate::storage::{Error, PgPool};

/// Renews the row of one instance, and counts the other instances that renewed theirs within `live_for`.
pub(super) async fn renew(pool: &PgPool, id: &str, role: Role, live_for: Duration) -> Result<Roll, Error> {
    let others = sqlx::query_as!(
        Roll,
        r#"with renewed as (
               insert into instance (id, role, seen_at) values ($1, $2, clock_timestamp())
               on conflict (id) do update set seen_at = excluded.seen_at
           )
           select count(*) filter (where role = 'all') as "all!", count(*) filter (where role = 'api') as "api!",
                  count(*) filter (where role = 'worker') as "worker!"
           from instance where id <> $1 and seen_at > clock_timestamp() - make_interval(secs => $3)"#,
        id,
        role.name(),
        live_for.as_secs_f64()
    )
    .fetch_one(pool)
    .await?;
    Ok(others.with(role))
}

/// Deletes the rows of instances that ended without deleting theirs.
pub(super) async fn forget(pool: &PgPool, gone_for: Duration) -> Result<(), Error> {
    sqlx::query!(
        "delete from instance where seen_at < clock_timestamp() - make_interval(secs => $1)",
        gone_for.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn delete(pool: &PgPool, id: &str) -> Result<(), Error> {
    sqlx::query!("delete from instance where id = $1", id).execute(pool).await?;
    Ok(())
}
