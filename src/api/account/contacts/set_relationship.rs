//! `blue.catbird.account.setRelationship`: asks, agrees, or ends.
//!
//! Invariant: the caller's row changes at once; what the other side makes of it is its own business, and comes back only
//! as an agreement.

use super::model::may_change;
use crate::federation::joining::relationship::{self, Change, Refused, Side};
use crate::federation::joining::{delivery, whereabouts};
use crate::lexicon::account::set_relationship::{Error, Output, SetRelationship};
use crate::log;
use crate::storage;
use crate::types::{Bytes, Did};
use crate::xrpc::{Call, Device, Failure, Fault, Services};

pub async fn set_relationship(
    cx: &Services,
    caller: Device,
    call: Call<SetRelationship>,
) -> Result<Output, Failure<Error>> {
    may_change(&caller, &call.input.account)?;
    let change = match call.input.change.as_str() {
        "request" => Change::Request,
        "accept" => Change::Accept,
        _ => Change::Remove,
    };
    let elsewhere = whereabouts::elsewhere(&cx.federation, &caller.author.did, &call.input.account).await;
    let elsewhere = elsewhere.map_err(Fault::from)?;

    if elsewhere.is_some() {
        let fits = delivery::may_send(cx.storage.pool(), caller.author.account_id, 1).await?;
        fits.map_err(|_: delivery::TooMany| Fault::DeliveriesWait)?;
    }
    let state = storage::retrying(Failure::is_collision, || {
        set(cx, &caller, &call.input.account, elsewhere.as_ref(), change, call.input.note.as_ref())
    });
    let state = state.await?;
    cx.log.wake_courier();
    cx.joining.wake();
    Ok(Output { state })
}

async fn set(
    cx: &Services,
    caller: &Device,
    other: &Did,
    elsewhere: Option<&Did>,
    change: Change,
    note: Option<&Bytes>,
) -> Result<String, Failure<Error>> {
    let own = (caller.author.account_id, &caller.author.did);
    let (now, note) = (cx.clock.now(), note.map(Bytes::as_slice));
    let mut tx = cx.storage.begin().await?;
    let account_id = match elsewhere {
        Some(_) => None,
        None => whereabouts::find_local(tx.conn(), other).await?,
    };
    let side = Side { did: other, account_id };
    let changed = relationship::change(tx.conn(), own, side, change, note, now.to_datetime()).await?;
    let (state, effects) = changed.map_err(refused)?;
    log::queue(tx.conn(), &effects.notices, now).await?;
    if let (Some(server), Some(word)) = (elsewhere, effects.word) {
        let sent = delivery::Words { sender: Some(own.0), from: own.1, to: other, server };
        delivery::send_word(tx.conn(), sent, word, note, now).await?;
    }
    tx.commit().await?;
    Ok(relationship::name(state).to_owned())
}

fn refused(why: Refused) -> Failure<Error> {
    Failure::Named(match why {
        Refused::NotFound => Error::RelationshipNotFound("this account asked for nothing that is open".into()),
        Refused::TooMany => Error::TooManyRelationships("the account has 10,000 contacts and requests".into()),
    })
}
