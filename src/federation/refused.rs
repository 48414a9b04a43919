//! Why a request of a peer is refused before any method sees it.

/// In the order in which a request is judged. The texts are safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    #[error("a signed request carries no Authorization and no Content-Encoding")]
    AmbiguousCredentials,
    #[error("this method takes a request signed with the tag rookery-peer-v1 (RFC 9421)")]
    SignatureMissing,
    #[error("the signature cannot be read: {0}")]
    SignatureMalformed(&'static str),
    #[error("x-rookery-audience names another server")]
    WrongAudience,
    #[error("the signature is not of this time: {0}")]
    SignatureExpired(&'static str),
    #[error("this server does not federate")]
    FederationOff,
    #[error("this server does not talk to yours")]
    PeerBlocked,
    #[error("this server talks to servers that its operator allowed; ask for it")]
    PeerPending,
    #[error("the server that signed has no document that makes it a server: {0}")]
    PeerUnknown(&'static str),
    #[error("its document lists no key with the id in keyid")]
    PeerKeyUnknown,
    #[error("it has a new key that no earlier key endorsed, which waits for 72 hours or for this server's operator")]
    PeerKeyHeld,
    #[error("another key had this id before")]
    PeerKeyReused,
    #[error("the signature does not hold")]
    SignatureInvalid,
    #[error("content-digest is not that of the body")]
    DigestMismatch,
    #[error("the nonce was used before")]
    SignatureReplayed,
    #[error("this method takes x-rookery-actor: it is called for an account")]
    ActorRequired,
    #[error("this method takes no x-rookery-actor: peers do not call it for an account")]
    ActorNotAllowed,
    #[error("the body names another device than x-rookery-device")]
    DeviceMismatch,
    #[error("the account's document names another server than the one that signed")]
    NotSpokenFor,
    #[error("its server named too many devices of this account: 50 at most")]
    TooManyDevices,
    #[error("which server the account names cannot be told now")]
    HomeUnverified,
    #[error("whether the signature was seen before cannot be told now")]
    Unavailable,
    #[error("too many requests of this server, or of its domain")]
    RateLimited { retry_after_s: u64 },
}

impl PeerRefused {
    /// The error name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AmbiguousCredentials => "AmbiguousCredentials",
            Self::SignatureMissing => "SignatureMissing",
            Self::SignatureMalformed(_) => "SignatureMalformed",
            Self::WrongAudience => "WrongAudience",
            Self::SignatureExpired(_) => "SignatureExpired",
            Self::FederationOff => "FederationOff",
            Self::PeerBlocked => "PeerBlocked",
            Self::PeerPending => "PeerPending",
            Self::PeerUnknown(_) | Self::PeerKeyUnknown => "PeerKeyUnknown",
            Self::PeerKeyHeld => "PeerKeyHeld",
            Self::PeerKeyReused => "PeerKeyReused",
            Self::SignatureInvalid => "SignatureInvalid",
            Self::DigestMismatch => "DigestMismatch",
            Self::SignatureReplayed => "SignatureReplayed",
            Self::ActorRequired => "ActorRequired",
            Self::ActorNotAllowed => "ActorNotAllowed",
            Self::DeviceMismatch => "DeviceMismatch",
            Self::NotSpokenFor => "NotSpokenFor",
            Self::TooManyDevices => "TooManyDevices",
            Self::HomeUnverified => "HomeUnverified",
            Self::Unavailable => "Unavailable",
            Self::RateLimited { .. } => "RateLimitExceeded",
        }
    }

    pub const fn status(self) -> u16 {
        match self {
            Self::AmbiguousCredentials | Self::ActorRequired | Self::ActorNotAllowed | Self::DeviceMismatch => 400,
            Self::FederationOff | Self::PeerBlocked | Self::PeerPending | Self::PeerKeyHeld | Self::NotSpokenFor => 403,
            Self::TooManyDevices => 409,
            Self::HomeUnverified | Self::Unavailable => 503,
            Self::RateLimited { .. } => 429,
            _ => 401,
        }
    }
}
