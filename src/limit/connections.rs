//! Limits on open connections: in all and for each key, with a rule for which connection makes room.
//!
//! Invariants: a full server closes its oldest unauthenticated connection before it refuses a new one; it never closes
//! an authenticated connection for a new one.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Why a new connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefused {
    /// All connections are taken, by authenticated clients.
    Full,
    /// All connections of this key are taken, by authenticated clients.
    KeyFull,
}

/// The open connections of this instance.
pub struct ConnectionRoster<K> {
    most: usize,
    most_per_key: usize,
    state: Mutex<State<K>>,
}

struct State<K> {
    next_id: u64,
    entries: HashMap<u64, Entry<K>>,
    /// Unauthenticated connections, oldest first.
    unproven: BTreeSet<u64>,
    keys: HashMap<K, OfKey>,
}

struct Entry<K> {
    key: Option<K>,
    shed: CancellationToken,
}

#[derive(Default)]
struct OfKey {
    open: usize,
    unproven: BTreeSet<u64>,
}

impl<K: Hash + Eq + Clone> ConnectionRoster<K> {
    pub fn new(most: usize, most_per_key: usize) -> Self {
        let state = State { next_id: 0, entries: HashMap::new(), unproven: BTreeSet::new(), keys: HashMap::new() };
        Self { most: most.max(1), most_per_key: most_per_key.max(1), state: Mutex::new(state) }
    }

    /// Admits a connection of `key`. A connection without a key (a trusted proxy's) counts as authenticated, and only
    /// against the limit of all connections. Where a limit is reached, the oldest unauthenticated connection is closed
    /// to make room: of the key, or of all keys.
    pub fn admit(self: &Arc<Self>, key: Option<K>) -> Result<Arc<OpenConnection<K>>, ConnectionRefused> {
        let mut state = self.state();
        if let Some(of_key) = key.as_ref().and_then(|key| state.keys.get(key))
            && of_key.open >= self.most_per_key
        {
            let oldest = *of_key.unproven.first().ok_or(ConnectionRefused::KeyFull)?;
            state.shed(oldest);
        }
        if state.entries.len() >= self.most {
            let oldest = *state.unproven.first().ok_or(ConnectionRefused::Full)?;
            state.shed(oldest);
        }
        let (id, shed) = (state.next_id, CancellationToken::new());
        state.next_id += 1;
        if let Some(key) = &key {
            let of_key = state.keys.entry(key.clone()).or_default();
            of_key.open += 1;
            of_key.unproven.insert(id);
            state.unproven.insert(id);
        }
        state.entries.insert(id, Entry { key, shed: shed.clone() });
        drop(state);
        Ok(Arc::new(OpenConnection { id, shed, roster: Arc::clone(self) }))
    }

    pub fn open(&self) -> usize {
        self.state().entries.len()
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> State<K> {
    fn shed(&mut self, id: u64) {
        if let Some(entry) = self.remove(id) {
            entry.shed.cancel();
        }
    }

    fn prove(&mut self, id: u64) {
        self.unproven.remove(&id);
        let key = self.entries.get(&id).and_then(|entry| entry.key.as_ref());
        if let Some(of_key) = key.and_then(|key| self.keys.get_mut(key)) {
            of_key.unproven.remove(&id);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Entry<K>> {
        self.prove(id);
        let entry = self.entries.remove(&id)?;
        if let Some(key) = &entry.key
            && let Some(of_key) = self.keys.get_mut(key)
        {
            of_key.open -= 1;
            if of_key.open == 0 {
                self.keys.remove(key);
            }
        }
        Some(entry)
    }
}

/// An open connection, counted until it is dropped.
pub struct OpenConnection<K: Hash + Eq> {
    id: u64,
    shed: CancellationToken,
    roster: Arc<ConnectionRoster<K>>,
}

impl<K: Hash + Eq> OpenConnection<K> {
    /// Records that a request on this connection authenticated an account or a peer.
    pub fn prove(&self) {
        self.roster.state.lock().unwrap_or_else(PoisonError::into_inner).prove(self.id);
    }

    /// Cancelled when the connection is closed to make room.
    pub fn shed(&self) -> &CancellationToken {
        &self.shed
    }
}

impl<K: Hash + Eq> Drop for OpenConnection<K> {
    fn drop(&mut self) {
        self.roster.state.lock().unwrap_or_else(PoisonError::into_inner).remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ConnectionRefused, ConnectionRoster};

    #[test]
    fn a_full_roster_closes_the_oldest_unauthenticated_connection() {
        let roster = Arc::new(ConnectionRoster::new(3, 3));
        let (first, second, third) =
            (roster.admit(Some(1)).unwrap(), roster.admit(Some(2)).unwrap(), roster.admit(Some(3)).unwrap());
        first.prove();
        let fourth = roster.admit(Some(4)).unwrap();
        assert!(second.shed().is_cancelled() && !first.shed().is_cancelled() && !third.shed().is_cancelled());
        assert_eq!(roster.open(), 3);
        third.prove();
        fourth.prove();
        assert_eq!(roster.admit(Some(5)).err(), Some(ConnectionRefused::Full));
        drop((first, second));
        assert_eq!(roster.open(), 2, "a shed connection is subtracted once");
        assert!(roster.admit(Some(5)).is_ok());
    }

    #[test]
    fn one_key_sheds_its_own_connections_and_a_proxy_has_no_key() {
        let roster = Arc::new(ConnectionRoster::new(100, 2));
        let (first, second) = (roster.admit(Some("a")).unwrap(), roster.admit(Some("a")).unwrap());
        let other = roster.admit(Some("b")).unwrap();
        let third = roster.admit(Some("a")).unwrap();
        assert!(first.shed().is_cancelled() && !second.shed().is_cancelled() && !other.shed().is_cancelled());
        second.prove();
        third.prove();
        assert_eq!(roster.admit(Some("a")).err(), Some(ConnectionRefused::KeyFull));
        let proxies: Vec<_> = (0..50).map(|_| roster.admit(None).unwrap()).collect();
        assert!(proxies.iter().all(|proxy| !proxy.shed().is_cancelled()));
    }
}
