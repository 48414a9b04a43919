//! Turns a token into a proven caller. Invariants: exactly one verifier judges a token, chosen by `typ` and `alg`; and
//! replay memory is asked last, once the signature holds, so that a forgery uses up no jti.

use std::sync::Arc;

use super::jws::Jws;
use super::keys::{Curve, PublicKey};
use super::replay::{ReplayMemory, Seen};
use super::resolver::Resolver;
use super::shared_secret::SharedSecret;
use super::token::{Algorithm, Claims, Rules, TokenKind, TokenRefused, judge, parse};
use crate::types::{Clock, DeviceId, Did};

/// Judges service and device tokens for one server.
pub struct Verifier {
    audiences: Vec<String>,
    resolver: Arc<Resolver>,
    replay: ReplayMemory,
    clock: Clock,
    rules: Rules,
    /// Development alone.
    secret: Option<SharedSecret>,
}

/// A service token whose claims hold and whose signature nobody has looked at.
pub struct UnverifiedServiceToken {
    algorithm: Algorithm,
    jws: Jws,
    claims: Claims,
}

impl UnverifiedServiceToken {
    /// Whose it claims to be.
    pub fn did(&self) -> &Did {
        &self.claims.iss
    }

    /// Whether the DID document of its account is asked for the key.
    pub fn takes_document(&self) -> bool {
        self.algorithm != Algorithm::Hs256
    }
}

/// A device token whose claims hold and whose signature nobody has looked at.
///
/// The caller finds the key of `device` of `did`, and hands both to [`Verifier::device`].
pub struct UnverifiedDeviceToken {
    curve: Curve,
    device: DeviceId,
    jws: Jws,
    claims: Claims,
}

impl UnverifiedDeviceToken {
    /// Whose device it claims to be.
    pub fn did(&self) -> &Did {
        &self.claims.iss
    }

    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// The claims, once `key` is seen to have signed them.
    fn holds(self, key: &PublicKey) -> Result<Claims, TokenRefused> {
        // One key is one device: a device's name cannot go with another's key.
        if key.device_id() != self.device {
            return Err(TokenRefused::BadJwtKeyId);
        }
        holds(&self.jws, self.curve, Some(key))?;
        Ok(self.claims)
    }

    /// The curve of the key that signed, by `alg`: a new device's 33-byte key does not say by itself.
    pub fn curve(&self) -> Curve {
        self.curve
    }
}

impl Verifier {
    /// `audiences`: the service DID, and the DID with `#atproto_mls`. Compared as text.
    pub fn new(
        audiences: Vec<String>,
        resolver: Arc<Resolver>,
        replay: ReplayMemory,
        clock: Clock,
        rules: Rules,
    ) -> Self {
        Self { audiences, resolver, replay, clock, rules, secret: None }
    }

    /// Takes service tokens that are signed with this secret, from any issuer.
    pub fn with_secret(mut self, secret: Option<SharedSecret>) -> Self {
        self.secret = secret;
        self
    }

    /// The verifier for this kind of token.
    pub fn kind(token: &str) -> Result<TokenKind, TokenRefused> {
        parse(token).map(|(kind, ..)| kind)
    }

    /// First half of judging a service token for `nsid`: everything but the signature. Asks nobody.
    pub fn read_service(&self, token: &str, nsid: &str) -> Result<UnverifiedServiceToken, TokenRefused> {
        let (TokenKind::Service, algorithm, jws) = parse(token)? else { return Err(TokenRefused::BadJwtType) };
        if algorithm == Algorithm::Hs256 && self.secret.is_none() {
            return Err(TokenRefused::SharedSecretNotEnabled);
        }
        let claims = judge(&jws.payload, &self.audiences, nsid, self.clock.now_seconds(), self.rules)?;
        Ok(UnverifiedServiceToken { algorithm, jws, claims })
    }

    /// Second half: signed with the issuer's `#atproto` key, or with the secret of development if its `alg` says so.
    /// `asks_little`: whether the caller's address causes few look-ups of rotated keys.
    pub async fn service(
        &self,
        token: UnverifiedServiceToken,
        asks_little: &(dyn Fn() -> bool + Sync),
    ) -> Result<Claims, TokenRefused> {
        let UnverifiedServiceToken { algorithm, jws, claims } = token;
        match algorithm {
            Algorithm::Key(curve) => self.signed_by_issuer(&jws, curve, &claims.iss, asks_little).await?,
            Algorithm::Hs256 => {
                let secret = self.secret.as_ref().ok_or(TokenRefused::SharedSecretNotEnabled)?;
                secret.check(&jws).map_err(|_| TokenRefused::BadJwtSignature)?;
            }
        }
        self.once(claims).await
    }

    async fn signed_by_issuer(
        &self,
        jws: &Jws,
        curve: Curve,
        issuer: &Did,
        asks_little: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), TokenRefused> {
        let known = self.resolver.resolve(issuer).await?;
        let Err(refused) = holds(jws, curve, known.atproto_key.as_ref()) else { return Ok(()) };
        // The account may have changed its key since. Once, and only if there is a new one.
        let renewed = self.resolver.refresh_for(issuer, asks_little).await?;
        if renewed.atproto_key == known.atproto_key {
            return Err(refused);
        }
        holds(jws, curve, renewed.atproto_key.as_ref())
    }

    /// First half of judging a device token: everything but the signature.
    pub fn read_device(&self, token: &str, nsid: &str) -> Result<UnverifiedDeviceToken, TokenRefused> {
        let (TokenKind::Device, Algorithm::Key(curve), jws) = parse(token)? else {
            return Err(TokenRefused::BadJwtType);
        };
        let mut claims = judge(&jws.payload, &self.audiences, nsid, self.clock.now_seconds(), self.rules)?;
        let kid = jws.header.kid.as_deref().unwrap_or_default();
        let device = DeviceId::parse(kid).map_err(|_| TokenRefused::BadJwtKeyId)?;
        claims.kid = Some(device.clone());
        Ok(UnverifiedDeviceToken { curve, device, jws, claims })
    }

    /// Second half: `key` is the one registered for the device (or, when registering, the new one).
    pub async fn device(&self, token: UnverifiedDeviceToken, key: &PublicKey) -> Result<Claims, TokenRefused> {
        self.once(token.holds(key)?).await
    }

    /// Verifies a token whose repeated call has no further effect, such as the proof in a registration:
    /// it may be shown again, because a call that lost its answer is repeated byte for byte.
    pub fn proof(token: UnverifiedDeviceToken, key: &PublicKey) -> Result<Claims, TokenRefused> {
        token.holds(key)
    }

    async fn once(&self, claims: Claims) -> Result<Claims, TokenRefused> {
        if !self.rules.enforce_jti {
            return Ok(claims);
        }
        let seen = Seen { iss: &claims.iss, jti: &claims.jti, iat_s: claims.iat, exp_s: claims.exp };
        self.replay.remember(seen).await?.into_result()?;
        Ok(claims)
    }
}

fn holds(jws: &Jws, curve: Curve, key: Option<&PublicKey>) -> Result<(), TokenRefused> {
    let key = key.ok_or(TokenRefused::BadJwtSignature)?;
    if key.curve() != curve {
        return Err(TokenRefused::BadJwtAlgorithm);
    }
    jws.verify(key).map_err(|_| TokenRefused::BadJwtSignature)
}

#[cfg(test)]
mod tests;
