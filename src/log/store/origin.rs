//! SQL on the log's origin.

use sqlx::PgConnection;

use crate::log::Error;

pub(in crate::log) struct Origin {
    pub system_id: i64,
    pub timeline: i32,
    pub incarnation: i64,
}

pub(in crate::log) async fn lock_origin(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("lock table log_origin in access exclusive mode").execute(conn).await?;
    Ok(())
}

pub(in crate::log) async fn cluster_identity(conn: &mut PgConnection) -> Result<(i64, i32), Error> {
    let row = sqlx::query!(
        r#"select s.system_identifier as "system_id!", c.timeline_id as "timeline!"
           from pg_control_system() s, pg_control_checkpoint() c"#
    )
    .fetch_one(conn)
    .await?;
    Ok((row.system_id, row.timeline))
}

pub(in crate::log) async fn find_origin(conn: &mut PgConnection) -> Result<Option<Origin>, Error> {
    Ok(sqlx::query_as!(Origin, "select system_id, timeline, incarnation from log_origin").fetch_optional(conn).await?)
}

pub(in crate::log) async fn insert_origin(
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

pub(in crate::log) async fn raise_origin(
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
