//! How accounts come to conversations, on one server and across servers: consent, claims, invitations, deliveries.
//!
//! Invariants: a stranger brings nobody anywhere without a word of that person, or of the setting that stands for it; what
//! a person blocked, refused or ignored is not told to anybody; a server takes an invitation only from the stream's home,
//! and only for key packages that were claimed for that stream and home.

pub mod claims;
pub mod consent;
pub mod delivery;
pub mod invitation;
pub mod offer;
pub mod relationship;
pub mod whereabouts;
