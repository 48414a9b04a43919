//! XRPC over HTTP: how a request becomes a proven caller and a checked input, and how every failure gets its name.
//!
//! Invariants: parameters are checked before the caller, the caller before the body; unknown fields are ignored, never
//! rejected; a failure is answered as `{error, message}`, without internal details.

mod api;
mod caller;
mod denied;
mod device_lookups;
mod failure;
mod forward;
mod idempotency;
mod limits;
mod listeners;
mod method;
mod observe;
mod read_positions;
mod room;
mod services;
mod store;
pub mod stream;
pub mod ticket;
mod unique_json;
mod upstream;

pub use api::{Api, Rule, fallback};
pub use caller::{
    Account, AccountOrDevice, Anyone, Asked, Behalf, Caller, Device, Operator, Peer, PeerActor, ProvenDevice,
};
pub use denied::Denied;
pub use device_lookups::DeviceLookups;
pub use failure::{Failure, Fault};
pub use idempotency::{Repeat, keep_answer, repeated_answer};
pub use limits::{Address, BodyOwner, BodyRefused, CallOwner, Class, ClientConnection, Doors, Limits, around};
pub use listeners::{judge_listeners, watch_listeners};
pub use method::{Call, blocking, parse};
pub use observe::observe;
pub use read_positions::ReadPositions;
pub use services::{Group, ServiceParts, Services};
pub use ticket::DeviceOrTicket;
