//! Chat: the delivery service of RFC 9750 for MLS groups (RFC 9420).
//!
//! Invariants: group id and epoch come from MLS bytes, never from a JSON field; one commit wins an epoch, in one
//! transaction with its entry, seats, Welcome pointers and GroupInfo; an account without a seat learns nothing of a
//! stream.

mod access;
mod commits;
mod conversations;
mod invitations;
mod key_packages;
mod messages;
mod store;
mod welcomes;

use crate::lexicon::mls::{
    accept_convo::AcceptConvo, ack_welcome::AckWelcome, add_members::AddMembers, claim_key_packages::ClaimKeyPackages,
    create_convo::CreateConvo, decline_convo::DeclineConvo, get_convo::GetConvo, get_convos::GetConvos,
    get_group_state::GetGroupState, get_key_package_status::GetKeyPackageStatus, get_key_packages::GetKeyPackages,
    get_messages::GetMessages, get_welcomes::GetWelcomes, leave_convo::LeaveConvo, list_invitations::ListInvitations,
    move_convo::MoveConvo, publish_key_package::PublishKeyPackage, publish_key_packages::PublishKeyPackages,
    remove_members::RemoveMembers, send_message::SendMessage, update_cursor::UpdateCursor,
};
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new()
        .method::<PublishKeyPackage, _, _>(key_packages::publish_key_package::publish_key_package)
        .method::<PublishKeyPackages, _, _>(key_packages::publish_key_packages::publish_key_packages)
        .method::<GetKeyPackages, _, _>(key_packages::get_key_packages::get_key_packages)
        .method::<ClaimKeyPackages, _, _>(key_packages::claim_key_packages::claim_key_packages)
        .method::<GetKeyPackageStatus, _, _>(key_packages::get_key_package_status::get_key_package_status)
        .method::<CreateConvo, _, _>(conversations::create_convo::create_convo)
        .method::<GetConvo, _, _>(conversations::get_convo::get_convo)
        .method::<GetConvos, _, _>(conversations::get_convos::get_convos)
        .method::<LeaveConvo, _, _>(conversations::leave_convo::leave_convo)
        .method::<MoveConvo, _, _>(conversations::move_convo::move_convo)
        .method::<ListInvitations, _, _>(invitations::list_invitations::list_invitations)
        .method::<AcceptConvo, _, _>(invitations::accept_convo::accept_convo)
        .method::<DeclineConvo, _, _>(invitations::decline_convo::decline_convo)
        .method::<UpdateCursor, _, _>(conversations::update_cursor::update_cursor)
        .method::<AddMembers, _, _>(commits::add_members::add_members)
        .method::<RemoveMembers, _, _>(commits::remove_members::remove_members)
        .method::<GetGroupState, _, _>(commits::get_group_state::get_group_state)
        .method::<GetWelcomes, _, _>(welcomes::get_welcomes::get_welcomes)
        .method::<AckWelcome, _, _>(welcomes::ack_welcome::ack_welcome)
        .method::<SendMessage, _, _>(messages::send_message::send_message)
        .method::<GetMessages, _, _>(messages::get_messages::get_messages)
}
