use std::any::Any;

use super::{Error, PgConnection};

/// Rows that one transaction may write: the oldest open writer holds back every reader of the log. Checked by builds with
/// debug assertions, which the tests are.
#[cfg(debug_assertions)]
const ROWS_PER_TRANSACTION: i64 = 4_096;

/// One unit of work. Dropped without `commit`, it leaves nothing behind.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Tx {
    connection: PgConnection,
    /// Released after the transaction has ended: fields are dropped in their order.
    held: Vec<Box<dyn Any + Send + Sync>>,
    #[cfg(debug_assertions)]
    rows_before: i64,
}

impl Tx {
    pub(super) async fn begin(mut connection: PgConnection) -> Result<Self, Error> {
        connection.begin().await?;
        #[cfg(debug_assertions)]
        let rows_before = rows_written(&mut connection).await?;
        Ok(Self {
            connection,
            held: Vec::new(),
            #[cfg(debug_assertions)]
            rows_before,
        })
    }

    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Keeps a guard until this transaction has ended, however it ends.
    pub fn hold(&mut self, guard: impl Any + Send + Sync) {
        self.held.push(Box::new(guard));
    }

    /// After [`Error::Unavailable`] the commit may or may not have happened: a caller that must know reads the rows
    /// that it wrote.
    pub async fn commit(mut self) -> Result<(), Error> {
        #[cfg(debug_assertions)]
        self.refuse_too_many_rows().await?;
        Ok(self.connection.commit().await?)
    }

    pub async fn rollback(mut self) -> Result<(), Error> {
        Ok(self.connection.rollback().await?)
    }

    #[cfg(debug_assertions)]
    async fn refuse_too_many_rows(&mut self) -> Result<(), Error> {
        let rows = rows_written(&mut self.connection).await? - self.rows_before;
        if rows > ROWS_PER_TRANSACTION {
            return Err(Error::TooManyRows { rows, limit: ROWS_PER_TRANSACTION });
        }
        Ok(())
    }
}

/// Rows that this backend has written and not yet reported to Postgres's statistics. Only differences within one
/// transaction mean something.
#[cfg(debug_assertions)]
async fn rows_written(conn: &mut PgConnection) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint as "rows!" from pg_stat_xact_user_tables"#
    )
    .fetch_one(conn)
    .await?)
}
