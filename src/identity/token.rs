//! The claims that every token must have, whatever key signed it. Invariant: `judge` looks at claims only; nothing in
//! its result is proven before a signature is.

use serde::Deserialize;

use rookery_protocol::identity::{DEVICE_TYP, body_hash};

use super::jws::{Header, Jws};
use super::keys::Curve;
use super::replay::{ReplayUnavailable, Sighting};
use super::resolver::{RETRY_AFTER_S, ResolveError};
use crate::types::{DeviceId, Did};

/// Seconds that two clocks may differ.
pub const SKEW_S: i64 = 30;
/// Seconds that `exp` may lie ahead.
pub const MAX_LIFETIME_S: i64 = 3600;
/// Characters of a `jti`.
const MAX_JTI_CHARS: usize = 128;

/// Which of the two verifiers judges a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Minted by an account's PDS, signed with the account's `#atproto` key.
    Service,
    /// Minted and signed by a device.
    Device,
}

/// Why a token is refused. Its [`name`](Self::name) is what the client sees; the texts are safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    #[error("this method needs a token")]
    MissingJwt,
    #[error("the token is not a well-formed JWT")]
    BadJwt,
    #[error("this type of token is not accepted")]
    BadJwtType,
    #[error("the token's alg is not accepted, or is not its key's")]
    BadJwtAlgorithm,
    #[error("HS256 is for development alone, where JWT_SECRET is set; sign with the account's own key")]
    SharedSecretNotEnabled,
    #[error("the token has expired")]
    JwtExpired,
    #[error("the token is not valid yet")]
    JwtNotYetValid,
    #[error("the token's exp is more than an hour ahead")]
    JwtTooLong,
    #[error("the token is for another service")]
    BadJwtAudience,
    #[error("the token is for another method")]
    BadJwtLexiconMethod,
    #[error("the token's iss is not a bare DID")]
    BadJwtIss,
    #[error("the token's sub is not its iss")]
    BadJwtSubject,
    #[error("the token needs a jti of 1 to 128 characters")]
    BadJwtId,
    #[error("the token's kid is not a device id")]
    BadJwtKeyId,
    #[error("the token's signature does not hold")]
    BadJwtSignature,
    #[error("the device token's bodyHash is not that of this body; make one for exactly the bytes that are sent")]
    BadJwtBodyHash,
    #[error("the token was used before")]
    ReplayedToken,
    #[error("the token was issued before this server lost its memory; a new one will do")]
    JwtTooOld,
    #[error("the token's issuer has no DID document that can be used")]
    UnknownDid,
    #[error("the issuer's DID document cannot be fetched now: {0}; try again in {RETRY_AFTER_S} s")]
    DidUnresolvable(&'static str),
    #[error("the account has no such device here; register it first")]
    DeviceUnknown,
    #[error("the device was revoked")]
    DeviceRevoked,
    #[error(
        "the device was not seen for so long that it lapsed: call registerDevice with the same key and a service token, \
         then join its conversations again"
    )]
    DeviceLapsed,
    #[error("a service token alone does not say which device calls; send its id as x-atproto-device")]
    DeviceRequired,
    #[error("a write through a PDS takes a device token with bodyHash as x-atproto-device-token")]
    DeviceProofRequired,
    #[error("send one device token, in Authorization or beside a service token, and name no other device beside it")]
    AmbiguousCredentials,
    #[error("the account was last shown 30 days ago; call registerDevice again with a service token of the account")]
    AccountProofExpired,
    #[error("the ticket is not good (any more) for this method; get a new one")]
    BadTicket,
    #[error("tokens cannot be checked now")]
    ReplayUnavailable,
}

