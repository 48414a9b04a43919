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

/// Settings that the log depends on: no lost commit, and no prepared transaction that holds the horizon back
/// indefinitely.
const WANTED: [(&str, &str); 4] =
    [("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on"), ("max_prepared_transactions", "0")];

/// `synchronous_commit` has stronger values than `on`, and without a standby `local` equals `on`. With a standby that
/// may be promoted, `local` acknowledges commits that the standby lacks.
fn is_safe(name: &str, value: &str, wanted: &str, has_standbys: bool) -> bool {
    match name {
        "synchronous_commit" => value != "off" && !(value == "local" && has_standbys),
        _ => value == wanted,
    }
}

/// The first setting of this database under which Rookery must not run in production.
pub async fn refuse_unsafe(storage: &Storage) -> Result<Option<Unsafe>, Error> {
    let setting = async |name: &str| {
        sqlx::query_scalar!(r#"select current_setting($1) as "value!""#, name).fetch_one(storage.pool()).await
    };
    let has_standbys = !setting("synchronous_standby_names").await?.trim().is_empty();
    for (name, wanted) in WANTED {
        let value = setting(name).await?;
        if !is_safe(name, &value, wanted, has_standbys) {
            return Ok(Some(Unsafe { name: name.to_owned(), value, wanted }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_commit_is_safe_only_without_a_standby() {
        let safe = |value, has_standbys| is_safe("synchronous_commit", value, "on", has_standbys);
        assert!(safe("on", true) && safe("remote_apply", true) && safe("local", false));
        assert!(!safe("local", true) && !safe("off", false));
        assert!(!is_safe("fsync", "off", "on", false));
    }
}
