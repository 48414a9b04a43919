//! String formats (atproto.com/specs/lexicon, "String Formats").

mod datetime;

use atrium_api::types::string;

/// Longest URI and AT-URI, in bytes.
const MAX_URI: usize = 8192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    AtIdentifier,
    AtUri,
    Cid,
    Datetime,
    Did,
    Handle,
    Language,
    Nsid,
    RecordKey,
    Tid,
    Uri,
}

impl Format {
    /// By its name in a lexicon.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "at-identifier" => Self::AtIdentifier,
            "at-uri" => Self::AtUri,
            "cid" => Self::Cid,
            "datetime" => Self::Datetime,
            "did" => Self::Did,
            "handle" => Self::Handle,
            "language" => Self::Language,
            "nsid" => Self::Nsid,
            "record-key" => Self::RecordKey,
            "tid" => Self::Tid,
            "uri" => Self::Uri,
            _ => return None,
        })
    }

    /// For a sentence that begins with "expected".
    pub fn what(self) -> &'static str {
        match self {
            Self::AtIdentifier => "a DID or a handle",
            Self::AtUri => "an AT-URI",
            Self::Cid => "a CID",
            Self::Datetime => "an RFC 3339 time with its zone",
            Self::Did => "a DID",
            Self::Handle => "a handle",
            Self::Language => "a language tag",
            Self::Nsid => "an NSID",
            Self::RecordKey => "a record key",
            Self::Tid => "a TID",
            Self::Uri => "a URI",
        }
    }

    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::AtIdentifier => Self::Did.accepts(text) || Self::Handle.accepts(text),
            Self::AtUri => at_uri(text),
            Self::Cid => cid(text),
            Self::Datetime => datetime::accepts(text),
            Self::Did => string::Did::new(text.to_owned()).is_ok(),
            Self::Handle => string::Handle::new(text.to_owned()).is_ok(),
            Self::Language => language(text),
            Self::Nsid => string::Nsid::new(text.to_owned()).is_ok(),
            Self::RecordKey => string::RecordKey::new(text.to_owned()).is_ok(),
            Self::Tid => string::Tid::new(text.to_owned()).is_ok(),
            Self::Uri => uri(text),
        }
    }
}

/// `at://` authority, then perhaps a collection, then perhaps a record key.
fn at_uri(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("at://").filter(|_| text.len() <= MAX_URI) else { return false };
    let mut parts = rest.split('/');
    parts.next().is_some_and(|part| Format::AtIdentifier.accepts(part))
        && parts.next().is_none_or(|part| Format::Nsid.accepts(part))
        && parts.next().is_none_or(|part| Format::RecordKey.accepts(part))
        && parts.next().is_none()
}

/// By its alphabet alone, as the standard says; CIDv0 is out. Links are parsed in full, elsewhere.
fn cid(text: &str) -> bool {
    (8..=256).contains(&text.len())
        && !text.starts_with("Qmb")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'=')
}

/// A well-formed BCP 47 tag; the language itself has two or three small letters, unless it is `i-…` or private.
fn language(text: &str) -> bool {
    let first = text.split('-').next().unwrap_or_default();
    let is_plain = matches!(first.len(), 2 | 3) && first.bytes().all(|b| b.is_ascii_lowercase());
    (is_plain || matches!(first, "i" | "x" | "X")) && string::Language::new(text.to_owned()).is_ok()
}

/// A scheme, a colon and something printable.
fn uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    text.len() <= MAX_URI
        && scheme.len() <= 81
        && scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'-')
        && !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_graphic())
}
