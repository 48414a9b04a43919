//! Whether two servers can speak to each other, from this one's side.

use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use http::Response;

use super::Report;
use crate::config::{Config, Mode};
use crate::federation::{CallError, Federation, KeyState, KnownPeer, PeerRequest, Policy, ServerDocument};
use crate::identity::{DidDocument, Guarded};
use crate::lexicon::Kind;
use crate::server::{Beside, Database, federation_beside, open_database_beside};
use crate::types::{Clock, Did, StreamId};

/// A receiver takes signatures that are older, or younger, than this by its own clock for another time's.
const SKEW_S: i64 = 30;
/// Asked for a stream that nobody has.
const QUERY: &str = "blue.catbird.peer.getCheckpoint";

pub(super) async fn examine(config: &Config, server: &Did) -> anyhow::Result<Report> {
    let Database { storage, cluster } = open_database_beside(config).await?;
    let Beside { federation, guarded, key_ids } = federation_beside(config, storage.clone(), &Clock::System)?;
    let doctor = Doctor { config, server, federation, guarded, key_ids, development: !config.is_production() };
    let report = doctor.examine().await;
    storage.close();
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    Ok(report)
}

struct Doctor<'a> {
    config: &'a Config,
    server: &'a Did,
    federation: Federation,
    guarded: Arc<Guarded>,
    /// Of the keys that this server publishes.
    key_ids: Vec<String>,
    development: bool,
}