impl TokenRefused {
    /// The error name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingJwt => "AuthenticationRequired",
            Self::BadJwt => "BadJwt",
            Self::BadJwtType => "BadJwtType",
            Self::BadJwtAlgorithm | Self::SharedSecretNotEnabled => "BadJwtAlgorithm",
            Self::JwtExpired => "JwtExpired",
            Self::JwtNotYetValid => "JwtNotYetValid",
            Self::JwtTooLong => "JwtTooLong",
            Self::BadJwtAudience => "BadJwtAudience",
            Self::BadJwtLexiconMethod => "BadJwtLexiconMethod",
            Self::BadJwtIss => "BadJwtIss",
            Self::BadJwtSubject => "BadJwtSubject",
            Self::BadJwtId => "BadJwtId",
            Self::BadJwtKeyId => "BadJwtKeyId",
            Self::BadJwtSignature => "BadJwtSignature",
            Self::BadJwtBodyHash => "BadJwtBodyHash",
            Self::ReplayedToken => "ReplayedToken",
            Self::JwtTooOld => "JwtTooOld",
            Self::UnknownDid => "UnknownDid",
            Self::DidUnresolvable(_) => "DidUnresolvable",
            Self::DeviceUnknown => "DeviceUnknown",
            Self::DeviceRevoked => "DeviceRevoked",
            Self::DeviceLapsed => "DeviceLapsed",
            Self::DeviceRequired => "DeviceRequired",
            Self::DeviceProofRequired => "DeviceProofRequired",
            Self::AmbiguousCredentials => "AmbiguousCredentials",
            Self::AccountProofExpired => "AccountProofExpired",
            Self::BadTicket => "BadTicket",
            Self::ReplayUnavailable => "ServiceUnavailable",
        }
    }

    /// Seconds for which a repeated call would fail in the same way.
    pub const fn retry_after_s(self) -> Option<u64> {
        match self {
            Self::DidUnresolvable(_) => Some(RETRY_AFTER_S),
            _ => None,
        }
    }

    /// 401; 503 where the token may be good and only we cannot tell.
    pub const fn status(self) -> u16 {
        match self {
            Self::DidUnresolvable(_) | Self::ReplayUnavailable => 503,
            _ => 401,
        }
    }
}

impl From<ResolveError> for TokenRefused {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Unreachable(why) => Self::DidUnresolvable(why),
            ResolveError::NotFound | ResolveError::Unsupported(_) | ResolveError::Invalid(_) => Self::UnknownDid,
        }
    }
}

impl From<ReplayUnavailable> for TokenRefused {
    fn from(_: ReplayUnavailable) -> Self {
        Self::ReplayUnavailable
    }
}

impl Sighting {
    pub(super) fn into_result(self) -> Result<(), TokenRefused> {
        match self {
            Self::First => Ok(()),
            Self::Repeated => Err(TokenRefused::ReplayedToken),
            Self::Forgotten => Err(TokenRefused::JwtTooOld),
        }
    }
}

/// The claims of a token. Proven if a verifier returned them.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// The account that calls.
    pub iss: Did,
    pub aud: String,
    /// The NSID of the method.
    pub lxm: String,
    /// Unix seconds.
    pub exp: i64,
    /// Unix seconds.
    pub iat: Option<i64>,
    pub jti: String,
    /// base64url SHA-256 of the request body.
    pub body_hash: Option<String>,
    /// The device that signed; None for a service token.
    pub kid: Option<DeviceId>,
}

impl Claims {
    /// The token must be bound to exactly these body bytes: device proof through a PDS, and every token with
    /// `bodyHash`.
    pub fn check_body(&self, body: &[u8]) -> Result<(), TokenRefused> {
        let bound = self.body_hash.as_deref() == Some(body_hash(body).as_str());
        if bound { Ok(()) } else { Err(TokenRefused::BadJwtBodyHash) }
    }
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claims({})", self.lxm)
    }
}

/// The algorithm that the `alg` of a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Key(Curve),
    /// A secret that both sides know: for service tokens, in development.
    Hs256,
}

