//! A limit on what each key may hold at one time.
//!
//! Invariant: a key is in memory only while a holder of that key lives, so the number of holders bounds the memory,
//! also where clients invent keys.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::InstanceCount;

type Keys<K> = Arc<Mutex<HashMap<K, Arc<Semaphore>>>>;

/// An equal number of slots for each key.
pub struct KeyedSlots<K> {
    slots_per_key: u32,
    /// The instances that share the slots.
    instances: InstanceCount,
    keys: Keys<K>,
}

impl<K: Hash + Eq + Clone> KeyedSlots<K> {
    /// Slots on this instance alone.
    pub fn new(slots_per_key: u32) -> Self {
        Self::shared(slots_per_key, &InstanceCount::alone())
    }

    /// Slots that all instances share: each gives out its part, and at least one.
    pub fn shared(slots_per_key: u32, instances: &InstanceCount) -> Self {
        Self { slots_per_key, instances: instances.clone(), keys: Arc::default() }
    }

    /// A holder that has taken no slot yet.
    pub fn holder(&self, key: K) -> SlotHolder<K> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = || Arc::new(Semaphore::new(usize::try_from(self.slots_per_key).unwrap_or(usize::MAX)));
        let semaphore = Arc::clone(keys.entry(key.clone()).or_insert_with(slots));
        drop(keys);
        SlotHolder { key, taken: 0, semaphore, keys: Arc::clone(&self.keys) }
    }

    /// Takes one slot of the key, if one becomes free within `patience`.
    pub async fn take(&self, key: K, patience: Duration) -> Option<SlotHolder<K>> {
        let mut holder = self.holder(key);
        holder.take(self.instances.slots(self.slots_per_key), patience).await.then_some(holder)
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.keys.lock().unwrap().len()
    }
}

/// Slots of one key. Dropping the holder gives them back.
pub struct SlotHolder<K: Hash + Eq> {
    key: K,
    taken: u32,
    semaphore: Arc<Semaphore>,
    keys: Keys<K>,
}

impl<K: Hash + Eq> SlotHolder<K> {
    /// Takes this many more `slots`, or none. A `patience` of zero does not wait.
    pub async fn take(&mut self, slots: u32, patience: Duration) -> bool {
        let permits = match self.semaphore.try_acquire_many(slots) {
            Ok(permits) => permits,
            Err(_) if patience.is_zero() => return false,
            Err(_) => match tokio::time::timeout(patience, self.semaphore.acquire_many(slots)).await {
                Ok(Ok(permits)) => permits,
                Ok(Err(_)) | Err(_) => return false,
            },
        };
        permits.forget();
        self.taken += slots;
        true
    }

    pub fn taken(&self) -> u32 {
        self.taken
    }
}

impl<K: Hash + Eq> Drop for SlotHolder<K> {
    fn drop(&mut self) {
        self.semaphore.add_permits(usize::try_from(self.taken).unwrap_or(usize::MAX));
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        // Only this holder and the map refer to the slots: no other holder uses the key.
        if Arc::strong_count(&self.semaphore) <= 2 {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::KeyedSlots;

    const WAIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_key_has_its_slots_and_a_dropped_holder_gives_them_back() {
        let slots = KeyedSlots::new(2);
        let first = slots.take("a", WAIT).await.unwrap();
        let second = slots.take("a", WAIT).await.unwrap();
        assert!(slots.take("a", WAIT).await.is_none());
        assert!(slots.take("b", WAIT).await.is_some(), "another key");
        drop(first);
        assert!(slots.take("a", Duration::ZERO).await.is_some());
        drop(second);
        assert_eq!(slots.keys(), 0, "a key without a holder is not kept");
    }

    #[tokio::test]
    async fn a_waiting_call_gets_the_next_free_slot() {
        let slots = KeyedSlots::new(1);
        let held = slots.take("a", WAIT).await.unwrap();
        let freed = async {
            tokio::time::sleep(WAIT).await;
            drop(held);
        };
        let (waited, ()) = tokio::join!(slots.take("a", Duration::from_secs(5)), freed);
        assert!(waited.is_some());
        drop(waited);
        assert_eq!(slots.keys(), 0);
    }

    #[tokio::test]
    async fn a_holder_that_gave_up_waiting_leaves_nothing_behind() {
        let slots = KeyedSlots::new(1);
        let held = slots.take("a", WAIT).await.unwrap();
        assert!(slots.take("a", WAIT).await.is_none());
        let mut holder = slots.holder("a");
        assert!(!holder.take(1, WAIT).await);
        assert_eq!(holder.taken(), 0);
        drop(held);
        assert!(holder.take(1, Duration::ZERO).await);
        drop(holder);
        assert_eq!(slots.keys(), 0);
    }
}
