//! Verification that a name is a server, by the name's own document.
//!
//! Invariant: this server sends nothing to a name whose document does not state that this very host is a server. So
//! strangers' documents cannot aim our traffic at third parties.

use crate::identity::{Curve, DidDocument, PublicKey, is_server_curve, key_tag, registrable_domain, web_host};
use crate::types::Did;

/// Keys of one purpose in one document.
const MAX_KEYS: usize = 4;

/// The purpose of a server's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signs requests.
    Peer,
    /// Signs statements.
    Checkpoint,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Peer, Self::Checkpoint];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Checkpoint => "checkpoint",
        }
    }

    pub const fn to_db(self) -> i16 {
        match self {
            Self::Peer => 1,
            Self::Checkpoint => 2,
        }
    }

    pub const fn from_db(value: i16) -> Self {
        if value == 2 { Self::Checkpoint } else { Self::Peer }
    }

    /// By the id of a key.
    pub fn of(key_id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| {
            key_id
                .strip_prefix('#')
                .and_then(|id| id.strip_prefix(purpose.name()))
                .is_some_and(|id| id.starts_with('-'))
        })
    }
}

/// A key of a server, under the id that its own bytes give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKey {
    /// `#peer-<tag>` or `#checkpoint-<tag>`.
    pub id: String,
    pub purpose: Purpose,
    pub key: PublicKey,
}

/// A server by its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDocument {
    /// `https://<host>`, without a path.
    pub endpoint: String,
    pub keys: Vec<ServerKey>,
    /// Set if the document could not be fetched: these are the keys accepted before.
    pub remembered: bool,
}

impl ServerDocument {
    /// Reads the document of `server`; the reason is safe to show. `development` lets localhost with a port be one.
    pub fn read(server: &Did, document: &DidDocument, development: bool) -> Result<Self, &'static str> {
        let endpoint = endpoint(server, development).ok_or("its name is not did:web of a host")?;
        if document.mls_server(development).as_ref() != Some(server) {
            return Err("it does not have one service #atproto_mls of type AtprotoMlsService at the host of its name");
        }
        let keys: Vec<ServerKey> = document.server_keys.iter().filter_map(|(id, key)| server_key(id, key)).collect();
        for purpose in Purpose::ALL {
            if !(1..=MAX_KEYS).contains(&keys.iter().filter(|key| key.purpose == purpose).count()) {
                return Err("it does not have one to four keys of each purpose");
            }
        }
        let twice = |one: &ServerKey| keys.iter().filter(|other| other.key == one.key).count() > 1;
        if keys.iter().any(twice) {
            return Err("one key has two purposes");
        }
        Ok(Self { endpoint, keys, remembered: false })
    }

    pub fn key(&self, id: &str) -> Option<&ServerKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

/// `https://<host>` of a server's name: its host, without a path, a port or a final dot.
pub fn endpoint(server: &Did, development: bool) -> Option<String> {
    let host = web_host(server)?;
    match host.split_once("%3A") {
        Some(("localhost", port)) if development => {
            port.parse::<u16>().ok().map(|port| format!("http://localhost:{port}"))
        }
        Some(_) => None,
        None if host.contains('%') => None,
        None => Some(format!("https://{host}")),
    }
}

/// The unit of quotas: the registrable domain of a server's host, or the host if it has none.
pub fn domain(server: &Did) -> String {
    registrable_domain(server).unwrap_or(server.as_str()).to_owned()
}

