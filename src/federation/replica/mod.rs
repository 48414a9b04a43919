//! What this server holds of streams that others order, and what it sends of its own.

mod view;

pub use view::{View, ViewDevice, ViewMember};
