use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::Error;

/// One unit of work. Dropped without `commit`, it leaves nothing behind.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Tx {
    inner: Transaction<'static, Postgres>,
}

impl Tx {
    pub(super) async fn begin(pool: &PgPool) -> Result<Self, Error> {
        Ok(Self { inner: pool.begin().await? })
    }

    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.inner
    }

    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.inner.commit().await?)
    }

    pub async fn rollback(self) -> Result<(), Error> {
        Ok(self.inner.rollback().await?)
    }
}
