//! Application messages: opaque to the server, in one order for all members.

pub(super) mod get_messages;
pub(super) mod send_message;
