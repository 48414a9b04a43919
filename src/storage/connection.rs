//! A connection on which every statement has a deadline.
//!
//! Invariant: a connection that did not answer in time is dropped. The server sends nothing more on it, neither a ping
//! nor a Terminate message: either could wait forever.

use std::io;
use std::time::Duration;

use deadpool::managed::Object;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::postgres::{PgDatabaseError, PgQueryResult, PgRow, PgSeverity, PgStatement, PgTypeInfo, Postgres};
use sqlx::{Connection, Describe, Either, Execute, Executor, SqlStr};
use tokio::time::{Instant, timeout_at};

use super::pool::{Live, Manager};
use super::room::Room;

/// Time that a statement may take until its last row. Postgres cancels a statement after `statement_timeout`, so a
/// longer silence means that the answer is lost.
pub const STATEMENT_DEADLINE: Duration = Duration::from_secs(12);
/// Time that a connection gets to end an unfinished statement or transaction after its caller returned it.
const CLEANING: Duration = Duration::from_secs(2);

/// A connection to Postgres: `sqlx`'s connection, with deadlines.
pub struct PgConnection {
    /// `None` once the connection has gone back to its pool.
    raw: Option<Raw>,
    state: State,
    in_transaction: bool,
}

enum Raw {
    Pooled(Object<Manager>),
    Own(Box<Live>),
}

impl Raw {
    fn live(&mut self) -> &mut Live {
        match self {
            Self::Pooled(object) => object,
            Self::Own(live) => live,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Ready,
    /// A statement has begun, and must end by this time.
    Waiting(Instant),
    /// The connection is broken, or was silent beyond a deadline.
    Lost,
}

impl State {
    /// The state after a failed statement. An error that Postgres itself reports leaves the connection usable, unless
    /// the error means that Postgres closes the session.
    fn after(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) if is_fatal(&**database) => Self::Lost,
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped, time-outs that end sessions
                Some("57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25P04") => Self::Lost,
                _ => Self::Ready,
            },
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                Self::Lost
            }
            _ => Self::Ready,
        }
    }
}

/// Whether the session ended with this error, as a pooler ends it.
fn is_fatal(error: &(dyn sqlx::error::DatabaseError + 'static)) -> bool {
    let severity = error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    matches!(severity, Some(PgSeverity::Fatal | PgSeverity::Panic))
}

fn lost() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::NotConnected, "the connection was lost before"))
}

fn late() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "Postgres did not answer in time"))
}

impl PgConnection {
    pub(super) fn pooled(object: Object<Manager>) -> Self {
        Self { raw: Some(Raw::Pooled(object)), state: State::Ready, in_transaction: false }
    }

    /// A connection outside of any pool.
    pub(super) fn own(live: Live) -> Self {
        Self { raw: Some(Raw::Own(Box::new(live))), state: State::Ready, in_transaction: false }
    }

    /// Whether the connection is broken or silent, and unusable.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// The underlying connection for a statement that begins now, and the record of that statement.
    fn start(&mut self) -> Result<(&mut sqlx::PgConnection, Statement<'_>), sqlx::Error> {
        let Self { raw: Some(raw), state, .. } = self else { return Err(lost()) };
        if matches!(state, State::Lost) {
            return Err(lost());
        }
        super::class::beat();
        let until = Instant::now() + STATEMENT_DEADLINE;
        *state = State::Waiting(until);
        let Live { connection, room, .. } = raw.live();
        Ok((connection, Statement { until, state, room }))
    }

    async fn simple(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        self.execute(statement).await.map(drop)
    }

    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        // Set before the statement: a transaction may begin without the answer arriving, and must not return to the
        // pool.
        self.in_transaction = true;
        let Some(check) = self.raw.as_mut().and_then(|raw| raw.live().check.clone()) else {
            return self.simple("begin").await;
        };
        let rows = self.fetch_all(super::pooler::BEGIN).await?;
        check.judge(&rows)
    }

    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.simple("commit").await?;
        self.in_transaction = false;
        Ok(())
    }

    pub(super) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.simple("rollback").await?;
        self.in_transaction = false;
        Ok(())
    }
}