/// Parses a token and says who judges it, by `typ` and `alg` alone.
pub(super) fn parse(token: &str) -> Result<(TokenKind, Algorithm, Jws), TokenRefused> {
    if token.is_empty() {
        return Err(TokenRefused::MissingJwt);
    }
    let jws = Jws::parse(token).map_err(|_| TokenRefused::BadJwt)?;
    let kind = kind_of(&jws.header)?;
    let algorithm = match (kind, jws.header.alg.as_str()) {
        (TokenKind::Service, "HS256") => Algorithm::Hs256,
        (_, alg) => Algorithm::Key(Curve::from_alg(alg).ok_or(TokenRefused::BadJwtAlgorithm)?),
    };
    // AT Protocol accounts have no Ed25519 keys.
    if kind == TokenKind::Service && algorithm == Algorithm::Key(Curve::Ed25519) {
        return Err(TokenRefused::BadJwtAlgorithm);
    }
    Ok((kind, algorithm, jws))
}

/// Media types are compared without regard to case (RFC 7515 section 4.1.9).
fn kind_of(header: &Header) -> Result<TokenKind, TokenRefused> {
    match header.typ.as_deref() {
        None => Ok(TokenKind::Service),
        Some(typ) if typ.eq_ignore_ascii_case("JWT") => Ok(TokenKind::Service),
        Some(typ) if typ.eq_ignore_ascii_case(DEVICE_TYP) => Ok(TokenKind::Device),
        Some(_) => Err(TokenRefused::BadJwtType),
    }
}

/// Rules that development may switch off (`ENFORCE_LXM`, `ENFORCE_JTI`). Production refuses to start without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A token is for one method.
    pub enforce_lxm: bool,
    /// A token is used once.
    pub enforce_jti: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { enforce_lxm: true, enforce_jti: true }
    }
}

impl Rules {
    fn given(claim: Option<String>, enforced: bool, refused: TokenRefused) -> Result<String, TokenRefused> {
        if enforced { claim.ok_or(refused) } else { Ok(claim.unwrap_or_default()) }
    }
}

#[derive(Deserialize)]
struct Payload {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<String>,
    lxm: Option<String>,
    exp: i64,
    iat: Option<i64>,
    nbf: Option<i64>,
    jti: Option<String>,
    #[serde(rename = "bodyHash")]
    body_hash: Option<String>,
}

/// Judges everything that a token says about itself.
pub(super) fn judge(
    payload: &[u8],
    audiences: &[String],
    nsid: &str,
    now_s: i64,
    rules: Rules,
) -> Result<Claims, TokenRefused> {
    let payload: Payload = serde_json::from_slice(payload).map_err(|_| TokenRefused::BadJwt)?;

    if payload.exp < now_s - SKEW_S {
        return Err(TokenRefused::JwtExpired);
    }
    if payload.exp > now_s + MAX_LIFETIME_S + SKEW_S {
        return Err(TokenRefused::JwtTooLong);
    }
    if [payload.iat, payload.nbf].into_iter().flatten().any(|from| from > now_s + SKEW_S) {
        return Err(TokenRefused::JwtNotYetValid);
    }
    if [payload.iat, payload.nbf].into_iter().flatten().any(|from| from < 0 || from > payload.exp) {
        return Err(TokenRefused::BadJwt);
    }

    let aud = payload.aud.filter(|aud| audiences.contains(aud)).ok_or(TokenRefused::BadJwtAudience)?;
    let lxm = payload.lxm.filter(|lxm| lxm == nsid || !rules.enforce_lxm);
    let lxm = Rules::given(lxm, rules.enforce_lxm, TokenRefused::BadJwtLexiconMethod)?;
    let iss = payload.iss.and_then(|iss| Did::parse(&iss).ok()).ok_or(TokenRefused::BadJwtIss)?;
    if payload.sub.is_some_and(|sub| sub != iss.as_str()) {
        return Err(TokenRefused::BadJwtSubject);
    }
    let jti = payload.jti.filter(|jti| (1..=MAX_JTI_CHARS).contains(&jti.chars().count()));
    let jti = Rules::given(jti, rules.enforce_jti, TokenRefused::BadJwtId)?;
    Ok(Claims { iss, aud, lxm, exp: payload.exp, iat: payload.iat, jti, body_hash: payload.body_hash, kid: None })
}
