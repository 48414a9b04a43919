//! The host that a did:web names.
//!
//! Invariant: one host has one name. A host with a final dot is the same host under a second name, which would evade
//! blocks and quotas, so such a name is refused.

use crate::types::Did;

/// The host of a did:web as it is written, without a path; a port, which only development knows, stays in it
/// (`localhost%3A3000`). None for other DIDs, for a path, and for a host with a final dot.
pub fn web_host(did: &Did) -> Option<&str> {
    let host = did.as_str().strip_prefix("did:web:")?;
    (!host.contains([':', '/']) && !host.ends_with('.')).then_some(host)
}

/// The name that somebody registered and under which a did:web stands, or its host where there is none. None for other
/// DIDs. Names cost nothing below it, so limits count it.
pub fn registrable_domain(did: &Did) -> Option<&str> {
    let rest = did.as_str().strip_prefix("did:web:")?;
    let host = rest.split(':').next().unwrap_or(rest).trim_end_matches('.');
    Some(psl::domain_str(host).unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use super::{registrable_domain, web_host};
    use crate::types::Did;

    #[test]
    fn a_did_web_names_one_host_below_one_domain() {
        for (did, host, domain) in [
            ("did:web:a.b.example.com", Some("a.b.example.com"), Some("example.com")),
            ("did:web:example.co.uk", Some("example.co.uk"), Some("example.co.uk")),
            ("did:web:x.github.io", Some("x.github.io"), Some("x.github.io")),
            ("did:web:localhost%3A3000", Some("localhost%3A3000"), Some("localhost%3A3000")),
            ("did:web:a.example.com.", None, Some("example.com")),
            ("did:web:a.example.com:path", None, Some("example.com")),
            ("did:plc:ewvi7nxzyoun6zhxrhs64oiz", None, None),
        ] {
            let did = Did::parse(did).unwrap();
            assert_eq!((web_host(&did), registrable_domain(&did)), (host, domain), "{}", did.as_str());
        }
    }
}