impl std::fmt::Debug for PgConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgConnection").field("state", &self.state).finish_non_exhaustive()
    }
}

/// A running statement.
struct Statement<'a> {
    until: Instant,
    state: &'a mut State,
    room: &'a Room,
}

impl Statement<'_> {
    /// Waits for the statement's next step, or fails when the deadline has passed.
    async fn by<T>(&mut self, step: impl Future<Output = T>) -> Result<T, sqlx::Error> {
        timeout_at(self.until, step).await.map_err(|_| {
            *self.state = State::Lost;
            late()
        })
    }

    fn ended(&mut self, error: Option<&sqlx::Error>) {
        *self.state = error.map_or(State::Ready, State::after);
        if let Some(error) = error {
            self.room.note(error);
        }
    }

    async fn whole<T>(mut self, statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        let outcome = self.by(statement).await?;
        self.ended(outcome.as_ref().err());
        outcome
    }
}

impl<'c> Executor<'c> for &'c mut PgConnection {
    type Database = Postgres;

    fn fetch_many<'e, 'q, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: Execute<'q, Postgres>,
        'q: 'e,
        E: 'q,
    {
        let (connection, statement) = match self.start() {
            Ok(started) => started,
            Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
        };
        let rows = connection.fetch_many(query);
        stream::unfold(Some((rows, statement)), |open| async move {
            let (mut rows, mut statement) = open?;
            match statement.by(rows.next()).await {
                Ok(Some(Ok(row))) => Some((Ok(row), Some((rows, statement)))),
                Ok(Some(Err(error))) => {
                    statement.ended(Some(&error));
                    Some((Err(error), None))
                }
                Ok(None) => {
                    statement.ended(None);
                    None
                }
                Err(late) => Some((Err(late), None)),
            }
        })
        .boxed()
    }

    fn fetch_optional<'e, 'q, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: Execute<'q, Postgres>,
        'q: 'e,
        E: 'q,
    {
        Box::pin(async move {
            let (connection, statement) = self.start()?;
            statement.whole(connection.fetch_optional(query)).await
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let (connection, statement) = self.start()?;
            statement.whole(connection.prepare_with(sql, parameters)).await
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let (connection, statement) = self.start()?;
            statement.whole(connection.describe(sql)).await
        })
    }
}

impl Drop for PgConnection {
    /// Returns a pooled connection to its pool, after its unfinished statement or transaction has ended.
    fn drop(&mut self) {
        let Some(Raw::Pooled(object)) = self.raw.take() else { return };
        let until = match self.state {
            State::Ready if !self.in_transaction => return drop(object),
            State::Lost => return lose(object),
            State::Ready => Instant::now() + CLEANING,
            // The statement still runs at Postgres, so the connection counts until the statement has ended: callers who
            // give up early get no additional connections.
            State::Waiting(until) => until.max(Instant::now() + CLEANING),
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(clean(object, until, self.in_transaction))),
            Err(_) => drop(Object::take(object)),
        }
    }
}

/// Drops a connection, and has its pool replace the connections that were last seen alive before now.
fn lose(object: Object<Manager>) {
    if let Some(pool) = Object::pool(&object) {
        pool.manager().doubt();
    }
    drop(Object::take(object));
}

async fn clean(mut object: Object<Manager>, until: Instant, in_transaction: bool) {
    let cleaning = async {
        object.connection.ping().await?;
        if in_transaction {
            (&mut object.connection).execute("rollback").await?;
        }
        Ok::<_, sqlx::Error>(())
    };
    match timeout_at(until, cleaning).await {
        Ok(Ok(())) => drop(object),
        Ok(Err(_)) | Err(_) => lose(object),
    }
}
