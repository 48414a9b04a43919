//! SQL of operators.

use chrono::{DateTime, Utc};

use crate::lexicon::admin::defs::Account;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Did, UnixMillis};

pub(super) struct AccountRow {
    pub id: i64,
    did: String,
    created_at: DateTime<Utc>,
    server: Option<String>,
    suspended_at: Option<DateTime<Utc>>,
    suspended_reason: Option<String>,
    devices: i64,
}

impl AccountRow {
    pub fn into_account(self) -> Result<Account, Error> {
        let did = |text: &str| Did::parse(text).map_err(|_| Error::Corrupt("account.did"));
        let time = |time: DateTime<Utc>| UnixMillis::from(time).to_rfc3339();
        Ok(Account {
            account: did(&self.did)?,
            state: if self.suspended_at.is_some() { "suspended" } else { "active" }.to_owned(),
            devices: u64::try_from(self.devices).unwrap_or_default(),
            created_at: time(self.created_at),
            suspended_at: self.suspended_at.map(time),
            reason: self.suspended_reason,
            server: self.server.as_deref().map(did).transpose()?,
        })
    }
}

pub(super) async fn list_accounts(pool: &PgPool, after: i64, limit: i64) -> Result<Vec<AccountRow>, Error> {
    Ok(sqlx::query_as!(
        AccountRow,
        r#"select a.id, a.did, a.created_at, a.server, a.suspended_at, a.suspended_reason,
                  (select count(*) from device d where d.account_id = a.id and d.state <> 'revoked') as "devices!"
           from account a where a.id > $1 and a.stream_id is not null order by a.id limit $2"#,
        after,
        limit
    )
    .fetch_all(pool)
    .await?)
}

pub(super) async fn find_account(conn: &mut PgConnection, account: &Did) -> Result<Option<AccountRow>, Error> {
    Ok(sqlx::query_as!(
        AccountRow,
        r#"select a.id, a.did, a.created_at, a.server, a.suspended_at, a.suspended_reason,
                  (select count(*) from device d where d.account_id = a.id and d.state <> 'revoked') as "devices!"
           from account a where a.did = $1 and a.stream_id is not null"#,
        account.as_str()
    )
    .fetch_optional(conn)
    .await?)
}

/// The account's row, if it is local and this changed its state. `since` none: not any more.
pub(super) async fn set_suspended(
    conn: &mut PgConnection,
    account: &Did,
    since: Option<DateTime<Utc>>,
    reason: Option<&str>,
) -> Result<Option<i64>, Error> {
    let changed = sqlx::query_scalar!(
        "update account set suspended_at = $2, suspended_reason = $3
         where did = $1 and stream_id is not null and (suspended_at is null) <> ($2::timestamptz is null) returning id",
        account.as_str(),
        since,
        reason
    );
    Ok(changed.fetch_optional(conn).await?)
}
