//! Records of received deliveries, so that a repeat gets the first answer.
//!
//! Invariant: a delivery is known by who delivered it, for whom, under which id; what it says is compared, and not how:
//! a home signs its checkpoints anew, and a lineage grows.

mod store;

use crate::lexicon::peer::deliver::Input;
use crate::types::{Did, Hash};

pub use store::{find, keep, position};

/// A delivery's identity.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub peer: &'a Did,
    pub account_id: i64,
    pub id: &'a str,
    pub hash: Hash,
}

/// The hash of a delivery's content, without its lineage and snapshot.
pub fn hash(input: &Input) -> Hash {
    let said = Input { genesis: None, lineage: None, anchor: None, view: None, ..input.clone() };
    Hash::labelled("rookery delivery v1", &serde_json::to_vec(&said).unwrap_or_default())
}
