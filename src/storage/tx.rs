use std::any::Any;

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::Error;

/// Rows that one transaction may write: the oldest open writer holds back every reader of the log. Checked by builds with
/// debug assertions, which the tests are.
#[cfg(debug_assertions)]
const ROWS_PER_TRANSACTION: i64 = 4_096;

/// One unit of work. Dropped without `commit`, it leaves nothing behind.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Tx {
    inner: Transaction<'static, Postgres>,
    /// Released after the transaction has ended.
    held: Vec<Box<dyn Any + Send + Sync>>,
    #[cfg(debug_assertions)]
    rows_before: i64,
}

impl Tx {
    pub(super) async fn begin(pool: &PgPool) -> Result<Self, Error> {
        let inner = pool.begin().await?;
        #[cfg(debug_assertions)]
        return Self::counting(inner).await;
        #[cfg(not(debug_assertions))]
        Ok(Self { inner, held: Vec::new() })
    }

    #[cfg(debug_assertions)]
    async fn counting(mut inner: Transaction<'static, Postgres>) -> Result<Self, Error> {
        let rows_before = rows_written(&mut inner).await?;
        Ok(Self { inner, held: Vec::new(), rows_before })
    }

    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.inner
    }

    /// Keeps a guard until this transaction has ended, however it ends.
    pub fn hold(&mut self, guard: impl Any + Send + Sync) {
        self.held.push(Box::new(guard));
    }

    pub async fn commit(self) -> Result<(), Error> {
        #[cfg(debug_assertions)]
        let this = self.within_bounds().await?;
        #[cfg(not(debug_assertions))]
        let this = self;
        this.inner.commit().await?;
        drop(this.held);
        Ok(())
    }

    pub async fn rollback(self) -> Result<(), Error> {
        self.inner.rollback().await?;
        drop(self.held);
        Ok(())
    }

    #[cfg(debug_assertions)]
    async fn within_bounds(mut self) -> Result<Self, Error> {
        let rows = rows_written(&mut self.inner).await? - self.rows_before;
        if rows > ROWS_PER_TRANSACTION {
            Err(Error::TooManyRows { rows, limit: ROWS_PER_TRANSACTION })
        } else {
            Ok(self)
        }
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
