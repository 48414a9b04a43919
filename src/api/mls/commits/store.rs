//! SQL of the commit intake: leaves, claimed packages, GroupInfo, Welcomes.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use crate::log::Sealed;
use crate::log::body::WelcomeBody;
use crate::mls::{StoredLeaf, VerifiedCommit};
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{DeviceId, Did, Epoch};

/// A claimed key package may be used this long, and does not return to its pool.
pub(super) const CLAIM_LIFETIME: TimeDelta = TimeDelta::hours(24);
/// GroupInfos kept, so that a poisoned one can be passed over.
const GROUP_INFOS: i64 = 3;
/// Claims of one last-resort package that commits may use in a day. Strangers have this many of their own, so that they
/// take none from contacts.
const LAST_RESORT_USES: i64 = 10;

fn did(text: &str) -> Result<Did, Error> {
    Did::parse(text).map_err(|_| Error::Corrupt("account.did"))
}

fn device(text: &str) -> Result<DeviceId, Error> {
    DeviceId::parse(text).map_err(|_| Error::Corrupt("device.public_id"))
}

/// The leaves that the tree holds now, with their devices' keys.
pub(super) async fn leaves(pool: &PgPool, stream_id: i64) -> Result<Vec<StoredLeaf>, Error> {
    let rows = sqlx::query!(
        r#"select a.did, d.public_id,
                  array(
                      select k.public_key from device_key k where k.device_id = d.id
                      union select k.public_key from leaf_key k where k.device_id = d.id and k.stream_id = $1
                  ) as "keys!: Vec<Vec<u8>>"
           from seat_device l
           join device d on d.id = l.device_id join account a on a.id = l.account_id
           where l.stream_id = $1 and l.until_seq is null"#,
        stream_id
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(StoredLeaf { account: did(&row.did)?, device: device(&row.public_id)?, signature_keys: row.keys })
        })
        .collect()
}

/// A package that was claimed for a stream.
pub(super) struct ClaimedPackage {
    pub account: Did,
    pub device: DeviceId,
    pub signature_keys: Vec<Vec<u8>>,
}

/// Packages claimed for this stream since `since` and not used yet, by ref. A device that was revoked and an account that
/// is suspended have none.
pub(super) async fn claimed_packages(
    pool: &PgPool,
    stream_id: i64,
    references: &[Vec<u8>],
    since: DateTime<Utc>,
) -> Result<HashMap<Vec<u8>, ClaimedPackage>, Error> {
    let rows = sqlx::query!(
        r#"select distinct k.ref as reference, a.did, d.public_id,
                array(select s.public_key from device_key s where s.device_id = d.id) as "keys!: Vec<Vec<u8>>"
         from key_package k
         join key_package_claim c on c.key_package_id = k.id and c.stream_id = $1
         join device d on d.id = k.device_id and d.state = 'certified'
         join account a on a.id = k.account_id and a.suspended_at is null
         where k.ref = any($2) and c.created_at > $3 and c.spent_at is null
           and (not k.last_resort or (
               select count(*) from key_package_claim used
               where used.key_package_id = k.id and used.outside = c.outside and used.spent_at > $3
           ) < $4)"#,
        stream_id,
        references,
        since,
        LAST_RESORT_USES
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let package =
                ClaimedPackage { account: did(&row.did)?, device: device(&row.public_id)?, signature_keys: row.keys };
            Ok((row.reference, package))
        })
        .collect()
}

/// Marks the claims of this stream as used. The stream's lock lets one commit at a time do so.
pub(super) async fn spend_claims(
    conn: &mut PgConnection,
    stream_id: i64,
    references: &[Vec<u8>],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "update key_package_claim c set spent_at = $3 from key_package k
         where c.key_package_id = k.id and c.stream_id = $1 and k.ref = any($2) and c.spent_at is null",
        stream_id,
        references,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores the GroupInfo of the new epoch for the account that brought it, and drops those that are too old to be of use.
pub(super) async fn insert_group_info(
    conn: &mut PgConnection,
    stream_id: i64,
    (verified, by): (&VerifiedCommit, i64),
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let epoch = verified.epoch().to_db();
    sqlx::query!(
        "insert into group_info (stream_id, epoch, bytes, created_at, account_id) values ($1, $2, $3, $4, $5)",
        stream_id,
        epoch,
        verified.group_info(),
        now,
        by
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("delete from group_info where stream_id = $1 and epoch <= $2", stream_id, epoch - GROUP_INFOS)
        .execute(conn)
        .await?;
    Ok(())
}

/// Stores the Welcome once, for the account that brought it. For whom it is, say pointers and deliveries.
pub(super) async fn insert_welcome(
    conn: &mut PgConnection,
    stream_id: i64,
    entry: &Sealed,
    epoch: Epoch,
    (welcome, by): (&[u8], i64),
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        "insert into welcome (stream_id, term, seq, epoch, bytes, created_at, account_id)
         values ($1, $2, $3, $4, $5, $6, $7) returning id",
        stream_id,
        entry.term.to_db(),
        entry.seq.to_db(),
        epoch.to_db(),
        welcome,
        now,
        by
    )
    .fetch_one(conn)
    .await?)
}

