//! SQL on followers of older versions.

use crate::storage::{Error, PgConnection};

/// Servers that follow the stream and do not know that later kind or feature; at most `limit`.
pub(in crate::log) async fn outdated_followers(
    conn: &mut PgConnection,
    stream_id: i64,
    kind: Option<&str>,
    feature: Option<&str>,
    limit: i64,
) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        "select f.server from follower f left join peer_support p on p.server = f.server
         where f.stream_id = $1
           and (($2::text is not null and $2 <> all(coalesce(p.entry_kinds, '{}')))
                or ($3::text is not null and $3 <> all(coalesce(p.features, '{}'))))
         order by f.server limit $4",
        stream_id,
        kind,
        feature,
        limit
    )
    .fetch_all(conn)
    .await?)
}
