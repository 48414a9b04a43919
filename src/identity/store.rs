//! All SQL of replay memory.

use std::collections::HashSet;

use crate::storage::{PgConnection, PgPool};

/// The result of one batch.
pub(super) struct Remembered {
    /// Keys that were not there before.
    pub fresh: HashSet<Vec<u8>>,
    /// Unix second; tokens issued before it may have been forgotten. 0: nothing was.
    pub since_s: i64,
}

/// Inserts what is new, in one statement. `keys` and `exps_s` are of equal length.
pub(super) async fn remember(
    pool: &PgPool,
    keys: &[Vec<u8>],
    exps_s: &[i64],
    now_s: i64,
) -> Result<Remembered, sqlx::Error> {
    let row = sqlx::query!(
        r#"with fresh as (
            insert into replay (key, exp_s)
            select * from unnest($1::bytea[], $2::bigint[])
            on conflict do nothing
            returning key
        )
        select (select since_s from replay_since) as since_s,
               coalesce(array_agg(key), '{}') as "fresh!: Vec<Vec<u8>>"
        from fresh"#,
        keys,
        exps_s
    )
    .fetch_one(pool)
    .await?;
    let since_s = match row.since_s {
        Some(since_s) => since_s,
        None => note_loss(pool, now_s).await?,
    };
    Ok(Remembered { fresh: row.fresh.into_iter().collect(), since_s })
}

/// If the database crashed and emptied its unlogged tables: notes since when we remember again. The first replica's note
/// holds for all.
pub(super) async fn note_loss(pool: &PgPool, now_s: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        "insert into replay_since (since_s) values ($1)
         on conflict (id) do update set id = excluded.id
         returning since_s",
        // The second has begun: tokens of its first part may have been forgotten.
        now_s + 1
    )
    .fetch_one(pool)
    .await
}

/// Tokens issued before this second are not taken any more: they may have been seen and forgotten.
pub(super) async fn forget(conn: &mut PgConnection, now_s: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into replay_since (since_s) values ($1)
         on conflict (id) do update set since_s = greatest(replay_since.since_s, excluded.since_s)",
        now_s + 1
    )
    .execute(conn)
    .await
    .map(|_| ())
}

/// Makes partitions ahead and drops those that ran out more than `keep_s` seconds ago.
pub(super) async fn rotate(pool: &PgPool, now_s: i64, keep_s: i64) -> Result<(), sqlx::Error> {
    sqlx::query!("select replay_rotate($1, $2) is null as done", now_s, keep_s).fetch_one(pool).await.map(|_| ())
}
