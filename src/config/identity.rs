use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use secrecy::SecretString;

use super::values::Values;
use super::{ConfigError, Environment};
use crate::types::{DeviceId, Did};

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
    /// PEM file of further certificate authorities for outbound calls.
    pub outbound_ca: Option<PathBuf>,
    pub enforce_lxm: bool,
    pub enforce_jti: bool,
    /// A used token is remembered at least this long.
    pub jti_ttl: Duration,
    /// A write through a PDS takes a token of the device beside the account's.
    pub device_proof_required: bool,
    /// Development: service tokens signed with it (HS256) stand for any account.
    pub jwt_secret: Option<SecretString>,
    /// Who may call admin methods. With none, they are not mounted.
    pub operators: Vec<Did>,
    /// The operators' devices that may call admin methods. Without any, every certified device of an account's first
    /// device chain.
    pub operator_devices: Vec<DeviceId>,
    pub admission: Admission,
    /// Who may invite an account that said nothing about it.
    pub invitations: Invitations,
}

/// Of a secret that stands for a signature: as many as its hash has.
const MIN_SECRET_BYTES: usize = 32;

/// Which accounts may register their first device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Open,
    /// Those that `rookery account allow` named.
    Allowlist,
    /// Those that bring a code of `rookery account invite`.
    Invite,
}

/// Who may invite an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invitations {
    Everyone,
    /// Accounts that it agreed with by setRelationship.
    Contacts,
    Nobody,
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
        values.text_or("ACCOUNTS", || if production { "invite" } else { "open" }.to_owned());
        let keys_dir = values.text_or("KEYS_DIR", || data_dir.join("keys").display().to_string());

        Ok(Self {
            service_did,
            public_url,
            keys_dir: keys_dir.into(),
            plc_url: plc_url(values)?,
            outbound_allow: outbound_allow(values)?,
            outbound_ca: values.text("OUTBOUND_CA").map(PathBuf::from),
            enforce_lxm: values.flag("ENFORCE_LXM")?,
            enforce_jti: values.flag("ENFORCE_JTI")?,
            jti_ttl: Duration::from_secs(values.number("JTI_TTL_SECONDS", 0..=86_400)?),
            device_proof_required: values.one_of("DEVICE_PROOF", &[("required", true), ("optional", false)])?,
            jwt_secret: jwt_secret(values)?,
            operators: operators(values)?,
            operator_devices: operator_devices(values)?,
            admission: values.one_of(
                "ACCOUNTS",
                &[("open", Admission::Open), ("allowlist", Admission::Allowlist), ("invite", Admission::Invite)],
            )?,
            invitations: values.one_of(
                "INVITATIONS",
                &[
                    ("everyone", Invitations::Everyone),
                    ("contacts", Invitations::Contacts),
                    ("nobody", Invitations::Nobody),
                ],
            )?,
        })
    }
}

fn jwt_secret(values: &Values) -> Result<Option<SecretString>, ConfigError> {
    let Some(secret) = values.text("JWT_SECRET") else { return Ok(None) };
    if secret.len() < MIN_SECRET_BYTES {
        let fix = format!("set JWT_SECRET to {MIN_SECRET_BYTES} characters or more, or unset it");
        return Err(values.invalid("JWT_SECRET", "too short to keep anybody out", fix));
    }
    Ok(Some(SecretString::from(secret)))
}

fn operators(values: &Values) -> Result<Vec<Did>, ConfigError> {
    values
        .list("OPERATOR_DIDS")
        .map(|did| {
            let why = format!("`{did}` is not a DID");
            let fix = "set it to DIDs such as did:plc:…, separated by commas";
            Did::parse(did).map_err(|_| values.invalid("OPERATOR_DIDS", why, fix))
        })
        .collect()
}

fn operator_devices(values: &Values) -> Result<Vec<DeviceId>, ConfigError> {
    values
        .list("OPERATOR_DEVICES")
        .map(|device| {
            let why = format!("`{device}` is not a device id");
            let fix =
                "set it to ids such as dev_kjtxncbc5zre2sh44fpmlstzzp, as listDevices shows them, separated by commas";
            DeviceId::parse(device).map_err(|_| values.invalid("OPERATOR_DEVICES", why, fix))
        })
        .collect()
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

fn plc_url(values: &Values) -> Result<Url, ConfigError> {
    let fix = "set PLC_URL to an origin such as https://plc.directory";
    let url: Url = values.parsed("PLC_URL", "not a URL", fix)?;
    if matches!(url.scheme(), "https" | "http") { Ok(url) } else { Err(values.invalid("PLC_URL", "not https", fix)) }
}

fn outbound_allow(values: &Values) -> Result<Vec<IpNet>, ConfigError> {
    values
        .list("OUTBOUND_ALLOW")
        .map(|part| {
            part.parse().map_err(|_| {
                let why = format!("`{part}` is not an address range");
                values.invalid("OUTBOUND_ALLOW", why, "set it to ranges such as 10.0.0.0/8, separated by commas")
            })
        })
        .collect()
}

/// Whether this range reaches this machine, or the link it hangs on (where clouds serve their credentials).
pub(super) fn own_machine(range: &str) -> bool {
    let Ok(range) = range.trim().parse::<IpNet>() else { return false };
    OWN_MACHINE.iter().any(|own| own.parse().is_ok_and(|own: IpNet| own.contains(&range) || range.contains(&own)))
}

const OWN_MACHINE: [&str; 7] = [
    "127.0.0.0/8",
    "169.254.0.0/16",
    "0.0.0.0/8",
    "::/127",
    "fe80::/10",
    "::ffff:127.0.0.0/104",
    "::ffff:169.254.0.0/112",
];
