//! SQL on Welcomes and their pointers.

use chrono::{DateTime, Utc};

use crate::lexicon::mls::defs::Welcome;
use crate::storage::{Error, PgPool};
use crate::types::{Bytes, UnixMillis};

pub(super) struct Page {
    pub welcomes: Vec<Welcome>,
    pub more: bool,
}

/// Welcomes that wait for the device, after the pointer `after`; the first, and as many as `page_bytes` hold.
pub(super) async fn list_waiting(
    pool: &PgPool,
    device_row: i64,
    after: i64,
    limit: i64,
    page_bytes: i64,
) -> Result<Page, Error> {
    let rows = sqlx::query!(
        r#"with waiting as (
               select p.id, p.welcome_id, p.ref,
                      sum(length(w.bytes)) over (order by p.id) as bytes_so_far,
                      row_number() over (order by p.id) as place
               from welcome_pointer p join welcome w on w.id = p.welcome_id
               where p.device_id = $1 and p.state = 'waiting' and p.id > $2
               order by p.id limit $3::bigint + 1
           )
           select p.id, p.ref as reference, t.public_id, w.term, w.seq, w.epoch, w.bytes, w.created_at,
                  (select count(*) from waiting) as "found!"
           from waiting p join welcome w on w.id = p.welcome_id join stream t on t.id = w.stream_id
           where p.place = 1 or (p.place <= $3 and p.bytes_so_far <= $4)
           order by p.id"#,
        device_row,
        after,
        limit,
        page_bytes
    )
    .fetch_all(pool)
    .await?;
    let found = rows.first().map_or(0, |row| row.found);
    let number = |value: i64| u64::try_from(value).unwrap_or_default();
    let welcomes: Vec<Welcome> = rows
        .into_iter()
        .map(|row| Welcome {
            id: row.id.to_string(),
            stream: row.public_id,
            term: number(row.term),
            seq: number(row.seq),
            epoch: number(row.epoch),
            r#ref: Bytes(row.reference),
            welcome: Bytes(row.bytes),
            created_at: UnixMillis::from(row.created_at).to_rfc3339(),
        })
        .collect();
    let more = i64::try_from(welcomes.len()).is_ok_and(|given| given < found);
    Ok(Page { welcomes, more })
}

/// Whether the device has such a Welcome. The first acknowledgement stays.
pub(super) async fn acknowledge(
    pool: &PgPool,
    id: i64,
    device_row: i64,
    state: &str,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let updated = sqlx::query!(
        "update welcome_pointer set
             state = case when state = 'waiting' then $3 else state end,
             reason = case when state = 'waiting' then $4 else reason end,
             acked_at = coalesce(acked_at, $5)
         where id = $1 and device_id = $2",
        id,
        device_row,
        state,
        reason,
        now
    )
    .execute(pool)
    .await?;
    Ok(updated.rows_affected() == 1)
}
