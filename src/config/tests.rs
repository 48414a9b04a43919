use std::collections::BTreeMap;
use std::io::Write;

use super::{Admission, Config, ConfigError, LogFormat, Origin, REFUSED, SETTINGS};

fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env: BTreeMap<_, _> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::load(&env, None)
}

fn load_file(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let env: BTreeMap<_, _> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::load(&env, Some(file.path()))
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    load(pairs).expect_err("refused").to_string()
}

fn shown(config: &Config, name: &str) -> (Option<String>, Origin) {
    let shown = config.describe().iter().find(|shown| shown.name == name).expect("a setting");
    (shown.value.clone(), shown.origin)
}

const PRODUCTION: (&str, &str) = ("SERVICE_DID", "did:web:chat.example.com");
const DEVELOPMENT: (&str, &str) = ("ROOKERY_ENV", "development");

#[test]
fn production_is_the_default_and_needs_nothing_but_a_name() {
    let config = load(&[PRODUCTION]).unwrap();
    assert!(config.is_production());
    assert_eq!(config.identity.public_url.as_str(), "https://chat.example.com/");
    assert_eq!(config.telemetry.format, LogFormat::Json);
    assert_eq!(config.http.listen.to_string(), "[::]:3000", "every address, of both families");
    assert_eq!(config.http.metrics.unwrap().to_string(), "127.0.0.1:9090", "loopback by default");
    assert_eq!(config.http.drain.as_millis(), 5_000);
    assert_eq!(config.identity.admission, Admission::Invite);
    assert!(config.database.url.is_none());
    assert_eq!(config.identity.keys_dir.to_str(), Some("./data/keys"));
    assert_eq!(config.warnings(), Vec::<&str>::new());
}

#[test]
fn production_without_a_name_is_refused_with_the_fix() {
    let message = refusal(&[]);
    assert!(message.contains("SERVICE_DID is not set") && message.contains("did:web:<your host>"), "{message}");
}

#[test]
fn development_names_itself_after_its_port_and_says_that_it_is_no_production() {
    let config = load(&[DEVELOPMENT, ("SERVER_PORT", "4000")]).unwrap();
    assert_eq!(config.identity.service_did.as_str(), "did:web:localhost%3A4000");
    assert_eq!(config.identity.public_url.as_str(), "http://localhost:4000/");
    assert_eq!(config.telemetry.format, LogFormat::Text);
    assert_eq!(config.warnings().len(), 1);
}

#[test]
fn what_makes_tokens_reusable_is_refused_in_production_only() {
    for name in ["ENFORCE_JTI", "ENFORCE_LXM"] {
        let expected = format!("{name} is `false` (from the environment)");
        assert!(refusal(&[PRODUCTION, (name, "false")]).starts_with(&expected));
    }
    let config = load(&[DEVELOPMENT, ("ENFORCE_JTI", "false"), ("ENFORCE_LXM", "false")]).unwrap();
    assert!(!config.identity.enforce_jti && !config.identity.enforce_lxm);
    assert_eq!(config.warnings().len(), 3);
}

#[test]
fn a_write_without_the_devices_own_proof_is_for_development_alone() {
    let message = refusal(&[PRODUCTION, ("DEVICE_PROOF", "optional")]);
    assert!(message.starts_with("DEVICE_PROOF is `optional`") && message.contains("ROOKERY_ENV"), "{message}");
    let config = load(&[DEVELOPMENT, ("DEVICE_PROOF", "optional")]).unwrap();
    assert!(!config.identity.device_proof_required);
    assert_eq!(config.warnings().len(), 2);
}

#[test]
fn the_operators_contact_is_a_mailto_or_https_url() {
    let config =
        load(&[PRODUCTION, ("OPERATOR_CONTACT", "mailto:ops@example.com"), ("TERMS_URL", "https://example.com/t")]);
    let operator = config.unwrap().operator;
    assert_eq!(operator.contact.unwrap().as_str(), "mailto:ops@example.com");
    assert!(operator.terms.is_some() && operator.privacy_policy.is_none());
    let long = format!("https://example.com/{}", "x".repeat(512));
    for (name, value) in
        [("OPERATOR_CONTACT", "ops@example.com"), ("TERMS_URL", "mailto:ops@example.com"), ("PRIVACY_URL", &long)]
    {
        assert!(refusal(&[PRODUCTION, (name, value)]).starts_with(name));
    }
}

