//! Offers of a home to an account of this server: a conversation, and its Welcome.
//!
//! Invariants: only the home by the stream's own lineage may offer; a Welcome is accepted only for key packages that
//! were claimed for that stream and home, each once, a last-resort one ten times a day.

mod store;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::invitation::{self, New, State};
use super::{CLAIM_LIFETIME, consent, relationship, seating};
use crate::config::Invitations;
use crate::federation::replica::View;
use crate::federation::{Federation, StatementRefused};
use crate::identity::Signed;
use crate::lexicon::peer::defs;
use crate::lexicon::peer::deliver::Input;
use crate::log::Outgoing;
use crate::log::lineage::{self, LineageLink};
use crate::mls;
use crate::storage::{Error, PgConnection};
use crate::types::{Bytes, Did, Refusal, Seq, StreamId, UnixMillis};

pub(super) use store::{Joinable, find_joinable, joined, put_off};

/// An offer that holds together. It is kept as it is until its stream is followed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    pub stream: StreamId,
    pub home: Did,
    /// The entry that added the devices.
    pub from_seq: Seq,
    pub epoch: u64,
    pub view: defs::View,
    pub refs: Vec<Bytes>,
    /// `None` where seats moved here: a seated account needs no Welcome.
    pub welcome: Option<Bytes>,
}

/// Why what was delivered is not an offer.
#[derive(Debug)]
pub enum Unread {
    Refused(Refusal),
    /// The keys of its home cannot be looked up now.
    Unavailable,
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Offer {
    /// Reads what a server delivers. It must be the home, by the lineage; `Malformed` for what does not hold together.
    pub async fn read(federation: &Federation, caller: &Did, input: &Input) -> Result<Self, Unread> {
        let malformed = |why: &str| Refusal::new("Malformed", why.to_owned());
        let (Some(stream), Some(genesis), Some(view), Some(from_seq), Some(epoch), Some(refs), Some(welcome)) =
            (&input.stream, &input.genesis, &input.view, input.from_seq, input.epoch, &input.refs, &input.welcome)
        else {
            let why = "an invitation has stream, genesis, view, fromSeq, epoch, refs and welcome";
            return Err(malformed(why).into());
        };
        let stream = StreamId::parse(stream).map_err(|why| malformed(&why.to_string()))?;
        let links: Vec<LineageLink> = input.lineage.iter().flatten().cloned().map(link).collect();
        let lineage = lineage::trace(&stream, &genesis.0, &links).map_err(|why| malformed(&why.to_string()))?;
        if lineage.present.home != caller.as_str() {
            return Err(Refusal::new("NotHome", "another server is the home of this stream").into());
        }
        for word in &lineage.words {
            let by = Did::parse(&word.by).map_err(|why| malformed(&why.to_string()))?;
            match federation.verify_statement(&by, word.label, &word.signed).await {
                Ok(()) => {}
                Err(StatementRefused::Invalid) => {
                    return Err(malformed("a statement of the lineage does not hold").into());
                }
                Err(StatementRefused::Unavailable) => return Err(Unread::Unavailable),
            }
        }
        let begins = Seq(from_seq);
        let held = View::try_from(view.clone()).and_then(|view| view.roster(begins));
        held.map_err(|why| malformed(&why.to_string()))?;
        let outside = mls::welcome::read(welcome.as_slice()).map_err(|_| malformed("it is not a Welcome"))?;
        let inside: BTreeSet<&[u8]> = outside.references.iter().map(Vec::as_slice).collect();
        let named: BTreeSet<&[u8]> = refs.iter().map(Bytes::as_slice).collect();
        if named.len() != refs.len() || !named.is_subset(&inside) {
            return Err(malformed("a ref is named twice, or the Welcome is not for it").into());
        }
        Ok(Self {
            stream,
            home: caller.clone(),
            from_seq: begins,
            epoch,
            view: view.clone(),
            refs: refs.clone(),
            welcome: Some(welcome.clone()),
        })
    }

    /// Holds it for the account, and spends the claims. Whether it is taken at once; nothing if a ref was not claimed.
    pub async fn hold(
        &self,
        conn: &mut PgConnection,
        unsaid: Invitations,
        account_id: i64,
        now: UnixMillis,
    ) -> Result<Option<(bool, Vec<Outgoing>)>, Error> {
        let at = now.to_datetime();
        let references: Vec<Vec<u8>> = self.refs.iter().map(|reference| reference.0.clone()).collect();
        let claims = store::claims(conn, account_id, self, &references, at - CLAIM_LIFETIME).await?;
        let claimed: BTreeSet<&[u8]> = claims.iter().map(|claim| claim.reference.as_slice()).collect();
        if claimed.len() != references.len() {
            return Ok(None);
        }
        store::spend(conn, self, &references, at).await?;

        let inviters: BTreeSet<&Did> = claims.iter().map(|claim| &claim.claimer).collect();
        let (mut consents, mut blocked) = (true, false);
        for inviter in &inviters {
            let yes = consent::consenting(conn, unsaid, inviter, self.stream.as_str(), &[account_id]).await?;
            consents &= yes.contains(&account_id);
            blocked |= relationship::is_blocked(conn, account_id, inviter).await?;
        }
        if !consents {
            seating::hold_seat(conn, account_id, self.stream.as_str(), self.from_seq).await?;
        }
        if blocked {
            // As if nobody had looked.
            return Ok(Some((false, Vec::new())));
        }
        let offer = serde_json::to_vec(self).map_err(|_| Error::Corrupt("an offer"))?;
        let new = New {
            account_id,
            stream: &self.stream,
            home: &self.home,
            inviter: inviters.first().copied(),
            offer: Some(&offer),
            from_seq: self.from_seq,
            state: if consents { State::Joining } else { State::Waiting },
        };
        let notice = invitation::hold(conn, &new, at).await?;
        if consents {
            // What waited from before is taken with it: the account is in this conversation now.
            invitation::join(conn, account_id, &self.stream, at).await?;
        }
        // The Welcome of an invitation that is accepted at once notifies the account.
        let notices = if consents { Vec::new() } else { vec![notice] };
        Ok(Some((consents, notices)))
    }
}

fn link(link: defs::LineageLink) -> LineageLink {
    let defs::Signed { statement, key, sig } = link.checkpoint;
    LineageLink { header: link.header, content: link.content, checkpoint: Signed { statement, key, sig } }
}
