//! Look-ups of the devices that call: many devices to one statement.
//!
//! Invariants: the statement that answers a look-up begins after the look-up did, so that the next call sees a change of
//! a device or its account; nothing waits for a batch to fill: the look-ups that arrive during the statements in flight
//! are the next batch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Fault;
use super::store::{self, DeviceRow};
use crate::storage::{Error, Storage};
use crate::types::DeviceId;

/// Statements at one time: a statement without an answer holds back the look-ups of its own batch alone.
const STATEMENTS: usize = 2;
/// Devices of one statement.
const BATCH: usize = 256;
/// Look-ups that wait; further ones are refused with 503.
const MAX_WAITING: usize = 4096;

type Answer = Result<Option<DeviceRow>, Arc<Error>>;

/// Finds devices by their ids. Cheap to clone.
#[derive(Clone)]
pub struct DeviceLookups {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Storage,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Lookup>,
    /// Statements in flight.
    running: usize,
}

struct Lookup {
    device: String,
    answer: oneshot::Sender<Answer>,
}

impl DeviceLookups {
    pub fn new(storage: Storage) -> Self {
        Self { inner: Arc::new(Inner { storage, queue: Mutex::default() }) }
    }

    /// The row of a device of this server's accounts, if there is one.
    pub(super) async fn find(&self, device: &DeviceId) -> Result<Option<DeviceRow>, Fault> {
        let (answer, found) = oneshot::channel();
        {
            let mut queue = self.inner.lock();
            if queue.waiting.len() >= MAX_WAITING {
                return Err(Fault::Unavailable);
            }
            queue.waiting.push(Lookup { device: device.to_string(), answer });
            self.inner.begin(&mut queue);
        }
        // Only a statement that panicked leaves a look-up without an answer.
        found.await.map_err(|_| Fault::Unavailable)?.map_err(Fault::from)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a statement for the look-ups that wait, unless there are enough statements in flight.
    fn begin(self: &Arc<Self>, queue: &mut Queue) {
        let Ok(runtime) = Handle::try_current() else { return };
        if queue.running >= STATEMENTS || queue.waiting.is_empty() {
            return;
        }
        queue.running += 1;
        let turn = Turn(Arc::clone(self));
        runtime.spawn(async move { turn.0.answer_next().await });
    }

    async fn answer_next(&self) {
        let mut batch = {
            let mut queue = self.lock();
            let size = queue.waiting.len().min(BATCH);
            let rest = queue.waiting.split_off(size);
            std::mem::replace(&mut queue.waiting, rest)
        };
        // Callers that went away need no answer.
        batch.retain(|lookup| !lookup.answer.is_closed());
        if batch.is_empty() {
            return;
        }
        let ids: Vec<String> = batch.iter().map(|lookup| lookup.device.clone()).collect();
        match store::find_devices(self.storage.authentication(), &ids).await {
            Ok(rows) => {
                let rows: HashMap<String, DeviceRow> =
                    rows.into_iter().map(|row| (row.public_id.clone(), row)).collect();
                for Lookup { device, answer } in batch {
                    // A caller that went away meanwhile needs no answer.
                    let _gone = answer.send(Ok(rows.get(&device).cloned()));
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    devices = ids.len(),
                    "failed to look up devices"
                );
                let error = Arc::new(error);
                for Lookup { answer, .. } in batch {
                    let _gone = answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}

/// One of the statements in flight. Its end, a panic included, begins the next one.
struct Turn(Arc<Inner>);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.running -= 1;
        self.0.begin(&mut queue);
    }
}
