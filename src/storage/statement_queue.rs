//! Statements that many callers share: the items that arrive while a statement runs are the rows of the next one.
//!
//! Invariants: the statement that answers an item begins after the item arrived, so that a caller sees every change that
//! was committed before the call; nothing waits for a batch to fill.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Error;

/// One kind of statement with many rows.
pub trait SharedStatement: Send + Sync + 'static {
    type Item: Send + Sync + 'static;
    type Answer: Send + 'static;

    /// For log lines.
    const NAME: &'static str;
    /// Statements at one time: a statement that waits holds back the items of its own batch alone.
    const STATEMENTS: usize;
    /// Items of one statement.
    const BATCH: usize = 256;
    /// Items that wait; further ones are refused.
    const MAX_WAITING: usize = 4096;

    /// Runs the statement; one answer for each item, in their order.
    fn run(&self, items: &[Self::Item]) -> impl Future<Output = Result<Vec<Self::Answer>, Error>> + Send;
}

/// Why an item has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SharedError {
    #[error("too many callers wait for this statement")]
    Full,
    #[error(transparent)]
    Failed(Arc<Error>),
}

/// Collects the items of callers. Cheap to clone.
pub struct StatementQueue<S: SharedStatement> {
    inner: Arc<Inner<S>>,
}

impl<S: SharedStatement> Clone for StatementQueue<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<S: SharedStatement> {
    statement: S,
    queue: Mutex<Queue<S>>,
}

struct Queue<S: SharedStatement> {
    waiting: Vec<(S::Item, Reply<S>)>,
    /// Statements in flight.
    running: usize,
}

type Reply<S> = oneshot::Sender<Result<<S as SharedStatement>::Answer, SharedError>>;

impl<S: SharedStatement> StatementQueue<S> {
    pub fn new(statement: S) -> Self {
        Self { inner: Arc::new(Inner { statement, queue: Mutex::new(Queue { waiting: Vec::new(), running: 0 }) }) }
    }

    /// The answer to one item, by a statement that begins after this call.
    pub async fn ask(&self, item: S::Item) -> Result<S::Answer, SharedError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.inner.lock();
            if queue.waiting.len() >= S::MAX_WAITING {
                return Err(SharedError::Full);
            }
            queue.waiting.push((item, reply));
            Inner::begin(&self.inner, &mut queue);
        }
        // Only a statement that panicked leaves an item without an answer.
        answer.await.unwrap_or(Err(SharedError::Full))
    }
}

impl<S: SharedStatement> Inner<S> {
    fn lock(&self) -> MutexGuard<'_, Queue<S>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a statement for the items that wait, unless there are enough statements in flight.
    fn begin(inner: &Arc<Self>, queue: &mut Queue<S>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if queue.running >= S::STATEMENTS || queue.waiting.is_empty() {
            return;
        }
        queue.running += 1;
        let turn = Turn(Arc::clone(inner));
        runtime.spawn(async move { turn.0.answer_next().await });
    }

    async fn answer_next(&self) {
        let mut batch = {
            let mut queue = self.lock();
            let size = queue.waiting.len().min(S::BATCH);
            let rest = queue.waiting.split_off(size);
            std::mem::replace(&mut queue.waiting, rest)
        };
        // Callers that went away need no answer.
        batch.retain(|(_, reply)| !reply.is_closed());
        if batch.is_empty() {
            return;
        }
        let (items, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let outcome = self.statement.run(&items).await;
        match outcome {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    let _gone = reply.send(Ok(answer));
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    statement = S::NAME,
                    items = items.len(),
                    "failed to run a statement that callers share"
                );
                let error = Arc::new(error);
                for reply in replies {
                    let _gone = reply.send(Err(SharedError::Failed(Arc::clone(&error))));
                }
            }
        }
    }
}

/// One of the statements in flight. Its end, a panic included, begins the next one.
struct Turn<S: SharedStatement>(Arc<Inner<S>>);

impl<S: SharedStatement> Drop for Turn<S> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.running -= 1;
        Inner::begin(&self.0, &mut queue);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// Doubles numbers, slowly; refuses a batch that has a 13.
    #[derive(Default)]
    struct Doubling {
        statements: Arc<AtomicUsize>,
    }

    impl SharedStatement for Doubling {
        type Item = usize;
        type Answer = usize;

        const NAME: &'static str = "doubling";
        const STATEMENTS: usize = 1;
        const BATCH: usize = 10;
        const MAX_WAITING: usize = 40;

        async fn run(&self, items: &[usize]) -> Result<Vec<usize>, Error> {
            self.statements.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            if items.contains(&13) {
                return Err(Error::Corrupt("thirteen"));
            }
            Ok(items.iter().map(|item| item * 2).collect())
        }
    }

    #[tokio::test]
    async fn callers_share_statements_and_get_their_own_answers() {
        let statements = Arc::new(AtomicUsize::new(0));
        let shared = StatementQueue::new(Doubling { statements: Arc::clone(&statements) });
        let asked = (100..130).map(|number| shared.ask(number));
        let answers = futures_util::future::join_all(asked).await;
        let answers: Vec<usize> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (100..130).map(|number| number * 2).collect::<Vec<_>>());
        assert!(statements.load(Ordering::SeqCst) <= 4, "30 items in batches of 10");
    }

    #[tokio::test]
    async fn a_statement_that_fails_fails_its_own_batch_alone() {
        let shared = StatementQueue::new(Doubling::default());
        let first = tokio::spawn({
            let shared = shared.clone();
            async move { shared.ask(13).await }
        });
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(shared.ask(4).await.unwrap(), 8);
        assert!(matches!(first.await.unwrap(), Err(SharedError::Failed(_))));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_the_next_item() {
        let shared = StatementQueue::new(Doubling::default());
        let asked = (100..160).map(|number| shared.ask(number));
        let answers = futures_util::future::join_all(asked).await;
        let refused = answers.iter().filter(|answer| matches!(answer, Err(SharedError::Full))).count();
        assert!((10..=20).contains(&refused), "{refused} of 60 were refused");
        assert!(shared.ask(1).await.is_ok(), "and the queue empties");
    }
}
