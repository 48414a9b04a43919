//! Conversations: creation, views, leaving.

pub(super) mod create_convo;
pub(super) mod get_convo;
pub(super) mod get_convos;
pub(super) mod leave_convo;
mod leave_here;
pub(super) mod move_convo;
pub(super) mod store;
pub(super) mod update_cursor;
mod view;
