//! SQL on pairings.

use chrono::{DateTime, Utc};

use crate::identity::{Curve, PublicKey};
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::Hash;

/// Rows of pairings that are over, dropped before another is made.
const FORGOTTEN_AT_ONCE: i64 = 100;

pub(super) struct NewPairing<'a> {
    pub public_id: &'a str,
    pub key: &'a PublicKey,
    pub kind: &'a str,
    pub name: Option<&'a [u8]>,
    pub platform: Option<&'a str>,
    pub now: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// Keyed hash of the address that the request comes from.
    pub address: &'a str,
}

/// Limits on open pairings.
pub(super) struct Places {
    pub of_address: i64,
    /// Open pairings of addresses that already have one.
    pub common: i64,
    /// Open pairings in all, including the reserved places.
    pub all: i64,
}

/// The outcome of opening a pairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Made,
    AddressFull,
    Full,
}

pub(super) async fn forget_expired(pool: &PgPool, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "delete from pairing where id in (
             select id from pairing where expires_at <= $1 limit $2 for update skip locked
         )",
        now,
        FORGOTTEN_AT_ONCE
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Opens a pairing, if there is a place for it.
pub(super) async fn insert(pool: &PgPool, new: &NewPairing<'_>, places: &Places) -> Result<Placed, Error> {
    let counted = sqlx::query!(
        r#"with open as (
               select (select count(*) from (
                          select 1 from pairing where expires_at > $8 limit $12) as counted) as "all",
                      (select count(*) from (
                          select 1 from pairing where address = $9 and expires_at > $8 limit $10) as counted) as own
           ), made as (
               insert into pairing (public_id, public_key, alg, kind, name, platform, expires_at, address)
               select $1, $2, $3, $4, $5, $6, $7, $9 from open
               where open.own < $10 and open."all" < case when open.own = 0 then $12 else $11 end
               returning 1
           )
           select open.own as "own!", exists (select from made) as "made!" from open"#,
        new.public_id,
        new.key.raw(),
        new.key.alg(),
        new.kind,
        new.name,
        new.platform,
        new.expires_at,
        new.now,
        new.address,
        places.of_address,
        places.common,
        places.all
    )
    .fetch_one(pool)
    .await?;
    Ok(match (counted.made, counted.own < places.of_address) {
        (true, _) => Placed::Made,
        (false, true) => Placed::Full,
        (false, false) => Placed::AddressFull,
    })
}

/// A pairing that lives.
pub(super) struct Waiting {
    pub id: i64,
    pub key: PublicKey,
    pub kind: String,
    pub name: Option<Vec<u8>>,
    pub platform: Option<String>,
    pub approval: Option<Approval>,
}

pub(super) struct Approval {
    pub account_id: i64,
    /// SHA-256 of the approving request.
    pub request_hash: Vec<u8>,
}

struct Row {
    id: i64,
    public_key: Vec<u8>,
    alg: String,
    kind: String,
    name: Option<Vec<u8>>,
    platform: Option<String>,
    approval_hash: Option<Vec<u8>>,
    account_id: Option<i64>,
}

impl Row {
    fn read(self) -> Result<Waiting, Error> {
        let key = Curve::from_alg(&self.alg).and_then(|curve| PublicKey::from_raw(curve, &self.public_key).ok());
        Ok(Waiting {
            id: self.id,
            key: key.ok_or(Error::Corrupt("pairing.public_key"))?,
            kind: self.kind,
            name: self.name,
            platform: self.platform,
            approval: self
                .account_id
                .zip(self.approval_hash)
                .map(|(account_id, request_hash)| Approval { account_id, request_hash }),
        })
    }
}

pub(super) async fn find(pool: &PgPool, public_id: &str, now: DateTime<Utc>) -> Result<Option<Waiting>, Error> {
    let row = sqlx::query_as!(
        Row,
        r#"select p.id, p.public_key, p.alg, p.kind, p.name, p.platform, p.approval_hash, d.account_id as "account_id?"
           from pairing p left join device d on d.id = p.device_id
           where p.public_id = $1 and p.expires_at > $2"#,
        public_id,
        now
    );
    row.fetch_optional(pool).await?.map(Row::read).transpose()
}

/// Finds and locks an open pairing, for its approval.
pub(super) async fn find_for_update(
    conn: &mut PgConnection,
    public_id: &str,
    now: DateTime<Utc>,
) -> Result<Option<Waiting>, Error> {
    let locked = sqlx::query_scalar!("select id from pairing where public_id = $1 for no key update", public_id);
    if locked.fetch_optional(&mut *conn).await?.is_none() {
        return Ok(None);
    }
    let row = sqlx::query_as!(
        Row,
        r#"select p.id, p.public_key, p.alg, p.kind, p.name, p.platform, p.approval_hash, d.account_id as "account_id?"
           from pairing p left join device d on d.id = p.device_id
           where p.public_id = $1 and p.expires_at > $2"#,
        public_id,
        now
    );
    row.fetch_optional(conn).await?.map(Row::read).transpose()
}

pub(super) async fn approve(
    conn: &mut PgConnection,
    id: i64,
    device_row: i64,
    request_hash: Hash,
    payload: &[u8],
) -> Result<(), Error> {
    sqlx::query!(
        "update pairing set device_id = $2, approval_hash = $3, payload = $4 where id = $1",
        id,
        device_row,
        request_hash.as_slice(),
        payload
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives the pairing to this call; whether it is its own, now or before.
pub(super) async fn claim(pool: &PgPool, id: i64, idem: &str, now: DateTime<Utc>) -> Result<bool, Error> {
    let claimed = sqlx::query!(
        "update pairing set claim_idem = $2
         where id = $1 and expires_at > $3 and (claim_idem is null or claim_idem = $2)",
        id,
        idem,
        now
    );
    Ok(claimed.execute(pool).await?.rows_affected() == 1)
}

/// The data of an approved pairing.
pub(super) struct Claimed {
    pub did: String,
    pub device: String,
    pub stream: String,
    pub state: String,
    pub certificate: Vec<u8>,
    pub payload: Vec<u8>,
}

pub(super) async fn find_claimed(pool: &PgPool, id: i64) -> Result<Option<Claimed>, Error> {
    Ok(sqlx::query_as!(
        Claimed,
        r#"select a.did, d.public_id as device, s.public_id as stream, d.state, l.bytes as certificate,
                  p.payload as "payload!"
           from pairing p
           join device d on d.id = p.device_id
           join device_link l on l.device_id = d.id and not l.revokes
           join account a on a.id = d.account_id
           join stream s on s.id = a.stream_id
           where p.id = $1 and p.payload is not null"#,
        id
    )
    .fetch_optional(pool)
    .await?)
}
