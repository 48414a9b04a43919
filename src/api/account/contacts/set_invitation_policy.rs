//! `blue.catbird.account.setInvitationPolicy`: sets which accounts may invite the account, in place of the server's
//! setting.

use super::model::certified;
use crate::federation::joining::consent;
use crate::lexicon::account::set_invitation_policy::{Error, Output, SetInvitationPolicy};
use crate::xrpc::{Call, Device, Failure, Fault, Services};

pub async fn set_invitation_policy(
    cx: &Services,
    caller: Device,
    call: Call<SetInvitationPolicy>,
) -> Result<Output, Failure<Error>> {
    certified(&caller)?;
    let unknown = || Fault::InvalidRequest("input/invitations: expected everyone, contacts or nobody".to_owned());
    let policy = consent::from_name(&call.input.invitations).ok_or_else(unknown)?;

    consent::set_policy(cx.storage.pool(), caller.author.account_id, policy).await?;
    Ok(Output {})
}
