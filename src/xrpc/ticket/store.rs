//! SQL of tickets.

use chrono::{DateTime, Utc};

use crate::log::Author;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{DeviceId, Did, Hash};
use crate::xrpc::Device;

/// Lets go of tickets that ran out, and of this device's oldest beyond `keep`. Calls of one device come one by one.
pub(super) async fn make_room(
    conn: &mut PgConnection,
    device_row: i64,
    keep: i64,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('ticket'), hashint8($1)) is null as locked", device_row)
        .fetch_one(&mut *conn)
        .await?;
    sqlx::query!(
        "delete from ticket where hash in (
             (select hash from ticket where device_id = $1 order by expires_at desc, hash offset $2)
             union all
             (select hash from ticket where expires_at <= $3 limit 100)
         )",
        device_row,
        keep,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn insert(
    conn: &mut PgConnection,
    hash: &Hash,
    device_row: i64,
    nsid: &str,
    expires_at: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into ticket (hash, device_id, nsid, expires_at) values ($1, $2, $3, $4)",
        hash.as_slice(),
        device_row,
        nsid,
        expires_at
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the ticket away, if it can be spent: one statement, so that of several calls one has it.
pub(super) async fn spend(pool: &PgPool, hash: &Hash, nsid: &str, now: DateTime<Utc>) -> Result<Option<Device>, Error> {
    let row = sqlx::query!(
        "delete from ticket t using device d, account a
         where t.hash = $1 and t.nsid = $2 and t.expires_at > $3
           and d.id = t.device_id and d.state <> 'revoked' and a.id = d.account_id
           and a.suspended_at is null
         returning d.id, d.account_id, d.public_id, d.public_key, d.state, a.did",
        hash.as_slice(),
        nsid,
        now
    )
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        Ok(Device {
            author: Author {
                account_id: row.account_id,
                device_row: row.id,
                did: Did::parse(&row.did).map_err(|_| Error::Corrupt("account.did"))?,
                device: DeviceId::parse(&row.public_id).map_err(|_| Error::Corrupt("device.public_id"))?,
            },
            public_key: row.public_key,
            certified: row.state == "certified",
            bound: None,
            via: None,
            about_stream: false,
        })
    })
    .transpose()
}