impl Doctor<'_> {
    async fn examine(&self) -> Report {
        let mut report = Report::default();
        self.settings(&mut report);
        self.own_document(&mut report).await;
        let known = self.federation.known(self.server).await.ok().flatten();
        self.policy(known.as_ref(), &mut report);
        match self.document(&mut report).await {
            Some(document) => self.keys(known.as_ref(), &document, &mut report),
            None => report.unseen("their keys"),
        }
        if report.is_well() {
            self.call(&mut report).await;
        } else {
            report.unseen("signed call");
        }
        report
    }

    fn settings(&self, report: &mut Report) {
        match self.config.federation.mode {
            Mode::Off => report.wrong(
                "setting",
                "FEDERATION is off: no server is spoken to",
                "set FEDERATION to open or allowlist, and start the server again",
            ),
            mode => report.well("setting", format!("FEDERATION is {}", format!("{mode:?}").to_lowercase())),
        }
    }

    /// What others see of this server.
    async fn own_document(&self, report: &mut Report) {
        const STEP: &str = "own document";
        let (did, origin) = (&self.config.identity.service_did, &self.config.identity.public_url);
        let url = format!("{}/.well-known/did.json", origin.origin().ascii_serialization());
        let document = match self.read(did, &url).await {
            Ok((document, _)) => document,
            Err((why, _)) => {
                let fix = format!(
                    "others must get {url} as this server answers it: check that it runs, DNS, TLS and the \
                                   proxy in front"
                );
                return report.wrong(STEP, format!("{url}: {why}"), fix);
            }
        };
        let missing: Vec<&str> =
            self.key_ids.iter().filter(|id| document.key(id).is_none()).map(String::as_str).collect();
        if missing.is_empty() {
            return report.well(STEP, format!("{url} is this server's, with {}", self.key_ids.join(" and ")));
        }
        report.wrong(
            STEP,
            format!("{url} does not list {}, with which this server signs", missing.join(" and ")),
            "another server may answer there, or this one runs with other keys: compare KEYS_DIR, and start it again",
        );
    }

    fn policy(&self, known: Option<&KnownPeer>, report: &mut Report) {
        const STEP: &str = "policy";
        let (server, listed) = (self.server, self.config.federation.allowed.contains(self.server));
        match (known.map_or(Policy::Usual, |known| known.policy), self.config.federation.mode) {
            (Policy::Blocked, _) => report.wrong(
                STEP,
                format!("{server} is blocked here"),
                format!("`rookery peer usual {server}`, if that is no longer meant"),
            ),
            (Policy::Usual, Mode::Allowlist) if !listed => report.wrong(
                STEP,
                format!("FEDERATION is allowlist, and {server} is not allowed"),
                format!("`rookery peer allow {server}`, or add it to FEDERATION_ALLOW"),
            ),
            (policy, _) if listed || policy == Policy::Allowed => report.well(STEP, format!("{server} is allowed")),
            _ => report.well(STEP, format!("{server} is treated as any other")),
        }
    }

    async fn document(&self, report: &mut Report) -> Option<ServerDocument> {
        const STEP: &str = "their document";
        let Some(origin) = crate::federation::endpoint(self.server, self.development) else {
            report.wrong(
                STEP,
                format!("{} is not did:web of a host", self.server),
                "a server is called did:web:<host>, \
                          without a port",
            );
            return None;
        };
        let url = format!("{origin}/.well-known/did.json");
        match self.read(self.server, &url).await {
            Ok((document, answer)) => {
                report.well(STEP, format!("{url} is a server's, with {} keys", document.keys.len()));
                clock(&answer, Clock::System.now_seconds(), report);
                Some(document)
            }
            Err((why, fix)) => {
                report.wrong(STEP, format!("{url}: {why}"), fix);
                report.unseen("clocks");
                None
            }
        }
    }

    /// A document, judged as the server judges it; or what is wrong, and what its operator can do.
    async fn read(&self, server: &Did, url: &str) -> Result<(ServerDocument, Response<Bytes>), (String, String)> {
        let answer = self.guarded.get(url, "application/json").await.map_err(|error| {
            let fix = "check the name, that it has public addresses alone, that it listens there, and its certificate";
            (error.to_string(), fix.to_owned())
        })?;
        if !answer.status().is_success() {
            let fix = "its proxy must lead that path to the server, without a redirect";
            return Err((format!("answered {}", answer.status().as_u16()), fix.to_owned()));
        }
        let document = DidDocument::parse(server, answer.body()).map_err(|error| {
            (
                error.to_string(),
                "its SERVICE_DID must be did:web of that host, and nothing else may answer there".to_owned(),
            )
        })?;
        let document = ServerDocument::read(server, &document, self.development).map_err(|why| {
            (why.to_owned(), "its operator must set SERVICE_DID and PUBLIC_URL to the same host".to_owned())
        })?;
        Ok((document, answer))
    }

    fn keys(&self, known: Option<&KnownPeer>, document: &ServerDocument, report: &mut Report) {
        const STEP: &str = "their keys";
        let Some(known) = known else { return report.well(STEP, "never seen before: they are taken as they are") };
        let show = format!("`rookery peer show {}`, ask its operator whether the key is theirs", self.server);
        for shown in &document.keys {
            match known.keys.iter().find(|known| known.key.id == shown.id) {
                Some(known) if known.key.key != shown.key => {
                    let fix = format!("ask its operator; if it is true, `rookery peer forget {}`", self.server);
                    return report.wrong(STEP, format!("{} had other bytes before", shown.id), fix);
                }
                Some(known) if known.state == KeyState::Held => {
                    let fix = format!("{show}, then accept-key or refuse-key");
                    return report.wrong(STEP, format!("{} waits: no earlier key endorsed it", shown.id), fix);
                }
                _ => {}
            }
        }
        report.well(STEP, "they are those that were seen before, or endorsed by them");
    }

    /// What the other side makes of a signature.
    async fn call(&self, report: &mut Report) {
        const STEP: &str = "signed call";
        let stream = StreamId::of_genesis(&rand::random::<[u8; 32]>());
        let query = format!("stream={stream}");
        let request = PeerRequest {
            nsid: QUERY,
            kind: Kind::Query,
            query: &query,
            body: Bytes::new(),
            content_type: None,
            actor: None,
        };
        let own = &self.config.identity.service_did;
        match self.federation.call(self.server, request).await {
            // A stream that nobody has is told to those alone whose signature holds.
            Ok(_) => report.well(STEP, "taken"),
            Err(CallError::Refused { error, .. }) if error == "StreamNotFound" => {
                report.well(STEP, "it takes this server's word, and knows no such stream, as it should");
            }
            Err(CallError::Refused { status, error, message, .. }) => {
                report.wrong(STEP, format!("refused: {status} {error}: {message}"), mend(&error, own));
            }
            Err(error) => {
                let fix = "try again in a moment; if it stays so, look at its proxy and its log";
                report.wrong(STEP, error.to_string(), fix);
            }
        }
    }
}