/// For devices of accounts of this server; those that are held show when their account takes the invitation.
pub(super) async fn insert_pointers<'a>(
    conn: &mut PgConnection,
    welcome_id: i64,
    invited: impl Iterator<Item = (&'a WelcomeBody, bool)>,
) -> Result<(), Error> {
    let (mut devices, mut references, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for (body, held) in invited {
        devices.extend(body.device.iter().map(ToString::to_string));
        references.extend(body.refs.iter().map(|reference| reference.0.clone()));
        states.resize(devices.len(), if held { "held" } else { "waiting" }.to_owned());
    }
    sqlx::query!(
        "insert into welcome_pointer (welcome_id, device_id, ref, state)
         select $1, d.id, n.reference, n.state
         from unnest($2::text[], $3::bytea[], $4::text[]) n (device, reference, state)
         join device d on d.public_id = n.device and d.state <> 'foreign'",
        welcome_id,
        &devices,
        &references,
        &states
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes rows for accounts and devices of other servers that an entry is about to name. (account, device, server)
pub(super) async fn know_devices(
    conn: &mut PgConnection,
    named: &[(&Did, &str, &Did)],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    // In order, so that two who make the same rows never wait for each other in a circle.
    let named: BTreeSet<(&str, &str, &str)> =
        named.iter().map(|(account, device, server)| (account.as_str(), *device, server.as_str())).collect();
    let accounts: Vec<String> = named.iter().map(|(account, ..)| (*account).to_owned()).collect();
    let devices: Vec<String> = named.iter().map(|(_, device, _)| (*device).to_owned()).collect();
    let servers: Vec<String> = named.iter().map(|(.., server)| (*server).to_owned()).collect();
    sqlx::query!(
        "insert into account (did, server, created_at)
         select distinct on (n.did) n.did, n.server, $3 from unnest($1::text[], $2::text[]) n (did, server)
         order by n.did
         on conflict (did) do update set server = excluded.server where account.server is distinct from excluded.server",
        &accounts,
        &servers,
        now
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into device (account_id, public_id, public_key, alg, kind, state, created_at)
         select a.id, n.device, '', 'EdDSA', 'app', 'foreign', $3
         from unnest($1::text[], $2::text[]) n (did, device) join account a on a.did = n.did
         on conflict do nothing",
        &accounts,
        &devices,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores the signature key of another server's device, as the tree shows it.
pub(super) async fn keep_leaf_key(
    conn: &mut PgConnection,
    stream_id: i64,
    account: &Did,
    device: &str,
    key: &[u8],
) -> Result<(), Error> {
    sqlx::query!(
        "with named as (
             select d.id from device d join account a on a.id = d.account_id where a.did = $2 and d.public_id = $3
         ), gone as (
             delete from leaf_key k using named
             where k.stream_id = $1 and k.device_id = named.id and k.public_key <> $4
         )
         insert into leaf_key (stream_id, device_id, public_key)
         select $1, id, $4 from named on conflict do nothing",
        stream_id,
        account.as_str(),
        device,
        key
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn account_ids(conn: &mut PgConnection, dids: &[String]) -> Result<HashMap<String, i64>, Error> {
    let rows = sqlx::query!("select did, id from account where did = any($1)", dids).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.did, row.id)).collect())
}

/// The GroupInfo of this epoch, with its tree.
pub(super) async fn find_group_info(pool: &PgPool, stream_id: i64, epoch: Epoch) -> Result<Option<Vec<u8>>, Error> {
    let bytes = sqlx::query_scalar!(
        "select bytes from group_info where stream_id = $1 and epoch = $2",
        stream_id,
        epoch.to_db()
    );
    Ok(bytes.fetch_optional(pool).await?)
}