#[test]
fn operators_are_dids_and_by_default_there_are_none() {
    assert!(load(&[PRODUCTION]).unwrap().identity.operators.is_empty());
    let two = "did:plc:ewvi7nxzyoun6zhxrhs64oiz, did:web:ops.example.com,";
    assert_eq!(load(&[PRODUCTION, ("OPERATOR_DIDS", two)]).unwrap().identity.operators.len(), 2);
    let message = refusal(&[PRODUCTION, ("OPERATOR_DIDS", "did:plc:ewvi7nxzyoun6zhxrhs64oiz,alice.example.com")]);
    assert!(message.contains("`alice.example.com` is not a DID"), "{message}");
}

#[test]
fn production_takes_accounts_by_invitation_by_default() {
    assert_eq!(load(&[PRODUCTION]).unwrap().identity.admission, Admission::Invite);
    assert_eq!(load(&[PRODUCTION, ("ACCOUNTS", "open")]).unwrap().identity.admission, Admission::Open);
    assert_eq!(load(&[("ROOKERY_ENV", "development")]).unwrap().identity.admission, Admission::Open);
}

#[test]
fn the_name_and_the_public_url_must_agree_in_production() {
    assert!(refusal(&[PRODUCTION, ("PUBLIC_URL", "https://other.example.com")]).starts_with("SERVICE_DID is"));
    assert!(refusal(&[PRODUCTION, ("PUBLIC_URL", "http://chat.example.com")]).contains("not https"));
    assert!(refusal(&[PRODUCTION, ("PUBLIC_URL", "https://chat.example.com:8443")]).contains("port"));
    assert!(refusal(&[PRODUCTION, ("PUBLIC_URL", "https://chat.example.com/path")]).contains("origin"));
    assert!(refusal(&[("SERVICE_DID", "did:plc:abcdefghijklmnopqrstuvwx")]).contains("not a did:web"));
    assert!(refusal(&[("SERVICE_DID", "did:web:example.com:path")]).contains("not a did:web"));
}

#[test]
fn a_wrong_value_is_answered_with_its_name_its_value_and_the_fix() {
    for (name, value) in [
        ("SERVER_PORT", "70000"),
        ("SERVER_PORT", "-1"),
        ("SERVER_HOST", "localhost"),
        ("DATABASE_POOL", "0"),
        ("REQUEST_TIMEOUT_MS", "8s"),
        ("MAX_BODY_BYTES", "1"),
        ("ENFORCE_LXM", "maybe"),
        ("ROOKERY_ENV", "prod"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "rookery=loud"),
        ("PLC_URL", "http://plc.directory"),
        ("OUTBOUND_ALLOW", "10.0.0.0/8,home"),
        ("FEDERATION", "everybody"),
        ("FEDERATION_ALLOW", "chat.example.com"),
        ("FEDERATION_KEY_HOLD_HOURS", "721"),
        ("RATE_PEER", "50"),
        ("SSE_BUFFER_SIZE", "0"),
        ("WRITER_QUEUE", "lots"),
        ("JTI_TTL_SECONDS", "1.5"),
        ("DEVICE_PROOF", "never"),
        ("ACCOUNTS", "closed"),
        ("METRICS_PORT", "3000"),
        ("HEADER_TIMEOUT_MS", "0"),
        ("SEND_TIMEOUT_MS", "20s"),
        ("SOCKET_LIFE_SECONDS", "0"),
        ("SSE_HEARTBEAT_MS", "60001"),
        ("SSE_MAX_BYTES", "8MiB"),
        ("SSE_MAX_SECONDS", "0"),
        ("RATE_READ", "600"),
        ("RATE_WRITE", "0/60"),
        ("RATE_MESSAGE", "10/0"),
        ("RATE_KEY_PACKAGE", "10/86401"),
        ("RATE_ACCOUNT", "10/minute"),
        ("RATE_SUBSCRIBE", "-1/60"),
        ("RATE_OPEN", "1/2/3"),
        ("RATE_FAILING_ISSUER", "off"),
        ("RATE_DOMAIN", "10"),
        ("RATE_YOUNG_ACCOUNTS", "1"),
        ("RATE_REGISTRATION", "0/60"),
        ("METRICS_HOST", "localhost"),
        ("DRAIN_MS", "300001"),
        ("MAX_CONNECTIONS", "63"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "0"),
        ("MAX_READS_IN_FLIGHT", "0"),
        ("MAX_WRITES_IN_FLIGHT", "many"),
        ("MAX_BODIES_BYTES", "1000"),
        ("SOCKET_PING_MS", "99"),
        ("RATE_FAILURE", "1000000001/60"),
        ("RATE_FIRST_FETCH", "1.5/60"),
        ("RATE_FIRST_FETCHES", "/60"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
    ] {
        let message = refusal(&[PRODUCTION, (name, value)]);
        assert!(message.starts_with(&format!("{name} is `{value}`")), "{message}");
        assert!(message.contains("Fix: "), "{message}");
    }
}

#[test]
fn a_secret_is_neither_in_an_error_nor_in_the_description_nor_in_debug() {
    for (name, value) in [("DATABASE_URL", "mysql://user:hunter2@host/db"), ("LOG_HASH_KEY", "hunter2")] {
        let message = refusal(&[PRODUCTION, (name, value)]);
        assert!(message.starts_with(&format!("{name} is `(hidden)`")) && !message.contains("hunter2"), "{message}");
    }
    let url = ("DATABASE_URL", "postgres://user:hunter2@host/db");
    let config = load(&[PRODUCTION, url, ("LOG_HASH_KEY", "hunter2hunter2hunter2")]).unwrap();
    assert_eq!(shown(&config, "DATABASE_URL"), (Some("(hidden)".to_owned()), Origin::Environment));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_environment_wins_over_the_file_and_an_empty_variable_counts_as_not_set() {
    let text = "service_did = \"did:web:chat.example.com\"\nserver_port = 4000\nenforce_lxm = true\n\
                outbound_allow = [\"10.0.0.0/8\", \"192.168.0.0/16\"]\n";
    let config = load_file(text, &[("SERVER_PORT", "5000"), ("ENFORCE_LXM", "")]).unwrap();
    assert_eq!(shown(&config, "SERVER_PORT"), (Some("5000".to_owned()), Origin::Environment));
    assert_eq!(shown(&config, "ENFORCE_LXM"), (Some("true".to_owned()), Origin::File));
    assert_eq!(shown(&config, "DATABASE_POOL"), (Some("16".to_owned()), Origin::Default));
    assert_eq!(config.identity.outbound_allow.len(), 2);
}

#[test]
fn a_file_with_a_secret_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "rookery_env = \"development\"\nlog_hash_key = \"hunter2hunter2hunter2\"").unwrap();
    let loaded = |mode| {
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        Config::load(&BTreeMap::new(), Some(file.path()))
    };
    assert!(loaded(0o600).is_ok());
    for mode in [0o604, 0o644] {
        let message = loaded(mode).unwrap_err().to_string();
        assert!(message.contains("LOG_HASH_KEY") && !message.contains("hunter2"), "{message}");
    }
}

