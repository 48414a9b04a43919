//! `blue.catbird.account.createPairing`: opens a pairing, in which a new device waits for an account.
//!
//! Invariant: the key signed the request, so that no client opens a pairing for another device's key. The answer does
//! not reveal whether the key is registered: the approving device learns that.

use super::store::{self, NewPairing, Placed};
use super::{LIFETIME, PLACES};
use crate::identity::{Curve, PairingRequest, PublicKey};
use crate::lexicon::account::create_pairing::{CreatePairing, Error, Output};
use crate::types::{Bytes, Malformed, UnixMillis};
use crate::xrpc::{Anyone, Call, Failure, Fault, Services};

const WHY_INVALID: &str = "publicKey did not sign this request for this server within the last five minutes; set the clock \
                           of the device and sign it again";

/// Seconds after which an address with too many open pairings may try again.
const ADDRESS_FULL_RETRY_S: u64 = 60;

pub async fn create_pairing(
    cx: &Services,
    caller: Anyone,
    call: Call<CreatePairing>,
) -> Result<Output, Failure<Error>> {
    let input = &call.input;
    let unknown = Malformed::new("input/alg", "expected ES256, ES256K or EdDSA");
    let curve = Curve::from_alg(input.alg.as_deref().unwrap_or(Curve::Ed25519.alg())).ok_or(unknown)?;
    let key = PublicKey::from_raw(curve, input.public_key.as_slice())?;

    let (name, platform) = (input.name.as_ref(), input.platform.as_deref());
    let issued_at = i64::try_from(input.issued_at).unwrap_or(i64::MAX);
    let proof = input.proof.as_slice();
    PairingRequest::new(cx.log.home(), issued_at, &input.kind, name, platform)
        .verify(&key, proof, cx.clock.now_seconds())
        .map_err(|_| Failure::Named(Error::PairingProofInvalid(WHY_INVALID.into())))?;

    let now = cx.clock.now().to_datetime();
    let new = NewPairing {
        public_id: &hex::encode(rand::random::<[u8; 16]>()),
        key: &key,
        kind: &input.kind,
        name: name.map(Bytes::as_slice),
        platform,
        now,
        expires_at: now + LIFETIME,
        address: &cx.limits.address_name(caller.address),
    };
    store::forget_expired(cx.storage.pool(), now).await?;
    match store::insert(cx.storage.pool(), &new, &PLACES).await? {
        Placed::Made => {}
        Placed::AddressFull => return Err(Fault::RateLimited { retry_after_s: ADDRESS_FULL_RETRY_S }.into()),
        Placed::Full => return Err(Fault::Unavailable.into()),
    }
    let expires_at = UnixMillis::from(new.expires_at).to_rfc3339();
    Ok(Output { pairing: new.public_id.to_owned(), expires_at })
}
