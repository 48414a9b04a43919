//! `blue.catbird.account.claimPairing`: gives the new device what was left for it, once.
//!
//! Invariant: the first claim with a proof gives the pairing the name of its call; only that name is answered from then
//! on. A claim without the key is answered as if there were no pairing.

use super::{not_found, store};
use crate::identity::PairingClaim;
use crate::lexicon::account::claim_pairing::{ClaimPairing, Error, Output};
use crate::types::{Bytes, Did, Idem};
use crate::xrpc::{Anyone, Call, Failure, Fault, Services, parse};

pub async fn claim_pairing(cx: &Services, _: Anyone, call: Call<ClaimPairing>) -> Result<Output, Failure<Error>> {
    let idem = parse(Idem::parse, &call.input.idem)?;
    let now = cx.clock.now().to_datetime();
    let waiting = store::find(cx.storage.pool(), &call.input.pairing, now).await?.ok_or_else(not_found)?;
    PairingClaim::new(&call.input.pairing, cx.log.home(), idem.as_str())
        .verify(&waiting.key, call.input.proof.as_slice())
        .map_err(|_| not_found())?;
    if waiting.approval.is_none() {
        return Err(Failure::Named(Error::PairingPending("no device has approved this pairing yet; ask again".into())));
    }
    if !store::claim(cx.storage.pool(), waiting.id, idem.as_str(), now).await? {
        return Err(Failure::Named(Error::PairingClaimed("this pairing was claimed already, by another call".into())));
    }
    let claimed = store::find_claimed(cx.storage.pool(), waiting.id).await?.ok_or_else(not_found)?;
    Ok(Output {
        account: Did::parse(&claimed.did).map_err(Fault::internal)?,
        device: claimed.device,
        stream: claimed.stream,
        state: claimed.state,
        certificate: Bytes(claimed.certificate),
        payload: Bytes(claimed.payload),
    })
}
