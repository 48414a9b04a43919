use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use super::ConfigError;
use super::values::Values;

/// So many at once, coming back evenly within the period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub quantity: NonZeroU32,
    pub period: Duration,
}

/// The rates of this instance.
#[derive(Clone, Debug)]
pub struct Limits {
    pub accounts: AccountRates,
    pub addresses: AddressRates,
    pub domains: DomainRates,
    pub all: OverallRates,
    pub lookups: LookupRates,
    /// Proxies whose word about who connected to them is taken.
    pub trusted_proxies: Vec<IpNet>,
}

/// For each proven account, by class of method.
#[derive(Clone, Copy, Debug)]
pub struct AccountRates {
    pub read: Rate,
    pub write: Rate,
    pub message: Rate,
    pub key_package: Rate,
    pub account: Rate,
    pub subscribe: Rate,
}

/// Rates of look-ups of other servers' accounts that calls name.
#[derive(Clone, Copy, Debug)]
pub struct LookupRates {
    /// Look-ups for the calls of one account.
    pub of_account: Rate,
    /// Look-ups for the calls of all accounts: one budget for the directory of did:plc, one for the hosts of did:web.
    pub of_all: Rate,
}

/// Rates for each address.
#[derive(Clone, Copy, Debug)]
pub struct AddressRates {
    /// Methods for anybody, documents, pages, and what is not there.
    pub open: Rate,
    /// Calls that needed a token and named no issuer, and issuers that began to fail.
    pub failure: Rate,
    /// Failed authentications in the name of one issuer.
    pub failing_issuer: Rate,
    /// DID documents fetched for the first time.
    pub first_fetch: Rate,
    /// Accounts created.
    pub registration: Rate,
    /// Calls of accounts that were created less than a day ago.
    pub young_accounts: Rate,
}

/// Rates for each registrable domain, for all its did:web accounts together.
#[derive(Clone, Copy, Debug)]
pub struct DomainRates {
    pub calls: Rate,
    /// Accounts created.
    pub registration: Rate,
}

/// Rates for all addresses together.
#[derive(Clone, Copy, Debug)]
pub struct OverallRates {
    pub first_fetch: Rate,
    pub registration: Rate,
}

const MAX_QUANTITY: u32 = 1_000_000_000;
const MAX_PERIOD_S: u64 = 86_400;

impl Limits {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            accounts: AccountRates {
                read: rate(values, "RATE_READ")?,
                write: rate(values, "RATE_WRITE")?,
                message: rate(values, "RATE_MESSAGE")?,
                key_package: rate(values, "RATE_KEY_PACKAGE")?,
                account: rate(values, "RATE_ACCOUNT")?,
                subscribe: rate(values, "RATE_SUBSCRIBE")?,
            },
            addresses: AddressRates {
                open: rate(values, "RATE_OPEN")?,
                failure: rate(values, "RATE_FAILURE")?,
                failing_issuer: rate(values, "RATE_FAILING_ISSUER")?,
                first_fetch: rate(values, "RATE_FIRST_FETCH")?,
                registration: rate(values, "RATE_REGISTRATION")?,
                young_accounts: rate(values, "RATE_YOUNG_ACCOUNTS")?,
            },
            domains: DomainRates {
                calls: rate(values, "RATE_DOMAIN")?,
                registration: rate(values, "RATE_DOMAIN_REGISTRATION")?,
            },
            all: OverallRates {
                first_fetch: rate(values, "RATE_FIRST_FETCHES")?,
                registration: rate(values, "RATE_REGISTRATIONS")?,
            },
            lookups: LookupRates { of_account: rate(values, "RATE_LOOKUP")?, of_all: rate(values, "RATE_LOOKUPS")? },
            trusted_proxies: trusted_proxies(values)?,
        })
    }
}

pub(super) fn rate(values: &Values, name: &'static str) -> Result<Rate, ConfigError> {
    let text = values.text(name).unwrap_or_default();
    let read = text.split_once('/').and_then(|(quantity, seconds)| {
        let quantity: NonZeroU32 = quantity.trim().parse().ok()?;
        let seconds: u64 = seconds.trim().parse().ok()?;
        let bounded = quantity.get() <= MAX_QUANTITY && (1..=MAX_PERIOD_S).contains(&seconds);
        bounded.then(|| Rate { quantity, period: Duration::from_secs(seconds) })
    });
    read.ok_or_else(|| {
        let why = "not a quantity, a slash and a number of seconds";
        let fix = format!(
            "set {name} to such as 600/60: six hundred within sixty seconds; 1 to {MAX_QUANTITY} within 1 to \
             {MAX_PERIOD_S} seconds"
        );
        values.invalid(name, why, fix)
    })
}

fn trusted_proxies(values: &Values) -> Result<Vec<IpNet>, ConfigError> {
    values
        .list("TRUSTED_PROXIES")
        .map(|part| {
            let range = part.parse().or_else(|_| part.parse().map(|address: std::net::IpAddr| address.into()));
            range.map(|range: IpNet| range.trunc()).map_err(|_| {
                let why = format!("`{part}` is not an address or a range of them");
                let fix = "set it to such as 10.0.0.0/8 or 127.0.0.1, separated by commas";
                values.invalid("TRUSTED_PROXIES", why, fix)
            })
        })
        .collect()
}
