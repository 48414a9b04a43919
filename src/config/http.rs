use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::values::Values;
use super::{ConfigError, Environment};

/// Listeners, and the bounds of one request.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where the API listens. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where `/metrics` listens; off without.
    pub metrics: Option<SocketAddr>,
    /// Until an answer must begin.
    pub request_timeout: Duration,
    /// For a request's head, and between two requests of a connection.
    pub header_timeout: Duration,
    /// Time after SIGTERM in which the server reports that it is not ready, and still serves, so that load balancers
    /// leave it.
    pub drain: Duration,
    /// Time for open requests after the drain time.
    pub shutdown_grace: Duration,
    /// The most connections in all; fewer where the process may not open as many files.
    pub connections: usize,
    /// The most connections of one client address.
    pub connections_per_address: u32,
    /// Calls in flight of one device.
    pub reads_in_flight: u32,
    pub writes_in_flight: u32,
    pub bodies: Bodies,
    /// Development: where methods go that this server does not have.
    pub upstream: Option<url::Url>,
}

/// Largest request bodies by class, in bytes of decoded content (JSON with base64 is about 4/3 of that).
#[derive(Clone, Copy, Debug)]
pub struct Bodies {
    pub ordinary_bytes: usize,
    pub message_bytes: usize,
    pub commit_bytes: usize,
    /// Bytes of all bodies that are being received or answered, as received on the wire.
    pub held_bytes: usize,
}

/// No body may be set below what methods need at all, nor beyond what one process should buffer.
const BODY_BYTES: std::ops::RangeInclusive<usize> = 16 * 1024..=64 * 1024 * 1024;

/// The unspecified address, for IPv6 and IPv4 alike.
const ANY_ADDRESS: &str = "::";
const LOOPBACK: &str = "127.0.0.1";
const PRODUCTION_DRAIN_MS: &str = "5000";

impl Http {
    pub(super) fn read(values: &mut Values, environment: Environment) -> Result<Self, ConfigError> {
        let production = environment == Environment::Production;
        let default_host = if production { ANY_ADDRESS } else { LOOPBACK };
        values.text_or("SERVER_HOST", || default_host.to_owned());
        let drain_ms = if production { PRODUCTION_DRAIN_MS } else { "0" };
        values.text_or("DRAIN_MS", || drain_ms.to_owned());
        let host = |name: &'static str| -> Result<IpAddr, ConfigError> {
            let fix = format!("set {name} to the address to listen on, such as ::, 0.0.0.0 or 127.0.0.1");
            values.parsed(name, "not an IP address", &fix)
        };
        let metrics_port = values.number("METRICS_PORT", 0..=u16::MAX)?;
        let listen = SocketAddr::new(host("SERVER_HOST")?, values.number("SERVER_PORT", 0..=u16::MAX)?);
        if metrics_port != 0 && metrics_port == listen.port() {
            return Err(values.invalid(
                "METRICS_PORT",
                "SERVER_PORT is the same port",
                "give METRICS_PORT another port, or 0 to turn it off",
            ));
        }
        let metrics = SocketAddr::new(host("METRICS_HOST")?, metrics_port);
        Ok(Self {
            listen,
            metrics: (metrics_port != 0).then_some(metrics),
            request_timeout: Duration::from_millis(values.number("REQUEST_TIMEOUT_MS", 100..=60_000)?),
            header_timeout: Duration::from_millis(values.number("HEADER_TIMEOUT_MS", 100..=600_000)?),
            drain: Duration::from_millis(values.number("DRAIN_MS", 0..=300_000)?),
            shutdown_grace: Duration::from_millis(values.number("SHUTDOWN_GRACE_MS", 0..=300_000)?),
            connections: values.number("MAX_CONNECTIONS", 64..=1_000_000)?,
            connections_per_address: values.number("MAX_CONNECTIONS_PER_ADDRESS", 1..=1_000_000)?,
            reads_in_flight: values.number("MAX_READS_IN_FLIGHT", 1..=10_000)?,
            writes_in_flight: values.number("MAX_WRITES_IN_FLIGHT", 1..=10_000)?,
            bodies: Bodies {
                ordinary_bytes: values.number("MAX_BODY_BYTES", BODY_BYTES)?,
                message_bytes: values.number("MAX_MESSAGE_BYTES", BODY_BYTES)?,
                commit_bytes: values.number("MAX_COMMIT_BYTES", BODY_BYTES)?,
                held_bytes: values.number("MAX_BODIES_BYTES", 1024 * 1024..=64 * 1024 * 1024 * 1024)?,
            },
            upstream: upstream(values)?,
        })
    }
}

/// The upstream, if both settings ask for it.
fn upstream(values: &Values) -> Result<Option<url::Url>, ConfigError> {
    if !values.flag("ENABLE_DIRECT_XRPC_PROXY")? {
        return Ok(None);
    }
    if values.text("UPSTREAM_XRPC_BASE").is_none() {
        return Err(ConfigError::Missing {
            name: "UPSTREAM_XRPC_BASE",
            why: "ENABLE_DIRECT_XRPC_PROXY is set, and does not say where to",
            fix: "set UPSTREAM_XRPC_BASE to an origin such as http://localhost:2583",
        });
    }
    let fix = "set UPSTREAM_XRPC_BASE to an origin such as http://localhost:2583, without a path";
    let url: url::Url = values.parsed("UPSTREAM_XRPC_BASE", "not a URL", fix)?;
    if !is_origin(&url) || !matches!(url.scheme(), "http" | "https") {
        return Err(values.invalid("UPSTREAM_XRPC_BASE", "not an origin", fix));
    }
    Ok(Some(url))
}

/// Scheme, host and port alone.
fn is_origin(url: &url::Url) -> bool {
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.host().is_some();
    bare && url.username().is_empty() && url.password().is_none()
}

/// The public origin; `name` is the host in the configured SERVICE_DID.
pub(super) fn public_url(
    values: &mut Values,
    environment: Environment,
    name: Option<&str>,
) -> Result<url::Url, ConfigError> {
    let port = values.text("SERVER_PORT").unwrap_or_default().to_owned();
    values.text_or("PUBLIC_URL", || match (environment, name) {
        (Environment::Production, Some(host)) => format!("https://{host}"),
        _ => format!("http://localhost:{port}"),
    });
    let fix = "set PUBLIC_URL to an origin such as https://chat.example.com, without a path";
    let url: url::Url = values.parsed("PUBLIC_URL", "not a URL", fix)?;
    if !is_origin(&url) {
        return Err(values.invalid("PUBLIC_URL", "more than an origin", fix));
    }
    if !matches!(url.scheme(), "https" | "http") {
        return Err(values.invalid("PUBLIC_URL", "not https", fix));
    }
    Ok(url)
}
