use super::{Error, PgConnection};

/// One unit of work. Dropped without `commit`, it leaves nothing behind.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Tx {
    connection: PgConnection,
}

impl Tx {
    pub(super) async fn begin(mut connection: PgConnection) -> Result<Self, Error> {
        connection.begin().await?;
        Ok(Self { connection })
    }

    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// After [`Error::Unavailable`] the commit may or may not have happened: a caller that must know reads the rows
    /// that it wrote.
    pub async fn commit(mut self) -> Result<(), Error> {
        Ok(self.connection.commit().await?)
    }

    pub async fn rollback(mut self) -> Result<(), Error> {
        Ok(self.connection.rollback().await?)
    }
}
