//! Peers as labels of metrics.
//!
//! Invariant: the number of labels is bounded. A peer on probation has no label of its own: a stranger with a thousand
//! domains adds no metric.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::types::Did;

/// Peers with a label of their own; all others share one.
const MAX_LABELS: usize = 100;
const OTHERS: &str = "other";

#[derive(Default)]
pub struct Labels(RwLock<HashMap<Did, Arc<str>>>);

impl Labels {
    /// From now on it has a label of its own, if there is one left.
    pub fn admit(&self, server: &Did) {
        if self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(server) {
            return;
        }
        let mut labels = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if labels.len() < MAX_LABELS {
            labels.insert(server.clone(), server.as_str().into());
        }
    }

    pub fn of(&self, server: &Did) -> Arc<str> {
        let labels = self.0.read().unwrap_or_else(PoisonError::into_inner);
        labels.get(server).cloned().unwrap_or_else(|| OTHERS.into())
    }
}

#[cfg(test)]
mod tests {
    use super::{Labels, MAX_LABELS, OTHERS};
    use crate::types::Did;

    #[test]
    fn a_label_is_given_to_so_many_and_the_rest_share_one() {
        let labels = Labels::default();
        let server = |number: usize| Did::parse(&format!("did:web:s{number}.example")).unwrap();
        for number in 0..MAX_LABELS + 5 {
            labels.admit(&server(number));
            labels.admit(&server(number));
        }
        assert_eq!(&*labels.of(&server(0)), "did:web:s0.example");
        assert_eq!(&*labels.of(&server(MAX_LABELS - 1)), server(MAX_LABELS - 1).as_str());
        assert_eq!(&*labels.of(&server(MAX_LABELS)), OTHERS);
        assert_eq!(&*labels.of(&Did::parse("did:web:nobody.example").unwrap()), OTHERS);
    }
}