#[test]
fn rookery_config_names_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "rookery_env = \"development\"").unwrap();
    let config = load(&[("ROOKERY_CONFIG", file.path().to_str().unwrap())]).unwrap();
    assert!(!config.is_production());
    assert!(refusal(&[("ROOKERY_CONFIG", "/nowhere.toml")]).contains("/nowhere.toml cannot be read"));
}

#[test]
fn an_unknown_name_is_an_error_that_guesses_what_was_meant() {
    assert!(refusal(&[PRODUCTION, ("ROOKERY_EVN", "development")]).contains("is ROOKERY_ENV meant?"));
    assert!(refusal(&[PRODUCTION, ("ROOKERY_SERVER_PORT", "1")]).contains("is SERVER_PORT meant?"));
    let message = load_file("server_prot = 1\n", &[PRODUCTION]).unwrap_err().to_string();
    assert!(message.contains("`server_prot`") && message.contains("is SERVER_PORT meant?"), "{message}");
    for text in ["SERVER_PORT = 1\n", "rookery_config = \"x\"\n", "[http]\nport = 1\n", "server_port = 1.5\n", "= 1\n"]
    {
        assert!(load_file(text, &[PRODUCTION]).is_err(), "{text}");
    }
    load(&[PRODUCTION, ("HOME", "/home/somebody"), ("UNRELATED", "yes")]).unwrap();
}

#[test]
fn a_setting_of_another_system_is_refused_until_it_works_here() {
    for environment in [PRODUCTION, DEVELOPMENT] {
        assert!(refusal(&[environment, ("MASTER_KEY", "a-secret")]).contains("not supported yet"));
        assert!(!refusal(&[environment, ("MASTER_KEY", "a-secret")]).contains("a-secret"));
        load(&[environment, ("MASTER_KEY", "")]).unwrap();
        assert!(load_file("master_key = \"x\"\n", &[environment]).is_err());
    }
}

#[test]
fn a_redis_is_named_by_its_url_which_is_never_shown() {
    let url = "rediss://somebody:a-password@redis.example.com:6380/1";
    let config = load(&[PRODUCTION, ("REDIS_URL", url)]).unwrap();
    assert!(config.log.redis_url.is_some());
    assert!(!format!("{config:?}").contains("a-password"));
    for wrong in ["redis.example.com", "http://redis.example.com", "redis://", "redis:a-password"] {
        let message = refusal(&[PRODUCTION, ("REDIS_URL", wrong)]);
        assert!(message.starts_with("REDIS_URL is") && !message.contains("a-password"), "{wrong}: {message}");
    }
}

