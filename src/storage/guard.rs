use super::{Error, Storage};

/// A setting under which an acknowledged write can be lost.
#[derive(Debug, thiserror::Error)]
#[error(
    "Postgres runs with {name} = {value}: acknowledged messages could be lost. Set {name} = {wanted} and restart Postgres"
)]
pub struct Unsafe {
    pub name: String,
    pub value: String,
    pub wanted: &'static str,
}

/// What the log's promises stand on: no lost commit, and no prepared transaction that holds the fence for ever.
const WANTED: [(&str, &str); 4] =
    [("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on"), ("max_prepared_transactions", "0")];

/// `synchronous_commit` has stronger values than `on`, and `local` is `on` without a standby.
fn is_safe(name: &str, value: &str, wanted: &str) -> bool {
    if name == "synchronous_commit" { value != "off" } else { value == wanted }
}

/// The first setting of this database under which Rookery must not run in production.
pub async fn refuse_unsafe(storage: &Storage) -> Result<Option<Unsafe>, Error> {
    for (name, wanted) in WANTED {
        let value =
            sqlx::query_scalar!(r#"select current_setting($1) as "value!""#, name).fetch_one(storage.pool()).await?;
        if !is_safe(name, &value, wanted) {
            return Ok(Some(Unsafe { name: name.to_owned(), value, wanted }));
        }
    }
    Ok(None)
}
