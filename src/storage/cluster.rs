//! The cluster and timeline that a connection leads to, and the check that a session has the settings it asked for.

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

/// A cluster of Postgres, and its timeline: a promoted standby and a restored archive begin a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId {
    pub system_id: i64,
    pub timeline: i32,
}

/// Start-up options of every session, in the form in which Postgres shows them. Postgres cancels a statement that runs
/// longer than `statement_timeout`, because an open writer holds back every reader.
pub(super) const SESSION: [(&str, &str); 4] = [
    ("statement_timeout", "10s"),
    ("lock_timeout", "8s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("jit", "off"),
];

/// A setting of [`SESSION`] that is not in force.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} is {found}, and this server needs {wanted}: a pooler between this server and Postgres drops start-up \
     options. Fix: let DATABASE_URL name Postgres itself; or set DATABASE_DIRECT_URL to Postgres itself, and the limits \
     by ALTER ROLE as docs/OPERATIONS.md shows"
)]
struct OptionDropped {
    name: &'static str,
    found: String,
    wanted: &'static str,
}

impl ClusterId {
    /// The timeline is that of the log as it is written now: the control file names the new one only after the first
    /// checkpoint. A standby that was not promoted answers with an error, and is of no use to us.
    pub(super) async fn of(conn: &mut PgConnection) -> Result<Self, sqlx::Error> {
        Ok(look(conn).await?.0)
    }
}

/// The cluster of a connection, and the settings of [`SESSION`] in their order.
async fn look(conn: &mut PgConnection) -> Result<(ClusterId, Vec<String>), sqlx::Error> {
    let names: Vec<String> = SESSION.iter().map(|(name, _)| (*name).to_owned()).collect();
    let row = sqlx::query!(
        r#"select system_identifier as "system_id!",
                  ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer as "timeline!",
                  array(select current_setting(n.name) from unnest($1::text[]) with ordinality n (name, place)
                        order by n.place) as "settings!"
           from pg_control_system()"#,
        &names
    )
    .fetch_one(conn)
    .await?;
    Ok((ClusterId { system_id: row.system_id, timeline: row.timeline }, row.settings))
}

pub(super) fn other_cluster() -> sqlx::Error {
    sqlx::Error::Configuration("the database is on another cluster or timeline than at the start".into())
}

/// Refuses a connection to another cluster or another timeline, and a connection whose start-up options a pooler
/// dropped.
pub(super) async fn refuse_other(
    connection: &mut PgConnection,
    cluster: ClusterId,
    uprooted: &CancellationToken,
) -> Result<(), sqlx::Error> {
    let (found, settings) = look(connection).await?;
    if found != cluster {
        uprooted.cancel();
        return Err(other_cluster());
    }
    for ((name, wanted), found) in SESSION.into_iter().zip(settings) {
        if found != wanted {
            return Err(sqlx::Error::Configuration(Box::new(OptionDropped { name, found, wanted })));
        }
    }
    Ok(())
}
