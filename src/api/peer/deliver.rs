//! `blue.catbird.peer.deliver`: another server says what is for one account of this one.
//!
//! Invariants: deliveries of an account come from its own server, those of a stream from its home; a repeat gets the
//! first answer, and changes nothing; no answer reveals what the person saw, blocked or ignored.

use crate::config::Invitations;
use crate::federation::joining::delivered::{self, Known};
use crate::federation::joining::delivery::{self, Words};
use crate::federation::joining::offer::{Offer, Unread};
use crate::federation::joining::relationship::{self, Word};
use crate::federation::joining::{consent, whereabouts};
use crate::federation::{AccountHome, Age, PeerRefused, Quota};
use crate::lexicon::peer::deliver::{Deliver, Error, Input, Output, Position};
use crate::log;
use crate::storage;
use crate::types::{Bytes, Did, Idem};
use crate::xrpc::{Call, Failure, Fault, Peer, Services, parse};

/// A delivery, after verification.
enum Proven {
    Word {
        from: Did,
        word: Word,
        note: Option<Bytes>,
        unasked: bool,
    },
    Offer(Box<Offer>),
    #[cfg(feature = "next-version")]
    Note(Bytes),
}

pub async fn deliver(cx: &Services, caller: Peer, call: Call<Deliver>) -> Result<Output, Failure<Error>> {
    let input = &call.input;
    let id = parse(Idem::parse, &input.delivery_id)?;
    if !delivery::is_known(input) {
        return Err(Fault::KindNotImplemented.into());
    }
    let account_id = account(cx, &input.to).await?;
    let known = Known { peer: &caller.server, account_id, id: id.as_str(), hash: delivered::hash(input) };
    if let Some(answer) = repeated(cx, &known).await? {
        return Ok(answer);
    }
    cx.federation.take(&caller.counted, Quota::Invitations, 1).map_err(|refused: PeerRefused| Fault::from(refused))?;
    let proven = prove(cx, &caller.server, input).await?;

    let answer =
        storage::retrying(Failure::is_collision, || take(cx, &caller.server, &input.to, &known, &proven)).await?;
    cx.log.wake_courier();
    cx.joining.wake();
    Ok(answer)
}

/// The account's row, if it lives here.
async fn account(cx: &Services, to: &Did) -> Result<i64, Failure<Error>> {
    let home = cx.federation.home_of(to, Age::First).await.map_err(Fault::from)?;
    if let AccountHome::Elsewhere(server) = &home
        && whereabouts::note_server(cx.storage.pool(), to, server).await?
    {
        return Err(Failure::Named(Error::AccountMoved("the account lives on another server now".into())));
    }
    let mut connection = cx.storage.pool().acquire().await?;
    let found = whereabouts::find_local(&mut connection, to).await?;
    let found = found.filter(|_| home == AccountHome::Here);
    found.ok_or_else(|| Failure::Named(Error::NotHere("no such account lives here".into())))
}

async fn prove(cx: &Services, caller: &Did, input: &Input) -> Result<Proven, Failure<Error>> {
    let malformed = |why: &str| Failure::Named(Error::Malformed(why.into()));
    let word = match (input.kind.as_str(), input.change.as_deref()) {
        ("consentRequest", _) | ("relationship", Some("request")) => Word::Ask,
        #[cfg(feature = "next-version")]
        ("note", _) => return Ok(Proven::Note(input.note.clone().unwrap_or_default())),
        ("relationship", Some("accept")) => Word::Agree,
        ("relationship", Some("end")) => Word::End,
        ("relationship", _) => return Err(malformed("a relationship has a change: request, accept or end")),
        _ => {
            return match Offer::read(&cx.federation, caller, input).await {
                Ok(offer) => Ok(Proven::Offer(Box::new(offer))),
                Err(Unread::Refused(refusal)) => Err(refusal.into()),
                Err(Unread::Unavailable) => Err(Fault::Unavailable.into()),
            };
        }
    };
    let from = input.from.clone().ok_or_else(|| malformed("somebody says it: from"))?;
    cx.federation.speaks_for(caller, &from, Age::First).await.map_err(Fault::from)?;
    let unasked = input.kind == "relationship" && word == Word::Ask;
    Ok(Proven::Word { from, word, note: input.note.clone(), unasked })
}

async fn take(
    cx: &Services,
    caller: &Did,
    to: &Did,
    known: &Known<'_>,
    proven: &Proven,
) -> Result<Output, Failure<Error>> {
    let (now, unsaid) = (cx.clock.now(), cx.config.identity.invitations);
    let mut tx = cx.storage.begin().await?;
    let state = match proven {
        Proven::Word { from, word, note, unasked } => {
            let policy = consent::policy(tx.conn(), unsaid, known.account_id).await?;
            if *unasked && policy != Invitations::Everyone {
                let why = "the account is asked by consentRequest alone";
                return Err(Failure::Named(Error::ConsentRequired(why.into())));
            }
            let note = note.as_ref().map(Bytes::as_slice);
            let own = (known.account_id, to);
            let effects = relationship::receive(tx.conn(), own, from, *word, note, now.to_datetime()).await?;
            log::queue(tx.conn(), &effects.notices, now).await?;
            if let Some(back) = effects.word {
                let words = Words { sender: None, from: to, to: from, server: caller };
                delivery::send_word(tx.conn(), words, back, None, now).await?;
            }
            if *word == Word::Ask { "pending" } else { "accepted" }
        }
        Proven::Offer(offer) => {
            let held = offer.hold(tx.conn(), unsaid, known.account_id, now).await?;
            let unknown = "a ref was not claimed for this stream and home, or was used already";
            let (taken, notices) = held.ok_or_else(|| Failure::Named(Error::KeyPackageUnknown(unknown.into())))?;
            log::queue(tx.conn(), &notices, now).await?;
            if taken { "accepted" } else { "pending" }
        }
        #[cfg(feature = "next-version")]
        Proven::Note(text) => super::store::insert_note(tx.conn(), known.account_id, text.as_slice()).await?,
    };
    let (term, seq) = delivered::position(tx.conn(), known.account_id).await?;
    let answer = Output { state: state.to_owned(), account: Position { term, seq } };
    let body = serde_json::to_value(&answer).map_err(Fault::internal)?;
    if !delivered::keep(tx.conn(), known, &body, now.to_datetime()).await? {
        // A concurrent repeat of the delivery was quicker: run again, this finds its answer.
        tx.rollback().await?;
        return match repeated(cx, known).await? {
            Some(answer) => Ok(answer),
            None => Err(Fault::Collided.into()),
        };
    }
    tx.commit().await?;
    Ok(answer)
}

async fn repeated(cx: &Services, known: &Known<'_>) -> Result<Option<Output>, Failure<Error>> {
    match delivered::find(cx.storage.pool(), known).await? {
        None => Ok(None),
        Some(Ok(body)) => Ok(Some(serde_json::from_value(body).map_err(Fault::internal)?)),
        Some(Err(())) => {
            Err(Failure::Named(Error::IdempotencyConflict("this deliveryId was used for something else".into())))
        }
    }
}