/// By the `Date` of an answer; an HTTP date has seconds.
fn clock(answer: &Response<Bytes>, now_s: i64, report: &mut Report) {
    const STEP: &str = "clocks";
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let theirs = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.timestamp());
    match theirs.map(|theirs| theirs - now_s) {
        Some(ahead) if ahead.abs() > SKEW_S => report.wrong(
            STEP,
            format!("its clock and this one are {} s apart", ahead.abs()),
            "let both machines follow a time server (NTP)",
        ),
        Some(ahead) => report.well(STEP, format!("they differ by {} s", ahead.abs())),
        None => report.well(STEP, "its answers have no date"),
    }
}

/// What to do about a refusal.
fn mend(error: &str, own: &Did) -> String {
    let text = match error {
        "SignatureExpired" => "let both machines follow a time server (NTP)",
        "SignatureInvalid" | "SignatureMalformed" | "SignatureMissing" | "DigestMismatch" | "AmbiguousCredentials" => {
            "what is between must pass path, query, headers and body on as they are; its PUBLIC_URL must be https://<its \
             host>"
        }
        "WrongAudience" => "another server answers under that name, or its SERVICE_DID is of another host",
        "PeerKeyUnknown" => {
            "it must reach this server's document (`own document` above) and find the key there; after a change of keys \
             it looks again within 5 minutes"
        }
        "PeerKeyHeld" => {
            return format!("its operator can say `rookery peer accept-key {own} <key>`; or wait 72 hours");
        }
        "PeerKeyReused" => {
            return format!("its operator can say `rookery peer forget {own}`, if this server was made anew");
        }
        "PeerPending" => return format!("its operator must say `rookery peer allow {own}`"),
        "PeerBlocked" => return format!("its operator has blocked {own}: ask there"),
        "FederationOff" => "its operator must set FEDERATION to open or allowlist",
        "RateLimitExceeded" => "wait a moment: who is new has a tenth of the usual quotas for 7 days",
        "MethodNotImplemented" => "it is older than this server: its operator must update it",
        _ => "its log says more, under the same name",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Finding;

    #[test]
    fn clocks_that_are_too_far_apart_are_told() {
        let mut answer = Response::new(Bytes::new());
        answer.headers_mut().insert(http::header::DATE, "Sat, 21 Nov 2026 18:00:00 GMT".parse().unwrap());
        let now_s = 1_795_284_000;
        for (now_s, well) in
            [(now_s, true), (now_s + 30, true), (now_s - 30, true), (now_s + 31, false), (now_s - 31, false)]
        {
            let mut report = Report::default();
            clock(&answer, now_s, &mut report);
            assert_eq!(report.is_well(), well, "{now_s}");
            assert!(matches!(&report.0[0].1, Finding::Well(_)) == well);
        }
    }

    #[test]
    fn every_refusal_has_a_mending() {
        let own = Did::parse("did:web:a.example").unwrap();
        for error in ["PeerPending", "PeerBlocked", "PeerKeyHeld", "PeerKeyReused"] {
            assert!(mend(error, &own).contains("did:web:a.example"), "{error}");
        }
        for error in ["SignatureExpired", "SignatureInvalid", "WrongAudience", "PeerKeyUnknown", "FederationOff"] {
            assert!(!mend(error, &own).contains("log says more"), "{error}");
        }
    }
}