#[test]
fn what_production_refuses_is_refused_by_name_with_the_fix_and_said_aloud_in_development() {
    for row in REFUSED {
        assert!(!row.examples.is_empty(), "{} shows nothing that is refused", row.name);
        for value in row.examples {
            let mut settings = vec![PRODUCTION];
            settings.retain(|(name, _)| *name != row.name);
            settings.push((row.name, value));
            let message = refusal(&settings);
            assert!(message.starts_with(&format!("{} is ", row.name)), "{message}");
            assert!(message.contains("production refuses it, since") && message.contains("Fix: "), "{message}");

            let other = ("UPSTREAM_XRPC_BASE", "http://localhost:2583");
            let config = load(&[DEVELOPMENT, other, (row.name, value)]).unwrap();
            let said = config.warnings().iter().any(|warning| warning.starts_with(&format!("{}: ", row.name)));
            assert!(said, "{} = {value} goes unsaid", row.name);
        }
    }
}

/// What README says of production is what production does.
#[test]
fn every_setting_that_claims_to_be_refused_in_production_is_in_the_table_of_what_is() {
    let refused = |name: &str| REFUSED.iter().any(|row| row.name == name);
    for setting in SETTINGS {
        let claims = ["roduction refuses", "refused in production", "Development only"];
        assert!(!claims.iter().any(|claim| setting.help.contains(claim)) || refused(setting.name), "{}", setting.name);
    }
    for row in REFUSED {
        assert!(SETTINGS.iter().any(|setting| setting.name == row.name), "{}", row.name);
    }
}

#[test]
fn a_secret_that_is_short_is_none_and_an_upstream_takes_both_of_its_settings() {
    let message = refusal(&[DEVELOPMENT, ("JWT_SECRET", "a-short-secret")]);
    assert!(message.contains("32 characters") && !message.contains("a-short-secret"), "{message}");
    let on = ("ENABLE_DIRECT_XRPC_PROXY", "true");
    assert!(refusal(&[DEVELOPMENT, on]).starts_with("UPSTREAM_XRPC_BASE is not set"));
    for base in ["localhost:2583", "http://localhost:2583/path", "ftp://localhost", "http://a:b@localhost"] {
        assert!(
            refusal(&[DEVELOPMENT, on, ("UPSTREAM_XRPC_BASE", base)]).starts_with("UPSTREAM_XRPC_BASE is"),
            "{base}"
        );
    }
    let base = ("UPSTREAM_XRPC_BASE", "http://localhost:2583");
    assert!(load(&[DEVELOPMENT, on, base]).unwrap().http.upstream.is_some());
    assert!(load(&[DEVELOPMENT, base]).unwrap().http.upstream.is_none());
    load(&[PRODUCTION, ("ENABLE_DIRECT_XRPC_PROXY", "false")]).unwrap();
}

#[test]
fn a_rate_is_a_quantity_within_seconds_and_a_proxy_an_address_or_a_range() {
    let config =
        load(&[PRODUCTION, ("RATE_READ", " 7 / 5 "), ("TRUSTED_PROXIES", "127.0.0.1, 10.1.2.3/8,::1")]).unwrap();
    let read = config.limits.accounts.read;
    assert_eq!((read.quantity.get(), read.period.as_secs()), (7, 5));
    let proxies: Vec<String> = config.limits.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["127.0.0.1/32", "10.0.0.0/8", "::1/128"]);
}

#[test]
fn loopback_and_link_local_cannot_be_opened_in_production() {
    for range in ["127.0.0.0/8", "127.0.0.1/32", "0.0.0.0/0", "::1/128", "::/0", "169.254.169.254/32", "fe80::/64"] {
        let message = refusal(&[PRODUCTION, ("OUTBOUND_ALLOW", range)]);
        assert!(message.contains("loopback or link-local"), "{range}: {message}");
        load(&[DEVELOPMENT, ("OUTBOUND_ALLOW", range)]).unwrap();
    }
    load(&[PRODUCTION, ("OUTBOUND_ALLOW", "10.0.0.0/8, fd00::/8")]).unwrap();
}

#[test]
fn every_setting_has_one_row_and_is_described() {
    let config = load(&[PRODUCTION]).unwrap();
    let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(config.describe().len(), names.len());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SETTINGS.len());
    let table = super::markdown();
    assert!(names.iter().all(|name| table.contains(&format!("| `{name}` |"))));
}
