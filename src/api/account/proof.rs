//! The proofs of a registration: that the caller holds the new device's key and each further MLS key.

use crate::identity::{DeviceKeys, MlsKey, PublicKey, TokenRefused, Verifier};
use crate::lexicon::Method;
use crate::lexicon::account::register_device::{self, Error, RegisterDevice};
use crate::types::Detail;
use crate::xrpc::{Account, Call, Failure, Fault, Services};

/// Verifies the new keys, by a token of this method that the device signed over this body, and by each further key's
/// own signature. A repeat with the proof gets the stored answer.
pub(super) fn proven_keys(
    cx: &Services,
    caller: &Account,
    call: &Call<RegisterDevice>,
) -> Result<DeviceKeys, Failure<Error>> {
    let invalid = |why: String| Failure::Named(Error::DeviceProofInvalid(Detail::new(why)));
    let shown = caller.device_token.as_deref().ok_or(Fault::from(TokenRefused::DeviceProofRequired))?;
    let token = cx.verifier.read_device(shown, RegisterDevice::NSID).map_err(|refused| invalid(refused.to_string()))?;
    let key = PublicKey::from_raw(token.curve(), call.input.public_key.as_slice())
        .map_err(|malformed| invalid(malformed.to_string()))?;
    if *token.did() != caller.did {
        return Err(invalid("the device token names another account".to_owned()));
    }
    let claims = Verifier::proof(token, &key).map_err(|refused| invalid(refused.to_string()))?;
    claims.check_body(&call.body).map_err(|refused| invalid(refused.to_string()))?;

    let read = |one: &register_device::MlsKey| MlsKey { key: one.key.clone(), proof: one.proof.clone() };
    let keys = DeviceKeys::new(key, call.input.mls_keys.iter().flatten().map(read).collect())?;
    keys.verify(&caller.did).map_err(|bad| invalid(bad.to_string()))?;
    Ok(keys)
}
