//! Invitations that wait for the person.

pub(super) mod accept_convo;
pub(super) mod decline_convo;
pub(super) mod list_invitations;
