//! Streams of events: AT Protocol event streams over WebSocket.

mod frame;
mod websocket;

pub use frame::{error_frame, info_frame};
pub use websocket::{Feed, Source};
