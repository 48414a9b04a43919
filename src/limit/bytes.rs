//! A budget of bytes that many holders share.
//!
//! Invariants: all holders together never hold more than the budget; one key holds at most its share; and a part of the
//! budget is kept back for keys that hold little, so that a few keys with large bodies cannot stop the small ones.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::slots::{KeyedSlots, SlotHolder};

/// A holder takes bytes in steps of this size.
pub const STEP_BYTES: usize = 64 * 1024;
/// A key may hold at most `1 / SHARE` of the whole.
const SHARE: usize = 8;
/// `1 / KEPT_BACK` of the whole is reserved for keys that hold at most [`LITTLE_STEPS`].
const KEPT_BACK: usize = 4;
/// Steps up to which a key may use the reserved part.
const LITTLE_STEPS: u32 = 4;

/// Why a holder got no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesExhausted {
    /// The key already holds its share.
    Share,
    /// No free bytes are left for this key.
    Whole,
}

/// A budget of bytes for all keys together, with a share for each key.
pub struct ByteBudget<K> {
    common: Arc<Semaphore>,
    kept_back: Arc<Semaphore>,
    shares: KeyedSlots<K>,
}

impl<K: Hash + Eq + Clone> ByteBudget<K> {
    /// `least_share_bytes`: the bytes that one key may hold in any case, such as the largest single body.
    pub fn new(total_bytes: usize, least_share_bytes: usize) -> Self {
        let steps = total_bytes.div_ceil(STEP_BYTES).max(SHARE);
        let kept_back = steps / KEPT_BACK;
        let share = (steps / SHARE).max(least_share_bytes.div_ceil(STEP_BYTES));
        Self {
            common: Arc::new(Semaphore::new(steps - kept_back)),
            kept_back: Arc::new(Semaphore::new(kept_back)),
            shares: KeyedSlots::new(u32::try_from(share).unwrap_or(u32::MAX)),
        }
    }

    /// A holder that has taken nothing yet.
    pub fn holder(&self, key: K) -> ByteHolder<K> {
        ByteHolder {
            share: self.shares.holder(key),
            common: Arc::clone(&self.common),
            kept_back: Arc::clone(&self.kept_back),
            from_common: 0,
            from_kept_back: 0,
            unused_bytes: 0,
        }
    }
}

/// Bytes of one key. Dropping the holder gives them back.
pub struct ByteHolder<K: Hash + Eq> {
    share: SlotHolder<K>,
    common: Arc<Semaphore>,
    kept_back: Arc<Semaphore>,
    from_common: usize,
    from_kept_back: usize,
    /// Bytes of the latest step that the holder has not used yet.
    unused_bytes: usize,
}

impl<K: Hash + Eq> ByteHolder<K> {
    /// Takes `bytes` more, and waits for each step at most `patience`.
    pub async fn take(&mut self, bytes: usize, patience: Duration) -> Result<(), BytesExhausted> {
        while self.unused_bytes < bytes {
            if !self.share.take(1, patience).await {
                return Err(BytesExhausted::Share);
            }
            self.step(patience).await?;
            self.unused_bytes += STEP_BYTES;
        }
        self.unused_bytes -= bytes;
        Ok(())
    }

    async fn step(&mut self, patience: Duration) -> Result<(), BytesExhausted> {
        if take_one(&self.common) {
            self.from_common += 1;
            return Ok(());
        }
        if self.share.taken() <= LITTLE_STEPS && take_one(&self.kept_back) {
            self.from_kept_back += 1;
            return Ok(());
        }
        let waited = tokio::time::timeout(patience, self.common.acquire()).await;
        let permit = waited.ok().and_then(Result::ok).ok_or(BytesExhausted::Whole)?;
        permit.forget();
        self.from_common += 1;
        Ok(())
    }
}

fn take_one(semaphore: &Semaphore) -> bool {
    semaphore.try_acquire().map(SemaphorePermit::forget).is_ok()
}

impl<K: Hash + Eq> Drop for ByteHolder<K> {
    fn drop(&mut self) {
        self.common.add_permits(self.from_common);
        self.kept_back.add_permits(self.from_kept_back);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ByteBudget, BytesExhausted, STEP_BYTES};

    const WAIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn one_key_holds_an_eighth_and_gives_it_back() {
        let budget = ByteBudget::new(64 * STEP_BYTES, 0);
        let mut holder = budget.holder("a");
        holder.take(8 * STEP_BYTES, WAIT).await.unwrap();
        assert_eq!(holder.take(1, WAIT).await, Err(BytesExhausted::Share));
        let mut second = budget.holder("a");
        assert_eq!(second.take(1, WAIT).await, Err(BytesExhausted::Share), "two bodies of one key share");
        drop(holder);
        assert_eq!(second.take(8 * STEP_BYTES, WAIT).await, Ok(()));
    }

    #[tokio::test]
    async fn bytes_are_taken_in_steps_and_small_bodies_take_one() {
        let budget = ByteBudget::new(8 * STEP_BYTES, 2 * STEP_BYTES);
        let mut holder = budget.holder("a");
        for _ in 0..64 {
            holder.take(STEP_BYTES / 64, WAIT).await.unwrap();
        }
        assert_eq!(holder.share.taken(), 1);
        holder.take(1, WAIT).await.unwrap();
        assert_eq!(holder.share.taken(), 2);
    }

    #[tokio::test]
    async fn large_bodies_leave_room_for_small_ones() {
        let budget = ByteBudget::new(64 * STEP_BYTES, 0);
        let mut large = Vec::new();
        for key in 0..6 {
            let mut holder = budget.holder(key);
            holder.take(8 * STEP_BYTES, WAIT).await.unwrap();
            large.push(holder);
        }
        let mut another = budget.holder(6);
        assert_eq!(another.take(8 * STEP_BYTES, WAIT).await, Err(BytesExhausted::Whole));
        assert_eq!(budget.holder(7).take(STEP_BYTES, WAIT).await, Ok(()));
        large.pop();
        drop(another);
        assert_eq!(budget.holder(6).take(8 * STEP_BYTES, WAIT).await, Ok(()));
    }
}