/// None for what is nothing to us: other ids, other curves, an id that is not made of the key.
fn server_key(id: &str, key: &PublicKey) -> Option<ServerKey> {
    let purpose = Purpose::of(id)?;
    let made = format!("#{}-{}", purpose.name(), key_tag(key));
    let usable = is_server_curve(key.curve()) && key.curve() != Curve::K256;
    (usable && id == made).then(|| ServerKey { id: made, purpose, key: key.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Purpose, ServerDocument, domain, endpoint};
    use crate::identity::{Curve, DidDocument, SigningKey, key_tag};
    use crate::types::Did;

    const NAME: &str = "did:web:a.example";

    fn did(text: &str) -> Did {
        Did::parse(text).unwrap()
    }

    fn method(use_: &str, curve: Curve) -> Value {
        let key = SigningKey::generate(curve).public();
        json!({ "id": format!("{NAME}#{use_}-{}", key_tag(&key)), "type": "Multikey", "controller": NAME,
                "publicKeyMultibase": key.multikey() })
    }

    fn good() -> Value {
        json!({ "id": NAME,
            "verificationMethod": [method("peer", Curve::Ed25519), method("checkpoint", Curve::P256)],
            "service": [{ "id": "#atproto_mls", "type": "AtprotoMlsService", "serviceEndpoint": "https://a.example" }] })
    }

    fn read(document: &Value) -> Result<ServerDocument, &'static str> {
        let document = DidDocument::parse(&did(NAME), document.to_string().as_bytes()).unwrap();
        ServerDocument::read(&did(NAME), &document, false)
    }

    #[test]
    fn a_server_says_that_it_is_one_and_nothing_less_makes_it_one() {
        let document = read(&good()).unwrap();
        assert_eq!(document.endpoint, "https://a.example");
        assert_eq!(document.keys.len(), 2);
        assert!(document.key(&document.keys[0].id).is_some_and(|key| key.purpose == Purpose::Peer));

        let with = |change: &dyn Fn(&mut Value)| {
            let mut document = good();
            change(&mut document);
            read(&document)
        };
        let endpoint =
            |text: &'static str| move |document: &mut Value| document["service"][0]["serviceEndpoint"] = text.into();
        for aimed in [
            "https://victim.example",
            "https://a.example/",
            "https://a.example:8443",
            "http://a.example",
            "https://A.example",
        ] {
            assert!(with(&endpoint(aimed)).is_err(), "{aimed}");
        }
        assert!(with(&|document| document["service"] = json!([])).is_err());
        assert!(with(&|document| document["service"][0]["type"] = "Other".into()).is_err());
        assert!(
            with(&|document| {
                let again = document["service"][0].clone();
                document["service"].as_array_mut().unwrap().push(again);
            })
            .is_err()
        );
        assert!(with(&|document| drop(document["verificationMethod"].as_array_mut().unwrap().pop())).is_err());
        assert!(
            with(&|document| document["verificationMethod"][0]["controller"] = "did:web:b.example".into()).is_err()
        );
        assert!(with(&|document| document["verificationMethod"][0]["type"] = "JsonWebKey2020".into()).is_err());
        assert!(with(&|document| document["verificationMethod"][0]["id"] = "#peer-aaaaaaaa".into()).is_err());
        assert!(with(&|document| document["verificationMethod"][0] = method("peer", Curve::K256)).is_err());
        let many = |document: &mut Value| {
            for _ in 0..4 {
                document["verificationMethod"].as_array_mut().unwrap().push(method("peer", Curve::Ed25519));
            }
        };
        assert!(with(&many).is_err(), "five peer keys");
        let same = |document: &mut Value| {
            let key = document["verificationMethod"][0].clone();
            let tag = key["id"].as_str().unwrap().rsplit('-').next().unwrap().to_owned();
            document["verificationMethod"][1] = key;
            document["verificationMethod"][1]["id"] = format!("#checkpoint-{tag}").into();
        };
        assert!(with(&same).is_err(), "one key for both purposes");
    }

    #[test]
    fn a_name_is_a_host_and_a_domain_is_what_somebody_registered() {
        for (name, production, development) in [
            ("did:web:a.example", Some("https://a.example"), Some("https://a.example")),
            ("did:web:localhost%3A3000", None, Some("http://localhost:3000")),
            ("did:web:a.example%3A3000", None, None),
            ("did:web:a.example:path", None, None),
            ("did:web:a.example.", None, None),
            ("did:web:localhost%3A3000.", None, None),
            ("did:plc:ewvi7nxzyoun6zhxrhs64oiz", None, None),
        ] {
            assert_eq!(endpoint(&did(name), false).as_deref(), production, "{name}");
            assert_eq!(endpoint(&did(name), true).as_deref(), development, "{name}");
        }
        for (name, expected) in [
            ("did:web:a.b.example.com", "example.com"),
            ("did:web:example.co.uk", "example.co.uk"),
            ("did:web:x.github.io", "x.github.io"),
            ("did:web:localhost%3A3000", "localhost%3A3000"),
        ] {
            assert_eq!(domain(&did(name)), expected);
        }
    }
}
