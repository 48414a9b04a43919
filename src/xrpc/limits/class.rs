//! The class of a call, whose budget it counts in. Invariant: every method is in exactly one class, by its caller and
//! kind unless this file names it.

use crate::lexicon::Kind;

/// Calls that count together, for one account or (the last three) for one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    Read,
    Write,
    Message,
    KeyPackage,
    Account,
    Subscribe,
    /// A peer's own requests, counted together with its domain's.
    Peer,
    /// Calls without authentication.
    Open,
    /// Health checks.
    Probe,
    /// Failed authentications.
    Failure,
}

impl Class {
    /// The metric's label; the setting is `RATE_` and this label in upper case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Message => "message",
            Self::KeyPackage => "key_package",
            Self::Account => "account",
            Self::Subscribe => "subscribe",
            Self::Peer => "peer",
            Self::Open => "open",
            Self::Probe => "probe",
            Self::Failure => "failure",
        }
    }

    /// The class of a method. `caller` is its rule.
    pub fn of(nsid: &str, kind: Kind, caller: &str) -> Self {
        if caller == "Anyone" {
            return Self::Open;
        }
        if caller == "Peer" {
            return Self::Peer;
        }
        let named = NAMED.iter().find(|(_, methods)| methods.contains(&nsid));
        match (named, kind) {
            (Some((class, _)), _) => *class,
            (None, _) if nsid.starts_with("blue.catbird.account.") => Self::Account,
            (None, Kind::Query) => Self::Read,
            (None, Kind::Procedure) => Self::Write,
            (None, Kind::Subscription) => Self::Subscribe,
        }
    }
}

const NAMED: &[(Class, &[&str])] = &[
    (Class::Message, &["blue.catbird.mls.sendMessage"]),
    (
        Class::KeyPackage,
        &[
            "blue.catbird.mls.publishKeyPackage",
            "blue.catbird.mls.publishKeyPackages",
            "blue.catbird.mls.getKeyPackages",
            "blue.catbird.mls.claimKeyPackages",
        ],
    ),
    // A ticket is the first half of a subscription, and a stream of events one in the clothes of a query.
    (Class::Subscribe, &["blue.catbird.event.getTicket", "blue.catbird.event.streamEvents"]),
];
