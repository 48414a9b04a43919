//! MLS (RFC 9420): whatever the server says about a group, it read from bytes that it checked itself.
//!
//! Pure functions over hostile bytes: no IO, no clock of our own, no SQL, no panic. A message is read to its last byte
//! or refused. The server holds no group secret, so three things stay unknown to it: whether a ciphertext decrypts,
//! whether an opaque commit says what its GroupInfo shows, and whether a confirmation tag is right. Members find out.
//!
//! [`group_info::view`], [`judge`] and [`founding`] verify a signature per leaf (0.1 ms each): call them in
//! `spawn_blocking`. In the server, this module is the only importer of openmls.

mod commit;
mod founding;
pub mod framing;
pub mod group_info;
mod identity;
pub mod key_package;
pub mod limits;
mod refusals;
mod suite;
pub mod welcome;
mod wire;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod members;
#[cfg(test)]
use rookery_client::mls as client;

pub use commit::{Declared, DeclaredAdd, Stored, StoredLeaf, VerifiedCommit, judge};
pub use founding::{Founded, founding};
pub use framing::{Content, Framing, WireFormat};
pub use group_info::{GroupView, Leaf};
pub use identity::identity;
pub use key_package::CheckedKeyPackage;
pub use suite::SUITES;
