//! Bytes that a cache entry occupies, for caches whose keys or values a client may choose.
//!
//! Invariant: the capacity of such a cache is a number of bytes, so that long values evict others instead of taking
//! more memory.

use std::sync::Arc;

use crate::types::Did;

/// Bytes that a cache keeps around each key and value: its hash table, its lists, its reference counts.
pub const ENTRY_BYTES: usize = 256;

/// A key or a value that knows its size.
pub trait Weigh {
    /// Bytes on the heap and in the value itself.
    fn weight_bytes(&self) -> usize;
}

/// The weigher to give to a cache's builder.
pub fn entry_weight<K: Weigh, V: Weigh>(key: &K, value: &V) -> u32 {
    let bytes = ENTRY_BYTES + key.weight_bytes() + value.weight_bytes();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Weigh for str {
    fn weight_bytes(&self) -> usize {
        self.len()
    }
}

impl Weigh for String {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.len()
    }
}

impl Weigh for Did {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.as_str().len()
    }
}

impl<T: Weigh + ?Sized> Weigh for Arc<T> {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + (**self).weight_bytes()
    }
}

impl<T: Weigh> Weigh for Option<T> {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.as_ref().map_or(0, Weigh::weight_bytes)
    }
}

impl<T: Weigh, E> Weigh for Result<T, E> {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.as_ref().map_or(0, Weigh::weight_bytes)
    }
}

impl<A: Weigh, B: Weigh> Weigh for (A, B) {
    fn weight_bytes(&self) -> usize {
        self.0.weight_bytes() + self.1.weight_bytes()
    }
}

/// The weight of a value of fixed size.
macro_rules! of_one_size {
    ($($type:ty),* $(,)?) => {
        $(impl Weigh for $type {
            fn weight_bytes(&self) -> usize {
                size_of::<Self>()
            }
        })*
    };
}

of_one_size!((), i64, [u8; 16], &'static str, tokio::sync::Semaphore, tokio::sync::Mutex<()>);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ENTRY_BYTES, entry_weight};

    #[test]
    fn an_entry_weighs_its_key_and_its_value() {
        let long = "x".repeat(10_000);
        assert!(entry_weight(&String::new(), &long) as usize >= ENTRY_BYTES + 10_000);
        assert!(entry_weight(&long, &()) as usize >= ENTRY_BYTES + 10_000);
        assert!(entry_weight(&(Arc::<str>::from(long.as_str()), 1_i64), &Some(long)) as usize >= 20_000);
    }
}
