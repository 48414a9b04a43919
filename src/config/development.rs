//! What is for development alone. Invariant: everything that production refuses has one row in [`REFUSED`]; production
//! does not start with it, development says so at every start, and the tests try every row on the real binary.

use url::Url;

use super::ConfigError;
use super::identity::own_machine;
use super::values::Values;

/// A value of a setting that production refuses.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    pub name: &'static str,
    /// Whether it is this value.
    holds: fn(&str) -> bool,
    /// What it would do to a production server.
    pub why: &'static str,
    pub fix: &'static str,
    /// Values that are refused; the tests start a server with each.
    pub examples: &'static [&'static str],
}

const UNSET: &str = "remove it; only ROOKERY_ENV=development may set it";
const RESTORE: &str = "remove it; only ROOKERY_ENV=development may turn it off";

pub const REFUSED: &[Refused] = &[
    Refused {
        name: "JWT_SECRET",
        holds: |_| true,
        why: "whoever knows it can call as any account",
        fix: UNSET,
        examples: &["a-secret-of-32-characters-or-more"],
    },
    Refused {
        name: "ENABLE_DIRECT_XRPC_PROXY",
        holds: is_on,
        why: "calls and their tokens would be handed on to another server",
        fix: UNSET,
        examples: &["true", "1"],
    },
    Refused {
        name: "UPSTREAM_XRPC_BASE",
        holds: |_| true,
        why: "calls and their tokens would be handed on to another server",
        fix: UNSET,
        examples: &["https://pds.example.com", "http://localhost:2583", "http://127.0.0.1:2583"],
    },
    Refused {
        name: "DEVICE_PROOF",
        holds: |value| value == "optional",
        why: "a PDS can write as any device of its accounts",
        fix: "remove it; only ROOKERY_ENV=development may make it optional",
        examples: &["optional"],
    },
    Refused {
        name: "ENFORCE_LXM",
        holds: |value| !is_on(value),
        why: "a token for one method is accepted for any other",
        fix: RESTORE,
        examples: &["false", "0"],
    },
    Refused {
        name: "ENFORCE_JTI",
        holds: |value| !is_on(value),
        why: "a stolen token can be used again until it expires",
        fix: RESTORE,
        examples: &["false", "0"],
    },
    Refused {
        name: "OUTBOUND_ALLOW",
        holds: |value| value.split(',').any(own_machine),
        why: "strangers could make this server call loopback or link-local addresses: its own machine",
        fix: "name only the private ranges of your other servers",
        examples: &["127.0.0.0/8", "10.0.0.0/8, ::1/128", "169.254.169.254/32"],
    },
    Refused {
        name: "PLC_URL",
        holds: not_https,
        why: "who speaks would be decided by an answer that anybody on the way can change; it is not https",
        fix: "set PLC_URL to an origin such as https://plc.directory",
        examples: &["http://plc.directory", "http://localhost:2582"],
    },
    Refused {
        name: "PUBLIC_URL",
        holds: not_https,
        why: "other servers and clients call https alone; it is not https",
        fix: "set PUBLIC_URL to an origin such as https://chat.example.com, without a path",
        examples: &["http://chat.example.com"],
    },
    Refused {
        name: "SERVICE_DID",
        holds: |value| value.to_ascii_lowercase().starts_with("did:web:localhost"),
        why: "nobody else can resolve it: it is loopback",
        fix: "set SERVICE_DID to did:web:<host>, where <host> is the host of PUBLIC_URL",
        examples: &["did:web:localhost", "did:web:localhost%3A3000"],
    },
];

fn is_on(value: &str) -> bool {
    !matches!(value, "false" | "0" | "off")
}

/// What is no URL at all is told elsewhere.
fn not_https(value: &str) -> bool {
    Url::parse(value).is_ok_and(|url| url.scheme() != "https")
}

/// Production starts with none of them.
pub(super) fn refuse(values: &Values) -> Result<(), ConfigError> {
    match in_force(values).next() {
        Some(row) => Err(values.invalid(row.name, format!("production refuses it, since {}", row.why), row.fix)),
        None => Ok(()),
    }
}

/// Those that somebody set.
pub(super) fn in_force(values: &Values) -> impl Iterator<Item = &'static Refused> {
    REFUSED.iter().filter(|row| {
        values.text(row.name).is_some_and(|value| !value.is_empty() && (row.holds)(value))
            && values.origin(row.name) != super::Origin::Default
    })
}
