//! The host that a did:web names.
//!
//! Invariant: one host has one name. A final dot would give a host a second name, which would evade blocks and quotas,
//! so such a name is refused.

use crate::types::Did;

/// The host of a did:web as written, without a path; a port, which only development allows, stays in it
/// (`localhost%3A3000`). `None` for other DIDs, for a path, and for a host with a final dot.
pub fn web_host(did: &Did) -> Option<&str> {
    let host = did.as_str().strip_prefix("did:web:")?;
    (!host.contains([':', '/']) && !host.ends_with('.')).then_some(host)
}

/// The registered domain that a did:web is below, or its host if it has none. `None` for other DIDs. Names below the
/// domain cost nothing, so limits count the domain.
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
