//! Invariant: a setting exists if and only if it has a row here. Reading, `rookery config` and the table in README
//! all come from these rows, so they cannot disagree.

use std::fmt::Write;

/// One setting. Its variable is `name`; its key in the settings file is `name` in lower case.
pub struct Setting {
    pub name: &'static str,
    pub default: Fallback,
    /// A secret's value is never shown.
    pub secret: bool,
    /// One sentence for operators, with the unit and the bounds.
    pub help: &'static str,
}

/// What holds when nobody sets it.
#[derive(Clone, Copy)]
pub enum Fallback {
    Is(&'static str),
    /// Worked out from other settings, in the words of the table.
    From(&'static str),
    /// Nothing; what that means.
    Unset(&'static str),
}

use Fallback::{From, Is, Unset};

const fn row(name: &'static str, default: Fallback, help: &'static str) -> Setting {
    Setting { name, default, secret: false, help }
}

const fn secret(name: &'static str, default: Fallback, help: &'static str) -> Setting {
    Setting { name, default, secret: true, help }
}

#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    row("ROOKERY_ENV", Is("production"), "`production` or `development`. Development opens loopback for outbound calls, makes missing keys, and is never for real users."),
    row("ROOKERY_CONFIG", Unset("no file"), "Path of a flat TOML file of these settings, keys in lower case. The environment wins over it; `--config` wins over this."),

    secret("DATABASE_URL", Unset("private Postgres in `DATA_DIR`"), "`postgres://user:password@host/database` of a Postgres 14 or newer that no other program writes to."),
    secret("DATABASE_DIRECT_URL", Unset("`DATABASE_URL`, which then leads through no pooler"), "URL of the same database without a pooler. With it, `DATABASE_URL` may lead through PgBouncer 1.21 or newer (`pool_mode = transaction`, `max_prepared_statements` above 0)."),
    row("DATABASE_POOL", Is("16"), "Connections to Postgres in the pools of this process, 1 to 1000. A value of 8 or more is split by class: an eighth for authentication, one connection for the tailer, a quarter for writes, an eighth (2 at least) for workers, the rest for reads."),
    row("DATA_DIR", Is("./data"), "Folder of what this server keeps on disk: its private Postgres and its keys."),
    row("DISK_FREE_MIN_MIB", Is("256"), "MiB that stay free on the disk of `DATA_DIR`, where the private Postgres is: below it the server refuses writes as `StorageFull` and goes on with reads and revocations. 0 to 1000000000; 0 turns the check off."),
    row("PG_BIN", Unset("searched for"), "Folder with `postgres` and `initdb` (14 or newer) for the private Postgres."),

    row("SERVER_ROLE", Is("all"), "Work of this instance: `all`; `api` calls and sockets without background work; `worker` background work, health checks and metrics without calls. A server needs at least one instance of `all` or `worker`, and one of `all` or `api`."),
    row("SERVER_HOST", From("`::`; in development `127.0.0.1`"), "Address to listen on. `::` is IPv6 and IPv4, and IPv4 alone on a machine without IPv6."),
    row("SERVER_PORT", Is("3000"), "Port of the API; 0 takes any free one."),
    row("METRICS_HOST", Is("127.0.0.1"), "Address of `/metrics`, which requires no authentication: loopback, or an address that only the monitoring reaches."),
    row("METRICS_PORT", Is("9090"), "Port of `/metrics`, apart from the API's, so that the metrics are not public; 0 turns the page off."),
    row("PUBLIC_URL", From("`https://` and the host of `SERVICE_DID`; in development `http://localhost:SERVER_PORT`"), "Origin under which clients reach this server, without a path."),
    row("REQUEST_TIMEOUT_MS", Is("8000"), "Milliseconds until an answer must begin, 100 to 60000. A PDS gives up after 10000."),
    row("HEADER_TIMEOUT_MS", Is("30000"), "Milliseconds that a client may take for the head of a request, and that a connection may be idle between two; 100 to 600000. A proxy in front must close its own idle connections sooner."),
    row("SEND_TIMEOUT_MS", Is("20000"), "Milliseconds after which the server closes a connection that reads nothing of its answer, 100 to 300000."),
    row("DRAIN_MS", From("`5000`; in development `0`"), "Milliseconds after SIGTERM in which the server answers requests while `/health/ready` answers 503, so that a load balancer chooses another instance; 0 to 300000."),
    row("SHUTDOWN_GRACE_MS", Is("10000"), "Milliseconds after `DRAIN_MS` in which open requests may finish, 0 to 300000."),
    row("MAX_CONNECTIONS", Is("10000"), "Open connections of clients, 64 to 1000000; fewer where the process may not open as many files. When all are taken, the server closes the oldest unauthenticated connection for a new one."),
    row("MAX_CONNECTIONS_PER_ADDRESS", Is("1000"), "Open connections of one address (IPv6: of a /64), 1 to 1000000; for a client behind `TRUSTED_PROXIES`, its open requests and sockets. A trusted proxy has no such limit."),
    row("MAX_READS_IN_FLIGHT", Is("8"), "Queries that one device may have in flight on all instances together, 1 to 10000; an account has four times as many for all its devices, and an address four times as many for unauthenticated queries. A further query waits a second at most."),
    row("MAX_WRITES_IN_FLIGHT", Is("4"), "Procedures that one device may have in flight, 1 to 10000; accounts and addresses as in `MAX_READS_IN_FLIGHT`."),
    row("MAX_BODY_BYTES", Is("262144"), "Largest request body of an ordinary method, in bytes, 16384 to 67108864."),
    row("MAX_MESSAGE_BYTES", Is("1048576"), "Largest request body of messages and batches of key packages, in bytes of decoded content (base64 takes a third more)."),
    row("MAX_COMMIT_BYTES", Is("8388608"), "Largest request body of commits with their Welcome and GroupInfo, in bytes of decoded content."),
    row("MAX_BODIES_BYTES", Is("134217728"), "Bytes of all request bodies in memory at one time, 1048576 to 68719476736. One account, registrable domain or address holds at most an eighth; a quarter is kept for small bodies."),

    row("TRUSTED_PROXIES", Is(""), "Addresses and ranges (CIDR, separated by commas) of the proxies in front. The client is the last hop of `X-Forwarded-For` that is none of them; without any, that header is ignored."),
    row("RATE_READ", Is("1200/60"), "Queries of one account: a quantity within a number of seconds, on all instances together. All `RATE_*` have this form, 1 to 1000000000 within 1 to 86400 seconds."),
    row("RATE_WRITE", Is("600/60"), "Procedures of one account that no other row names."),
    row("RATE_MESSAGE", Is("1200/60"), "Messages of one account."),
    row("RATE_KEY_PACKAGE", Is("600/60"), "Calls of one account that publish, list and claim key packages."),
    row("RATE_ACCOUNT", Is("300/60"), "Calls of one account about itself and its devices."),
    row("RATE_SUBSCRIBE", Is("120/60"), "Subscriptions, answers by server-sent events and tickets of one account, each counted when it begins."),
    row("RATE_OPEN", Is("600/60"), "Requests of one address (IPv6: of a /64) that need no authentication: pairings, documents, pages, unknown paths."),
    row("RATE_FAILURE", Is("600/60"), "Failed authentications of one address: calls without an issuer, and issuers that begin to fail. Beyond it, the server checks only tokens of accounts that it authenticated in the last day."),
    row("RATE_FAILING_ISSUER", Is("30/60"), "Calls of one address that fail authentication in the name of one issuer. Beyond it, the server refuses that issuer at that address."),
    row("RATE_FIRST_FETCH", Is("1200/60"), "DID documents that the server fetches for the first time in a day because one address named them."),
    row("RATE_FIRST_FETCHES", Is("6000/60"), "First fetches for all addresses together. Half of it is kept for addresses that ask for few."),
    row("RATE_LOOKUP", Is("300/60"), "Accounts of other servers that the server looks up because calls of one account name them."),
    row("RATE_LOOKUPS", Is("1200/60"), "Look-ups for all accounts together: one budget for the directory of did:plc, one for hosts of did:web."),

    row("RATE_DOMAIN", Is("6000/60"), "Calls of all did:web accounts below one registrable domain together, besides the budget of each account."),
    row("RATE_YOUNG_ACCOUNTS", Is("6000/60"), "Calls of one address for all accounts that were created less than a day ago together, besides the budget of each account."),
    row("RATE_REGISTRATION", Is("600/3600"), "Accounts that one address may create."),
    row("RATE_REGISTRATIONS", Is("6000/3600"), "Accounts that all addresses together may create. Half of it is kept for addresses that register few."),
    row("RATE_DOMAIN_REGISTRATION", Is("100/86400"), "did:web accounts that may be created below one registrable domain."),

    row("SERVICE_DID", From("required; in development did:web of `PUBLIC_URL`"), "This server's name, `did:web:<host>`: the audience that tokens must name."),
    row("KEYS_DIR", From("`DATA_DIR/keys`"), "Folder of the service keys (files 0600; of another owner also 0440, as Kubernetes mounts a Secret with an fsGroup). `rookery keygen` fills it; development does so by itself."),
    row("PLC_URL", Is("https://plc.directory"), "Directory that resolves did:plc."),
    row("OUTBOUND_ALLOW", Is(""), "Address ranges (CIDR, separated by commas) that outbound calls may reach although they are private. Loopback and link-local are refused in production."),
    row("OUTBOUND_CA", Unset("publicly trusted authorities alone"), "PEM file of certificate authorities that outbound calls trust beside the public ones: those of a private federation."),
    secret("JWT_SECRET", Unset("no such tokens"), "Development only: service tokens of any account may be signed with it (HS256), at least 32 characters. Production refuses it."),
    row("ENABLE_DIRECT_XRPC_PROXY", Is("false"), "Development only: `true` hands methods that this server does not have on to `UPSTREAM_XRPC_BASE`. Production refuses it."),
    row("UPSTREAM_XRPC_BASE", Unset("nowhere"), "Development only: origin of the server that gets the methods which this server does not have, such as `http://localhost:2583`. Production refuses it."),
    row("ENFORCE_LXM", Is("true"), "Tokens must name the method they are for (`lxm`). Production refuses `false`."),
    row("ENFORCE_JTI", Is("true"), "Tokens are good for one call (`jti`). Production refuses `false`."),
    row("JTI_TTL_SECONDS", Is("120"), "Seconds that the server remembers a used token at least, 0 to 86400; always until the token expires."),
    row("DEVICE_PROOF", Is("required"), "`required`: a write takes a token that the device signed itself, alone or beside the account's. `optional`: through a PDS, naming the device is enough. Production refuses `optional`."),
    row("OPERATOR_DIDS", Is(""), "DIDs, separated by commas, whose certified devices may call admin methods. Without any, the server does not mount those methods; `rookery account` always works."),
    row("OPERATOR_DEVICES", Is(""), "Ids of the operators' devices that may call admin methods, separated by commas; empty: every certified device of an operator's first device chain. Required once an operator has lost all devices."),
    row("OPERATOR_CONTACT", Unset("not shown"), "`mailto:` or `https:` URL of the operator that `server.describe` shows, at most 512 bytes."),
    row("TERMS_URL", Unset("not shown"), "`https:` URL of the terms of service that `server.describe` shows, at most 512 bytes."),
    row("PRIVACY_URL", Unset("not shown"), "`https:` URL of the privacy policy that `server.describe` shows, at most 512 bytes."),
    row("ACCOUNTS", From("`invite`; in development `open`"), "Accounts that may register a first device: `open` all, `allowlist` those that `rookery account allow` names, `invite` those with a code of `rookery account invite`. Existing accounts are not affected."),
    row("INVITATIONS", Is("contacts"), "Accounts that may invite an account without a policy of its own: `everyone`, `contacts`, or `nobody`. Each account may set its own policy."),

    row("SSE_BUFFER_SIZE", Is("500"), "Events that a subscriber may lag behind before it gets `ConsumerTooSlow`, 1 to 100000."),
    row("SSE_BUFFER_BYTES", Is("4194304"), "Bytes of events that a subscriber may lag behind, 65536 to 1073741824. One event of any size may wait alone."),
    row("SSE_HEARTBEAT_MS", Is("15000"), "Milliseconds between comments of an answer by server-sent events without other events, 100 to 60000. A PDS gives up after 30000."),
    row("SSE_MAX_BYTES", Is("8388608"), "Bytes before which an answer by server-sent events ends itself, with its cursor, 4096 to 1073741824. A PDS cuts it off at 10485760."),
    row("SOCKET_PING_MS", Is("30000"), "Milliseconds between pings of a WebSocket, 100 to 60000. The server closes a WebSocket that leaves two pings unanswered."),
    row("SSE_MAX_SECONDS", Is("900"), "Seconds after which an answer by server-sent events ends itself, with its cursor, 1 to 86400."),
    row("SOCKET_LIFE_SECONDS", Is("21600"), "Seconds after which a WebSocket is closed, a tenth more or less, so that its client comes back with a new token; 1 to 604800."),
    row("WRITER_QUEUE", Is("4096"), "Entries that may wait for the log writer before a call gets 503 `Unavailable`, 1 to 1000000."),
    row("ROLLBACK_GUARD", Unset("none"), "Path of a file on another disk than the database's, to which this server writes its newest position: it then detects a restore of older files by itself."),

    secret("REDIS_URL", Unset("signals go by Postgres"), "`redis://` or `rediss://` of a Redis that carries signals between instances. While it is unreachable, Postgres carries them."),
    row("LOG_STALLED_SECONDS", Is("30"), "Seconds, 1 to 300, after which an unanswered job of the log writer, or a tailer that completes no read, makes this instance unready. Committed entries that wait that long for delivery raise an alarm in the log and leave readiness unchanged."),

    row("RETENTION_MESSAGES_DAYS", Is("30"), "Days that the contents of application messages are kept, 1 to 3650. Headers stay."),
    row("RETENTION_COMMITS_DAYS", Is("90"), "Days that the contents of commits and proposals that change no seat are kept, 1 to 3650; longer while a device that may still need them has not been seen since."),
    row("RETENTION_ACCOUNTS_DAYS", Is("120"), "Days that the contents of notices in account streams are kept, 1 to 3650."),
    row("RETENTION_WELCOMES_DAYS", Is("90"), "Days that Welcomes, and key packages that expired, are kept, 1 to 3650."),
    row("DEVICE_LAPSE_DAYS", Is("90"), "Days after which a device that was not seen must register again, 1 to 3650. Until then commits that it may need are kept."),

    row("QUOTA_ACCOUNT_BYTES", Is("1073741824"), "Bytes that one account may make this server keep, in entries that it wrote and in its other rows; up to 10 % more, since totals are summed twice a minute. `rookery account quota` sets another for one account. All `QUOTA_*`: 1 to 2^60."),
    row("QUOTA_ACCOUNT_ROWS", Is("2000000"), "The same in rows."),
    row("QUOTA_CONVO_BYTES", Is("8589934592"), "Bytes that one conversation may hold: headers, and contents that have not aged out. Commits may take 10 % more."),
    row("QUOTA_CONVO_ENTRIES", Is("20000000"), "Entries that one conversation may have, ever."),
    row("QUOTA_DOMAIN_BYTES", Is("68719476736"), "Bytes that all did:web accounts of one registrable domain may make this server keep."),
    row("QUOTA_DOMAIN_ROWS", Is("100000000"), "The same in rows."),

    secret("ROOKERY_PDS_PASSWORD", Unset("read from standard input"), "App password of the account that `rookery lexicons publish` writes to. No other command uses it."),

    row("RUST_LOG", Is("info"), "Filter of log lines, in the syntax of tracing's EnvFilter."),
    row("LOG_FORMAT", From("`json`; in development `text`"), "`json` (one object a line) or `text`."),
    secret("LOG_HASH_KEY", Unset("random per start"), "At least 16 characters. Accounts appear in logs as a hash under this key; set it to follow an account across restarts and instances."),

    row("FEDERATION", Is("off"), "Other servers that this server talks to: `off` none, `open` all that are not blocked, `allowlist` those that `FEDERATION_ALLOW` or `rookery peer allow` names."),
    row("FEDERATION_ALLOW", Is(""), "Servers, `did:web:<host>` separated by commas, that the operator allows: they are on no probation."),
    row("RECOVERY_WAIT_SECONDS", Is("900"), "Seconds that a stream waits after a restore for followers that do not answer, 0 to 604800; then it goes on without the entries that they may hold."),
    row("RATE_PEER", Is("50/1"), "Requests of one registrable domain's servers. In the domain's first seven days, unless the operator allowed it, a tenth of this, of `RATE_PEER_ENTRIES` and of `RATE_PEER_KIB`."),
    row("RATE_PEER_ENTRIES", Is("100000/3600"), "Entries that one registrable domain's servers may send."),
    row("RATE_PEER_KIB", Is("524288/3600"), "KiB that one registrable domain's servers may send."),
    row("FEDERATION_KEY_HOLD_HOURS", Is("72"), "Hours of hold, without calls in either direction, for a server whose new key no earlier key endorsed, 0 to 720. The operator may decide sooner."),
];

/// Settings that operators know from the systems this server replaces, or from its plans. They are refused with the
/// reason: silence would let them believe that it took effect. `false`, `off` and `0` ask for nothing and pass.
#[rustfmt::skip]
pub(super) const NOT_YET: &[(&str, &str, &str)] = &[
    ("MASTER_KEY", "sealing secrets in Postgres is not supported yet", "unset it: keys are files in KEYS_DIR"),
];

pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The settings as the rows of a Markdown table, for README.
pub fn markdown() -> String {
    let mut table = String::from("| setting | default | what |\n| --- | --- | --- |\n");
    for setting in SETTINGS {
        let default = match setting.default {
            Is("") => "empty".to_owned(),
            Is(value) => format!("`{value}`"),
            From(text) | Unset(text) => text.to_owned(),
        };
        let secret = if setting.secret { " Secret." } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{}` | {default} | {}{secret} |", setting.name, setting.help);
    }
    table
}
