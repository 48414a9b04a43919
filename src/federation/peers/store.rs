//! All SQL of peers and their keys.

use chrono::{DateTime, TimeDelta, Utc};

use super::document::{Purpose, ServerKey};
use super::{KeyState, KnownKey, KnownPeer, Policy};
use crate::federation::OwnKey;
use crate::identity::{Curve, PublicKey};
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::Did;

/// How often a sight is written.
const WRITTEN_EVERY: TimeDelta = TimeDelta::hours(1);

/// A peer that was ever met, with every key that it ever showed.
pub(super) async fn find(pool: &PgPool, server: &Did) -> Result<Option<KnownPeer>, Error> {
    let rows = sqlx::query!(
        r#"select p.id, p.domain, p.policy, p.first_seen_at, p.last_seen_at, p.held_until, p.incarnation,
                  k.key_id as "key_id?", k.purpose as "purpose?", k.alg as "alg?", k.public_key as "public_key?",
                  k.state as "state?"
           from peer p left join peer_key k on k.peer_id = p.id where p.did = $1"#,
        server.as_str()
    )
    .fetch_all(pool)
    .await?;
    let mut found = None;
    for row in rows {
        let peer = found.get_or_insert_with(|| KnownPeer {
            id: row.id,
            did: server.clone(),
            domain: row.domain.as_str().into(),
            policy: Policy::from_db(row.policy),
            first_seen_at: row.first_seen_at,
            last_seen_at: row.last_seen_at,
            held_until: row.held_until,
            incarnation: row.incarnation,
            keys: Vec::new(),
        });
        let (Some(id), Some(purpose), Some(alg), Some(raw), Some(state)) =
            (row.key_id, row.purpose, row.alg, row.public_key, row.state)
        else {
            continue;
        };
        let key = Curve::from_alg(&alg).and_then(|curve| PublicKey::from_raw(curve, &raw).ok());
        let key = key.ok_or(Error::Corrupt("peer_key.public_key"))?;
        let key = ServerKey { id, purpose: Purpose::from_db(purpose), key };
        peer.keys.push(KnownKey { key, state: KeyState::from_db(state) });
    }
    Ok(found)
}

/// Makes the row of a server that is met for the first time, or finds it.
pub(super) async fn insert(
    conn: &mut PgConnection,
    server: &Did,
    domain: &str,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        "insert into peer (did, domain, first_seen_at, last_seen_at) values ($1, $2, $3, $3)
         on conflict (did) do update set did = excluded.did returning id",
        server.as_str(),
        domain,
        now
    )
    .fetch_one(conn)
    .await?)
}

