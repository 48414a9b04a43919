//! SQL on the kinds and features that peers support.

use crate::lexicon::peer::defs::Support;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Did, UnixMillis};

/// Time that the server keeps the `support` of a peer without a shared stream.
const KEPT: &str = "30 days";

/// Stores the `support` of a peer. Answers whether it differs from the stored one.
pub async fn put_support(
    conn: &mut PgConnection,
    server: &Did,
    support: Option<&Support>,
    now: UnixMillis,
) -> Result<bool, Error> {
    let none = Vec::new();
    let (version, protocol) = support.map_or(("", 1), |said| (said.version.as_str(), said.protocol_version));
    let (entries, deliveries, features) =
        support.map_or((&none, &none, &none), |said| (&said.entry_kinds, &said.delivery_kinds, &said.features));
    let changed = sqlx::query_scalar!(
        r#"with before as (
               select version, protocol_version, entry_kinds, delivery_kinds, features from peer_support where server = $1
           ), after as (
               insert into peer_support (server, version, protocol_version, entry_kinds, delivery_kinds, features, seen_at)
               values ($1, $2, $3, $4, $5, $6, $7)
               on conflict (server) do update
               set version = excluded.version, protocol_version = excluded.protocol_version,
                   entry_kinds = excluded.entry_kinds, delivery_kinds = excluded.delivery_kinds,
                   features = excluded.features, seen_at = excluded.seen_at
               returning version, protocol_version, entry_kinds, delivery_kinds, features
           )
           select not exists (select * from before intersect select * from after) as "changed!""#,
        server.as_str(),
        version,
        i64::try_from(protocol).unwrap_or(i64::MAX),
        entries,
        deliveries,
        features,
        now.to_datetime()
    )
    .fetch_one(conn)
    .await?;
    Ok(changed)
}

/// Makes deliveries to a peer due at once: the peer may now know kinds that its former version refused.
pub async fn hasten_deliveries(conn: &mut PgConnection, server: &Did, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "update delivery set due_at = $2 where peer = $1 and state = 'waiting' and due_at > $2",
        server.as_str(),
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records the digest of the `support` that this server sent to a home.
pub async fn put_told(conn: &mut PgConnection, home: &Did, digest: &str) -> Result<(), Error> {
    sqlx::query!("update peer_support set told = $2 where server = $1", home.as_str(), digest).execute(conn).await?;
    Ok(())
}

/// Makes one stream of each home due to be followed again whose recorded digest differs from `digest`. Answers how
/// many.
pub async fn tell_homes(pool: &PgPool, digest: &str, now: UnixMillis, limit: i64) -> Result<u64, Error> {
    let done = sqlx::query!(
        "update replica set follow_due_at = $2
         where stream_id in (
             select min(r.stream_id) from replica r join stream s on s.id = r.stream_id
             left join peer_support p on p.server = s.home
             where r.ended_at is null and r.stopped_by is null and s.state = 0 and p.told is distinct from $1
             group by s.home having bool_and(r.follow_due_at is null) limit $3
         )",
        digest,
        now.to_datetime(),
        limit
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Deletes the `support` of peers that were not heard for long and share no stream.
pub async fn forget_support(pool: &PgPool, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "delete from peer_support p
         where p.seen_at < $1::timestamptz - $2::text::interval
           and not exists (select 1 from follower f where f.server = p.server)
           and not exists (
               select 1 from replica r join stream s on s.id = r.stream_id where s.home = p.server and r.ended_at is null
           )",
        now.to_datetime(),
        KEPT
    )
    .execute(pool)
    .await?;
    Ok(())
}
