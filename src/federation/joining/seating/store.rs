//! SQL on seats that their accounts have not taken.

use chrono::{DateTime, Utc};

use crate::storage::{Error, PgConnection};
use crate::types::{Did, Seq};

/// Holds those of these new seats whose accounts took no invitation to them; answers which accounts of this server.
pub(super) async fn hold_unaccepted(
    conn: &mut PgConnection,
    stream_id: i64,
    seats: &[(Did, Seq)],
) -> Result<Vec<i64>, Error> {
    let (dids, from): (Vec<String>, Vec<i64>) =
        seats.iter().map(|(account, from)| (account.to_string(), from.to_db())).unzip();
    let held = sqlx::query!(
        r#"update seat s set held = true
           from unnest($2::text[], $3::bigint[]) n (did, from_seq)
           join account a on a.did = n.did
           join stream t on t.id = $1
           where s.stream_id = $1 and s.account_id = a.id and s.from_seq = n.from_seq and s.until_seq is null
             and not exists (
                 select 1 from invitation i
                 where i.account_id = a.id and i.stream = t.public_id and i.state in (2, 3) and i.from_seq >= n.from_seq
             )
           returning a.id, a.stream_id is not null as "is_here!""#,
        stream_id,
        &dids,
        &from
    )
    .fetch_all(conn)
    .await?;
    // Also of accounts that are not local: an account may move here later.
    Ok(held.into_iter().filter(|row| row.is_here).map(|row| row.id).collect())
}

/// The claims of accounts' key packages for this stream and its home.
pub(super) struct Claim {
    pub account_id: i64,
    pub claimer: Did,
    /// Public id.
    pub stream: String,
}

/// The claims of these accounts' key packages since then that no Welcome has used.
pub(super) async fn claims(
    conn: &mut PgConnection,
    stream_id: i64,
    seats: &[(Did, Seq)],
    since: DateTime<Utc>,
) -> Result<Vec<Claim>, Error> {
    let targets: Vec<String> = seats.iter().map(|(account, _)| account.to_string()).collect();
    let rows = sqlx::query!(
        "select distinct c.target_id, a.did, t.public_id
         from stream t
         join key_package_claim c on c.stream = t.public_id and c.home = t.home
         join account a on a.id = c.claimer_id
         join account target on target.id = c.target_id
         where t.id = $1 and target.did = any($2) and c.created_at > $3 and c.spent_at is null",
        stream_id,
        &targets,
        since
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let claimer = Did::parse(&row.did).map_err(|_| Error::Corrupt("account.did"))?;
            Ok(Claim { account_id: row.target_id, claimer, stream: row.public_id })
        })
        .collect()
}

/// Shows these accounts their open seats.
pub(super) async fn show(conn: &mut PgConnection, stream_id: i64, account_ids: &[i64]) -> Result<(), Error> {
    sqlx::query!(
        "update seat set held = false, left_here = false where stream_id = $1 and account_id = any($2) and until_seq is null and held",
        stream_id,
        account_ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Shows one account its open seat, by the stream's public id.
pub async fn show_seat(conn: &mut PgConnection, account_id: i64, stream: &str) -> Result<(), Error> {
    sqlx::query!(
        "update seat s set held = false, left_here = false from stream t
         where t.public_id = $2 and s.stream_id = t.id and s.account_id = $1 and s.until_seq is null and s.held",
        account_id,
        stream
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A seat that began with this entry is not shown; one that the account had before stays as it is.
pub async fn hold_seat(conn: &mut PgConnection, account_id: i64, stream: &str, from: Seq) -> Result<(), Error> {
    sqlx::query!(
        "update seat s set held = true from stream t
         where t.public_id = $2 and s.stream_id = t.id and s.account_id = $1 and s.from_seq = $3
           and s.until_seq is null",
        account_id,
        stream,
        from.to_db()
    )
    .execute(conn)
    .await?;
    Ok(())
}
