//! Pairing: a new device shows a code that holds its key; a certified one vouches for that key and leaves a payload.
//!
//! Invariants: a pairing's data goes only to a caller that proves its key, under one name of the call, while the
//! pairing lives; one approval wins. A caller without the key gets one answer for existing and missing pairings.

mod approve_pairing;
mod claim_pairing;
mod create_pairing;
mod store;

use chrono::TimeDelta;

use crate::lexicon::account::{
    approve_pairing::ApprovePairing, claim_pairing::ClaimPairing, create_pairing::CreatePairing,
};
use crate::types::Refusal;
use crate::xrpc::Api;

/// How long a pairing lives.
const LIFETIME: TimeDelta = TimeDelta::minutes(5);
/// Pairings that may be open on this server at one time: one address may have few, and half of all places are reserved
/// for addresses without an open pairing.
const PLACES: store::Places = store::Places { of_address: 20, common: 5_000, all: 10_000 };

pub(super) fn api() -> Api {
    Api::new()
        .method::<CreatePairing, _, _>(create_pairing::create_pairing)
        .method::<ApprovePairing, _, _>(approve_pairing::approve_pairing)
        .method::<ClaimPairing, _, _>(claim_pairing::claim_pairing)
}

fn not_found() -> Refusal {
    Refusal::new("PairingNotFound", "there is no such pairing, it is over, or this is not its key: create another")
}
