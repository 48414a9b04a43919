use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::types::Did;

/// Turns accounts into names that logs may hold.
///
/// Invariant: one account has one name under one key, and without the key the name says nothing, not even to
/// somebody who can list every DID.
#[derive(Clone)]
pub struct Redactor {
    keyed: Hmac<Sha256>,
}

/// Hexadecimal digits of a name in the logs: 40 bits keep a million accounts apart well enough for reading logs.
const NAME_DIGITS: usize = 10;

impl Redactor {
    /// Under `LOG_HASH_KEY`, or under a key of this process alone.
    pub fn new(key: Option<&SecretString>) -> Self {
        if let Some(key) = key {
            return Self { keyed: keyed(key.expose_secret().as_bytes()) };
        }
        let mut random = [0_u8; 32];
        rand::rng().fill_bytes(&mut random);
        Self { keyed: keyed(&random) }
    }

    /// The first 10 hexadecimal digits of HMAC-SHA-256 of the DID.
    pub fn did(&self, did: &Did) -> String {
        self.name(did.as_str())
    }

    /// The same of a network address.
    pub fn address(&self, address: &str) -> String {
        self.name(address)
    }

    fn name(&self, text: &str) -> String {
        let mut mac = self.keyed.clone();
        mac.update(text.as_bytes());
        let mut name = hex::encode(mac.finalize().into_bytes());
        name.truncate(NAME_DIGITS);
        name
    }
}

#[expect(clippy::expect_used, reason = "RFC 2104 section 2: HMAC takes a key of any length")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length")
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Did {
        Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap()
    }

    #[test]
    fn one_account_has_one_name_under_one_key() {
        let key = SecretString::from("0123456789abcdef");
        let (one, two) = (Redactor::new(Some(&key)), Redactor::new(Some(&key)));
        assert_eq!(one.did(&alice()), two.did(&alice()));
        assert_ne!(one.did(&alice()), one.did(&Did::parse("did:web:example.com").unwrap()));
    }

    #[test]
    fn the_name_is_the_start_of_hmac_sha_256() {
        // printf %s did:plc:ewvi7nxzyoun6zhxrhs64oiz | openssl dgst -sha256 -hmac 0123456789abcdef
        let redactor = Redactor::new(Some(&SecretString::from("0123456789abcdef")));
        assert_eq!(redactor.did(&alice()), "34f0638684");
    }

    #[test]
    fn without_a_key_two_processes_give_two_names() {
        assert_ne!(Redactor::new(None).did(&alice()), Redactor::new(None).did(&alice()));
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", Redactor::new(None)), "Redactor(…)");
    }
}
