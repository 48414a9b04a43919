use serde::{Deserialize, Serialize};

use super::Malformed;

/// A bare DID: no fragment, no path, no query. An account, or a server.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Did(String);

impl Did {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        match atrium_api::types::string::Did::new(text.to_owned()) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(Malformed::new("did", "not a DID")),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The method name: `plc`, `web`.
    pub fn method(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }
}

impl std::fmt::Display for Did {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for Did {
    /// The method alone: a DID names a person and must not reach a log by way of `{:?}`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Did(did:{}:…)", self.method())
    }
}

impl TryFrom<String> for Did {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<Did> for String {
    fn from(did: Did) -> Self {
        did.0
    }
}
