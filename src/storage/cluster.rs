//! Which cluster a connection leads to, and which of its histories.

use sqlx::PgConnection;

/// A cluster of Postgres, and its timeline: a promoted standby and a restored archive begin a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId {
    pub system_id: i64,
    pub timeline: i32,
}

impl ClusterId {
    /// The timeline is that of the log as it is written now: the control file names the new one only after the first
    /// checkpoint. A standby that was not promoted answers with an error, and is of no use to us.
    pub(super) async fn of(conn: &mut PgConnection) -> Result<Self, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select system_identifier as "system_id!",
                      ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer as "timeline!"
               from pg_control_system()"#
        )
        .fetch_one(conn)
        .await
    }
}
