//! `blue.catbird.mls.listInvitations`: what waits for the account.

use crate::federation::joining::invitation::{self, Waiting};
use crate::lexicon::mls::list_invitations::{Error, Invitation, ListInvitations, Output};
use crate::types::UnixMillis;
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn list_invitations(
    cx: &Services,
    caller: Device,
    _: Call<ListInvitations>,
) -> Result<Output, Failure<Error>> {
    let waiting = invitation::list_waiting(cx.storage.pool(), caller.author.account_id).await?;
    Ok(Output { invitations: waiting.into_iter().map(shown).collect() })
}

fn shown(waiting: Waiting) -> Invitation {
    Invitation {
        stream: waiting.stream,
        home: waiting.home,
        inviter: waiting.inviter,
        created_at: UnixMillis::from(waiting.created_at).to_rfc3339(),
    }
}