/// Remembers keys that were not known. What is known keeps its bytes and its state.
pub(super) async fn pin(
    conn: &mut PgConnection,
    peer_id: i64,
    keys: &[&ServerKey],
    state: KeyState,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    for key in keys {
        sqlx::query!(
            "insert into peer_key (peer_id, key_id, purpose, alg, public_key, state, first_seen_at, last_seen_at)
             values ($1, $2, $3, $4, $5, $6, $7, $7) on conflict do nothing",
            peer_id,
            key.id,
            key.purpose.to_db(),
            key.key.alg(),
            key.key.raw(),
            state.to_db(),
            now
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Nothing goes either way until then; a hold that stands already is not made longer.
pub(super) async fn hold(conn: &mut PgConnection, peer_id: i64, until: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update peer set held_until = coalesce(held_until, $2) where id = $1", peer_id, until)
        .execute(conn)
        .await?;
    Ok(())
}

/// Queues a notice for every account of this server that shares a stream with one of that server.
pub(super) async fn tell_who_shares(
    conn: &mut PgConnection,
    server: &Did,
    kind: i16,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into outbox (account_id, kind, body, created_at)
         select distinct ours.account_id, $2::smallint, $3::bytea, $4::timestamptz
         from seat theirs join stream t on t.id = theirs.stream_id
         join seat ours on ours.stream_id = theirs.stream_id and ours.until_seq is null and not ours.held
         join account a on a.id = ours.account_id and a.stream_id is not null
         where theirs.until_seq is null and (theirs.server = $1 or t.home = $1) and ours.server <> $1",
        server.as_str(),
        kind,
        body,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Accepts the held keys that were first seen by then, and deletes those that the peer no longer publishes. Answers
/// when the earliest of the remaining held keys was first seen.
pub(super) async fn release(
    conn: &mut PgConnection,
    peer_id: i64,
    shown: &[String],
    first_seen_by: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Error> {
    sqlx::query!("delete from peer_key where peer_id = $1 and state = 0 and key_id <> all($2)", peer_id, shown)
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "update peer_key set state = 1 where peer_id = $1 and state = 0 and first_seen_at <= $2",
        peer_id,
        first_seen_by
    )
    .execute(&mut *conn)
    .await?;
    let earliest =
        sqlx::query_scalar!("select min(first_seen_at) from peer_key where peer_id = $1 and state = 0", peer_id);
    Ok(earliest.fetch_one(conn).await?)
}

/// Sets the end of the peer's hold, in which neither server sends to the other.
pub(super) async fn set_held(conn: &mut PgConnection, peer_id: i64, until: Option<DateTime<Utc>>) -> Result<(), Error> {
    sqlx::query!("update peer set held_until = $2 where id = $1", peer_id, until).execute(conn).await?;
    Ok(())
}

pub(super) async fn seen(pool: &PgPool, peer: &KnownPeer, now: DateTime<Utc>) -> Result<(), Error> {
    if now - peer.last_seen_at < WRITTEN_EVERY {
        return Ok(());
    }
    sqlx::query!("update peer set last_seen_at = $2 where id = $1", peer.id, now).execute(pool).await?;
    Ok(())
}

/// Whether the account registered here, and was not found to name another server since.
pub(in crate::federation) async fn is_ours(pool: &PgPool, account: &Did) -> Result<bool, Error> {
    let ours = sqlx::query_scalar!(
        r#"select exists (
               select 1 from account where did = $1 and stream_id is not null and server is null
           ) as "ours!""#,
        account.as_str()
    );
    Ok(ours.fetch_one(pool).await?)
}

/// This server's own keys, oldest first.
pub(in crate::federation) async fn list_own(pool: &PgPool) -> Result<Vec<OwnKey>, Error> {
    let rows = sqlx::query!(
        "select key_id, purpose, multikey, not_before, not_after, endorsed_by, endorsement from server_key
         order by not_before, key_id"
    )
    .fetch_all(pool)
    .await?;
    let key = rows.into_iter().map(|row| OwnKey {
        id: row.key_id,
        purpose: Purpose::from_db(row.purpose),
        multikey: row.multikey,
        not_before: row.not_before.into(),
        not_after: row.not_after.map(Into::into),
        endorsed_by: row.endorsed_by,
        endorsement: row.endorsement,
    });
    Ok(key.collect())
}

/// A replica may have written it a moment ago.
pub(in crate::federation) async fn insert_own(pool: &PgPool, key: &OwnKey) -> Result<(), Error> {
    sqlx::query!(
        "insert into server_key (key_id, purpose, multikey, not_before, endorsed_by, endorsement)
         values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        key.id,
        key.purpose.to_db(),
        key.multikey,
        key.not_before.to_datetime(),
        key.endorsed_by,
        key.endorsement
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Marks keys as retired that are no longer published, and published keys as in use.
pub(in crate::federation) async fn retire_own(
    pool: &PgPool,
    published: &[String],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "update server_key set not_after = case when key_id = any($1) then null else $2::timestamptz end
         where (not_after is null) <> (key_id = any($1))",
        published,
        now
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether this is a later life of its database than the one known; remembers it.
pub(in crate::federation) async fn rises(pool: &PgPool, server: &Did, incarnation: i64) -> Result<Option<i64>, Error> {
    let before = sqlx::query_scalar!(
        "update peer p set incarnation = $2 from peer old
         where p.did = $1 and old.id = p.id and old.incarnation < $2 returning old.incarnation",
        server.as_str(),
        incarnation
    );
    Ok(before.fetch_optional(pool).await?)
}
