//! Contacts and blocks of an account, and its invitation policy.
//!
//! Invariant: each method changes only the caller's own side of a relationship.

mod list_blocks;
mod list_relationships;
mod model;
mod set_block;
mod set_invitation_policy;
mod set_relationship;

use crate::lexicon::account::{
    list_blocks::ListBlocks, list_relationships::ListRelationships, set_block::SetBlock,
    set_invitation_policy::SetInvitationPolicy, set_relationship::SetRelationship,
};
use crate::xrpc::Api;

pub(super) use model::certified;

pub fn api() -> Api {
    Api::new()
        .method::<SetRelationship, _, _>(set_relationship::set_relationship)
        .method::<ListRelationships, _, _>(list_relationships::list_relationships)
        .method::<SetBlock, _, _>(set_block::set_block)
        .method::<ListBlocks, _, _>(list_blocks::list_blocks)
        .method::<SetInvitationPolicy, _, _>(set_invitation_policy::set_invitation_policy)
}
