//! SQL of what operators see and decide.

use crate::federation::peers::{KeyState, Policy};
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::Did;

pub(super) async fn list(pool: &PgPool, after: i64, limit: i64) -> Result<Vec<(i64, Did)>, Error> {
    let rows = sqlx::query!("select id, did from peer where id > $1 order by id limit $2", after, limit);
    let rows = rows.fetch_all(pool).await?;
    let peer = |id, did: &str| Ok((id, Did::parse(did).map_err(|_| Error::Corrupt("peer.did"))?));
    rows.into_iter().map(|row| peer(row.id, &row.did)).collect()
}

pub(super) async fn find_id(conn: &mut PgConnection, server: &Did) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar!("select id from peer where did = $1", server.as_str()).fetch_optional(conn).await?)
}

pub(super) async fn set_policy(conn: &mut PgConnection, peer_id: i64, policy: Policy) -> Result<(), Error> {
    sqlx::query!("update peer set policy = $2 where id = $1", peer_id, policy.to_db()).execute(conn).await?;
    Ok(())
}

/// Whether it has such a key.
pub(super) async fn set_key_state(
    conn: &mut PgConnection,
    peer_id: i64,
    key_id: &str,
    state: KeyState,
) -> Result<bool, Error> {
    let set = sqlx::query!(
        "update peer_key set state = $3 where peer_id = $1 and key_id = $2",
        peer_id,
        key_id,
        state.to_db()
    );
    Ok(set.execute(conn).await?.rows_affected() == 1)
}

pub(super) async fn release_if_nothing_is_held(conn: &mut PgConnection, peer_id: i64) -> Result<(), Error> {
    sqlx::query!(
        "update peer set held_until = null
         where id = $1 and not exists (select 1 from peer_key where peer_id = $1 and state = 0)",
        peer_id
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a stream has its home at that server, or an account of the server ever had a seat.
pub(super) async fn is_in_use(conn: &mut PgConnection, server: &Did) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select 1 from stream where home = $1) or exists (select 1 from seat where server = $1) as "used!""#,
        server.as_str()
    )
    .fetch_one(conn)
    .await?)
}

pub(super) async fn delete(conn: &mut PgConnection, peer_id: i64) -> Result<(), Error> {
    sqlx::query!("delete from peer_key where peer_id = $1", peer_id).execute(&mut *conn).await?;
    sqlx::query!("delete from peer where id = $1", peer_id).execute(conn).await?;
    Ok(())
}
