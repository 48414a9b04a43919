use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::values::Values;
use super::{ConfigError, Environment};
use crate::types::Did;

/// Who this server is, and how strictly it asks who others are.
#[derive(Clone, Debug)]
pub struct Identity {
    pub service_did: Did,
    /// The origin under which clients reach this server.
    pub public_url: Url,
    pub keys_dir: PathBuf,
    pub plc_url: Url,
    /// Private address ranges that outbound calls may reach.
    pub outbound_allow: Vec<IpNet>,
    pub enforce_lxm: bool,
    pub enforce_jti: bool,
    /// A used token is remembered at least this long.
    pub jti_ttl: Duration,
    /// A write through a PDS takes a token of the device beside the account's.
    pub device_proof_required: bool,
    /// Who may call admin methods. With none, they are not mounted.
    pub operators: Vec<Did>,
    pub admission: Admission,
}

/// Which accounts may register their first device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Open,
    /// Those that `rookery account allow` named.
    Allowlist,
    /// Those that bring a code of `rookery account invite`.
    Invite,
}

impl Identity {
    pub(super) fn read(values: &mut Values, environment: Environment) -> Result<Self, ConfigError> {
        let production = environment == Environment::Production;
        let name = given_name(values)?;
        if production && name.is_none() {
            return Err(ConfigError::Missing {
                name: "SERVICE_DID",
                why: "in production a server has a name of its own",
                fix: "set SERVICE_DID=did:web:<your host>, or ROOKERY_ENV=development to try it out",
            });
        }
        let public_url = super::http::public_url(values, environment, name.as_deref())?;
        let service_did = service_did(values, &public_url, production)?;
        let data_dir = PathBuf::from(values.text("DATA_DIR").unwrap_or_default());
        let keys_dir = values.text_or("KEYS_DIR", || data_dir.join("keys").display().to_string());

        Ok(Self {
            service_did,
            public_url,
            keys_dir: keys_dir.into(),
            plc_url: plc_url(values, production)?,
            outbound_allow: outbound_allow(values, production)?,
            enforce_lxm: enforced(values, production, "ENFORCE_LXM", "a token for one method would do for all")?,
            enforce_jti: enforced(values, production, "ENFORCE_JTI", "stolen tokens could be used again")?,
            jti_ttl: Duration::from_secs(values.number("JTI_TTL_SECONDS", 0..=86_400)?),
            device_proof_required: device_proof_required(values, production)?,
            operators: operators(values)?,
            admission: values.one_of(
                "ACCOUNTS",
                &[("open", Admission::Open), ("allowlist", Admission::Allowlist), ("invite", Admission::Invite)],
            )?,
        })
    }
}

/// A rule of tokens that only development may switch off.
fn enforced(values: &Values, production: bool, name: &'static str, danger: &str) -> Result<bool, ConfigError> {
    let enforced = values.flag(name)?;
    if production && !enforced {
        let why = format!("production refuses it, since {danger}");
        return Err(values.invalid(name, &why, "remove it; only ROOKERY_ENV=development may turn it off"));
    }
    Ok(enforced)
}

fn device_proof_required(values: &Values, production: bool) -> Result<bool, ConfigError> {
    let required = values.one_of("DEVICE_PROOF", &[("required", true), ("optional", false)])?;
    if production && !required {
        let why = "production refuses it, since a PDS could write in the name of its accounts' devices";
        return Err(values.invalid(
            "DEVICE_PROOF",
            why,
            "remove it; only ROOKERY_ENV=development may make it optional",
        ));
    }
    Ok(required)
}

fn operators(values: &Values) -> Result<Vec<Did>, ConfigError> {
    list(values, "OPERATOR_DIDS")
        .map(|did| {
            let why = format!("`{did}` is not a DID");
            let fix = "set it to DIDs such as did:plc:…, separated by commas";
            Did::parse(did).map_err(|_| values.invalid("OPERATOR_DIDS", why, fix))
        })
        .collect()
}

/// The parts of a value that is a list.
fn list<'a>(values: &'a Values, name: &'static str) -> impl Iterator<Item = &'a str> {
    values.text(name).unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// What stands after `did:web:` in the configured name: one host, without a path.
fn given_name(values: &Values) -> Result<Option<String>, ConfigError> {
    let Some(did) = values.text("SERVICE_DID") else { return Ok(None) };
    let name = did.strip_prefix("did:web:").filter(|name| !name.contains(':'));
    match (name, Did::parse(did)) {
        (Some(name), Ok(_)) => Ok(Some(name.to_owned())),
        _ => Err(values.invalid("SERVICE_DID", "not a did:web of a host", DID_FIX)),
    }
}

const DID_FIX: &str = "set SERVICE_DID to did:web:<host>, where <host> is the host of PUBLIC_URL";

/// In production the name is the host of the public URL and neither has a port, because other servers reach
/// `did:web:<host>` at `https://<host>` and nowhere else.
fn service_did(values: &mut Values, public_url: &Url, production: bool) -> Result<Did, ConfigError> {
    let host = public_url.host_str().unwrap_or_default();
    let did = values.text_or("SERVICE_DID", || match public_url.port() {
        Some(port) => format!("did:web:{host}%3A{port}"),
        None => format!("did:web:{host}"),
    });
    if production && public_url.port().is_some() {
        let fix = "remove the port: a did:web server is reached at https://<host>";
        return Err(values.invalid("PUBLIC_URL", "it has a port", fix));
    }
    if production && did.strip_prefix("did:web:") != Some(host) {
        return Err(values.invalid("SERVICE_DID", format!("PUBLIC_URL has the host `{host}`"), DID_FIX));
    }
    Did::parse(&did).map_err(|_| values.invalid("SERVICE_DID", "not a did:web of a host", DID_FIX))
}

fn plc_url(values: &Values, production: bool) -> Result<Url, ConfigError> {
    let fix = "set PLC_URL to an origin such as https://plc.directory";
    let url: Url = values.parsed("PLC_URL", "not a URL", fix)?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if !production => Ok(url),
        _ => Err(values.invalid("PLC_URL", "not https", fix)),
    }
}

fn outbound_allow(values: &Values, production: bool) -> Result<Vec<IpNet>, ConfigError> {
    let mut ranges = Vec::new();
    for part in list(values, "OUTBOUND_ALLOW") {
        let range: IpNet = part.parse().map_err(|_| {
            let why = format!("`{part}` is not an address range");
            values.invalid("OUTBOUND_ALLOW", why, "set it to ranges such as 10.0.0.0/8, separated by commas")
        })?;
        if production && OWN_MACHINE.iter().any(|own| own.parse().is_ok_and(|own: IpNet| overlap(&own, &range))) {
            let why = format!("`{part}` reaches loopback or link-local, which production refuses");
            let fix = "name only the private ranges of your other servers";
            return Err(values.invalid("OUTBOUND_ALLOW", why, fix));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// This machine, and the link it hangs on (where clouds serve their credentials).
const OWN_MACHINE: [&str; 7] = [
    "127.0.0.0/8",
    "169.254.0.0/16",
    "0.0.0.0/8",
    "::/127",
    "fe80::/10",
    "::ffff:127.0.0.0/104",
    "::ffff:169.254.0.0/112",
];

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
