//! Judging what a peer sends, in the order in which a request is judged; the first failure ends it.

use http::request::Parts;

use super::peers::{Counted, InFlight, unavailable};
use super::signature::{Presented, read};
use super::{AccountHome, Age, Federation, PeerRefused};
use crate::identity::replay::{Seen, Sighting};
use crate::limit::Standing;
use crate::telemetry::metric_name;
use crate::types::Did;

/// A peer whose signature holds.
#[derive(Debug)]
pub struct Admitted {
    pub server: Did,
    pub peer_id: i64,
    pub counted: Counted,
    pub presented: Presented,
    /// Where its budget of requests stands.
    pub standing: Standing,
    /// Its place among its domain's requests in flight.
    _in_flight: InFlight,
}

impl Federation {
    /// Whether a request comes as from a peer.
    pub fn is_signed(headers: &http::HeaderMap) -> bool {
        headers.contains_key("signature-input")
    }

    /// All that can be judged before the body is read.
    pub async fn admit(&self, parts: &Parts) -> Result<Admitted, PeerRefused> {
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let target_uri = format!("{}{path}", self.settings.origin);
        let (audience, now_s) = (self.settings.server.as_str(), self.clock.now_seconds());
        let presented = read(parts.method.as_str(), &target_uri, &parts.headers, audience, now_s)?;

        let known = self.known(&presented.server).await.map_err(unavailable)?;
        self.may_talk(&presented.server, known.as_ref())?;
        let document = self.document_of(&presented.server, known.as_ref(), Some(&presented.key_id)).await?;
        let key = document.key(&presented.key_id).ok_or(PeerRefused::PeerKeyUnknown)?;
        presented.verify(&key.key)?;
        let peer = self.meet(&presented.server, known, &document).await?;
        Self::counts(&peer, &presented.key_id)?;

        let counted = self.counted(&peer);
        let (in_flight, standing) = self.quotas.enter(&counted, presented.actor.as_ref()).await?;
        metrics::counter!(metric_name::PEER_REQUESTS, "peer" => self.labels.of(&peer.did)).increment(1);
        Ok(Admitted { server: peer.did, peer_id: peer.id, counted, presented, standing, _in_flight: in_flight })
    }

    /// The rest, once the body is read.
    pub async fn check_body(&self, admitted: &Admitted, body: &[u8]) -> Result<(), PeerRefused> {
        let presented = &admitted.presented;
        presented.check_body(body)?;
        let seen = Seen {
            iss: &presented.server,
            // Tokens and signatures do not share names.
            jti: &format!("peer {}", presented.nonce),
            iat_s: Some(presented.created_s),
            exp_s: presented.expires_s,
        };
        match self.replay.remember(seen).await {
            Ok(Sighting::First) => {}
            Ok(Sighting::Repeated) => return Err(PeerRefused::SignatureReplayed),
            Ok(Sighting::Forgotten) => {
                return Err(PeerRefused::SignatureExpired("it was made before this server lost its memory"));
            }
            Err(_) => return Err(PeerRefused::Unavailable),
        }
        self.quotas.take(&admitted.counted, super::Quota::ReceivedKib, body.len() as u64 / 1024)
    }

    /// Whether it was found before that the server speaks for the account: then the answer may be an hour old.
    pub fn has_spoken_for(&self, server: &Did, account: &Did) -> bool {
        self.pairs.contains_key(&(server.clone(), account.clone()))
    }

    /// Whether the server speaks for the account: its document names it.
    pub async fn speaks_for(&self, server: &Did, account: &Did, age: Age) -> Result<(), PeerRefused> {
        let mut found = self.home_of(account, age).await;
        if matches!(&found, Ok(home) if *home != AccountHome::Elsewhere(server.clone())) {
            // It may have moved there a moment ago: the new server's word is worth one fresh look, and no more.
            self.look_again(account).await;
            found = self.home_of(account, age).await;
        }
        match found {
            Ok(AccountHome::Elsewhere(named)) if named == *server => {
                self.pairs.insert((server.clone(), account.clone()), ());
                Ok(())
            }
            Ok(_) => {
                self.pairs.invalidate(&(server.clone(), account.clone()));
                Err(PeerRefused::NotSpokenFor)
            }
            Err(_) => Err(PeerRefused::HomeUnverified),
        }
    }
}
