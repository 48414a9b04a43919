//! Renewal of documents in the background.
//!
//! Invariant: the hosts of one registrable domain hold a few slots at most, and hosts of did:web never hold the slots
//! of did:plc: unresponsive hosts delay only their own documents.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::identity::web_name::registrable_domain;
use crate::types::Did;

/// Concurrent renewals from the directory of did:plc.
const OF_DIRECTORY: usize = 16;
/// Concurrent renewals from all hosts of did:web, and from the hosts of one registrable domain.
const OF_HOSTS: usize = 64;
const OF_DOMAIN: usize = 2;
const DIRECTORY: &str = "did:plc";

#[derive(Clone, Default)]
pub(super) struct Renewals(Arc<Mutex<Running>>);

/// The running renewals, by the directory's name or a registrable domain. The slots bound their number.
#[derive(Default)]
struct Running {
    by_source: HashMap<String, usize>,
    of_hosts: usize,
}

/// The slot of a running renewal, which is free again when this value is dropped.
pub(super) struct Renewal {
    renewals: Renewals,
    source: String,
}

impl Renewals {
    /// Takes a slot for the renewal of this DID's document, if one is free.
    pub fn begin(&self, did: &Did) -> Option<Renewal> {
        let domain = registrable_domain(did);
        let source = domain.unwrap_or(DIRECTORY).to_owned();
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = running.by_source.get(&source).copied().unwrap_or_default();
        let is_free =
            if domain.is_some() { now < OF_DOMAIN && running.of_hosts < OF_HOSTS } else { now < OF_DIRECTORY };
        if !is_free {
            return None;
        }
        running.of_hosts += usize::from(domain.is_some());
        running.by_source.insert(source.clone(), now + 1);
        Some(Renewal { renewals: self.clone(), source })
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        let mut running = self.renewals.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.source != DIRECTORY {
            running.of_hosts = running.of_hosts.saturating_sub(1);
        }
        match running.by_source.get_mut(&self.source) {
            Some(now) if *now > 1 => *now -= 1,
            _ => drop(running.by_source.remove(&self.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OF_DIRECTORY, OF_DOMAIN, OF_HOSTS, Renewals};
    use crate::types::Did;

    fn taken(renewals: &Renewals, name: impl Fn(usize) -> String) -> Vec<super::Renewal> {
        (0..200).filter_map(|number| renewals.begin(&Did::parse(&name(number)).unwrap())).collect()
    }

    #[test]
    fn places_are_shared_out_and_come_back() {
        let renewals = Renewals::default();
        let plc = taken(&renewals, |_| "did:plc:ewvi7nxzyoun6zhxrhs64oiz".to_owned());
        let one_domain = taken(&renewals, |number| format!("did:web:a{number}.stalls.example"));
        let many = taken(&renewals, |number| format!("did:web:d{number}.test"));
        assert_eq!((plc.len(), one_domain.len(), many.len()), (OF_DIRECTORY, OF_DOMAIN, OF_HOSTS - OF_DOMAIN));
        drop((plc, one_domain, many));
        assert!(renewals.0.lock().unwrap().by_source.is_empty());
        assert_eq!(taken(&renewals, |number| format!("did:web:d{number}.test")).len(), OF_HOSTS);
    }
}
