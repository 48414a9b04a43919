//! Streams of events: AT Protocol event streams over WebSocket, and server-sent events.

mod frame;
mod gzip;
mod server_sent;
mod socket;
mod source;
mod upgrade;
mod websocket;

pub use frame::{error_frame, info};
pub use source::{Opening, Over, Source};
pub use upgrade::{PendingUpgrade, UpgradedConnection};
