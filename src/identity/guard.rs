//! Which addresses a stranger may make us call: public unicast ones, by name, over https.
//!
//! The name is judged before sending ([`Guard::check_url`]) and every address after DNS, at connect time
//! ([`Guard::allows`]): a name that answers differently the second time gains nothing. Every way round that was tried
//! stands in the table of `http/bypasses.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// The ranges that `OUTBOUND_ALLOW` opens, and those that development opens.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow: Vec<IpNet>,
    development: bool,
}

/// `OUTBOUND_ALLOW` names what stays closed in production.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("OUTBOUND_ALLOW must not open {0}: loopback and link-local addresses stay closed in production")]
pub struct NeverAllowed(pub IpNet);

/// Why a URL is not called. Safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("only https is called")]
    NotHttps,
    #[error("IP addresses are not called, only names")]
    IpLiteral,
    #[error("only port 443 is called")]
    Port,
    #[error("a URL with credentials is not called")]
    Credentials,
    #[error("this host is not called")]
    Host,
}

impl Guard {
    pub fn new(allow: Vec<IpNet>, development: bool) -> Result<Self, NeverAllowed> {
        if !development && let Some(net) = allow.iter().find(|net| !opens_nothing_local(net)) {
            return Err(NeverAllowed(*net));
        }
        Ok(Self { allow, development })
    }

    /// Under the development flag `localhost` may be called, over http and on any port.
    pub const fn development(&self) -> bool {
        self.development
    }

    pub fn check_url(&self, url: &Url) -> Result<(), BadUrl> {
        let host = match url.host() {
            Some(Host::Domain(host)) => host,
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => return Err(BadUrl::IpLiteral),
            None => return Err(BadUrl::Host),
        };
        if host.ends_with('.') {
            // A final dot makes a second name of one host.
            return Err(BadUrl::Host);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadUrl::Credentials);
        }
        if is_localhost(host) {
            let open = self.development && matches!(url.scheme(), "http" | "https");
            return if open { Ok(()) } else { Err(BadUrl::Host) };
        }
        if url.scheme() != "https" {
            return Err(BadUrl::NotHttps);
        }
        if url.port_or_known_default() != Some(443) {
            return Err(BadUrl::Port);
        }
        Ok(())
    }

    /// Whether this address may be connected to.
    pub fn allows(&self, address: IpAddr) -> bool {
        if self.development && address.is_loopback() {
            return true;
        }
        if never(unwrapped(address)) {
            return false;
        }
        let called = behind_nat64(address);
        is_public(called) || self.allow.iter().any(|net| net.contains(&called))
    }
}

/// The one name that never goes to DNS (RFC 6761 section 6.3).
pub fn is_localhost(host: &str) -> bool {
    host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

const LINK_LOCAL_V4: Ipv4Net = net4(Ipv4Addr::new(169, 254, 0, 0), 16);
const LOOPBACK_V4: Ipv4Net = net4(Ipv4Addr::new(127, 0, 0, 0), 8);
const LINK_LOCAL_V6: Ipv6Net = net6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
const LOOPBACK_V6: Ipv6Net = net6(Ipv6Addr::LOCALHOST, 128);

/// IANA special-purpose registry (RFC 6890): everything that is not global unicast, and documentation.
const CLOSED_V4: [Ipv4Net; 15] = [
    net4(Ipv4Addr::UNSPECIFIED, 8),
    net4(Ipv4Addr::new(10, 0, 0, 0), 8),
    net4(Ipv4Addr::new(100, 64, 0, 0), 10),
    LOOPBACK_V4,
    LINK_LOCAL_V4,
    net4(Ipv4Addr::new(172, 16, 0, 0), 12),
    net4(Ipv4Addr::new(192, 0, 0, 0), 24),
    net4(Ipv4Addr::new(192, 0, 2, 0), 24),
    net4(Ipv4Addr::new(192, 88, 99, 0), 24),
    net4(Ipv4Addr::new(192, 168, 0, 0), 16),
    net4(Ipv4Addr::new(198, 18, 0, 0), 15),
    net4(Ipv4Addr::new(198, 51, 100, 0), 24),
    net4(Ipv4Addr::new(203, 0, 113, 0), 24),
    net4(Ipv4Addr::new(224, 0, 0, 0), 4),
    net4(Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The only part of IPv6 that is global unicast today. Mapped, unique-local, site-local, link-local, discard and
/// multicast addresses are all outside of it; an address of NAT64 counts as the IPv4 address within.
const GLOBAL_V6: Ipv6Net = net6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// The well-known prefix of NAT64 and DNS64: the last four bytes are an IPv4 address.
const NAT64: Ipv6Net = net6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Within it: protocol assignments with Teredo, documentation twice, and 6to4.
const CLOSED_V6: [Ipv6Net; 4] = [
    net6(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    net6(Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 0), 32),
    net6(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    net6(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const fn net4(address: Ipv4Addr, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address, length)
}

const fn net6(address: Ipv6Addr, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(address, length)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !CLOSED_V4.iter().any(|net| net.contains(&v4)),
        IpAddr::V6(v6) => GLOBAL_V6.contains(&v6) && !CLOSED_V6.iter().any(|net| net.contains(&v6)),
    }
}

/// Closed even to `OUTBOUND_ALLOW`.
fn never(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => LINK_LOCAL_V4.contains(&v4) || v4.is_broadcast(),
        IpAddr::V6(v6) => LINK_LOCAL_V6.contains(&v6),
    };
    link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast()
}

/// The IPv4 address that a NAT64 gateway calls for an address of the well-known prefix (RFC 6052), or the address
/// itself. An address of the local-use prefix (RFC 8215) leads where a network's operator decides, so the guard refuses
/// it.
fn behind_nat64(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if NAT64.contains(&v6) => unwrapped(address),
        _ => address,
    }
}

/// The IPv4 address within a mapped, compatible, NAT64 (RFC 6052, RFC 8215) or 6to4 address, or the address itself.
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let octets = v6.octets();
    let last = IpAddr::from([octets[12], octets[13], octets[14], octets[15]]);
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0 | 1, ..] => last,
        [0, 0, 0, 0, 0, 0, high, _] if high >> 8 != 0 => last,
        [0x2002, ..] => IpAddr::from([octets[2], octets[3], octets[4], octets[5]]),
        _ => address,
    }
}

/// Neither holds loopback or link-local addresses nor lies within them.
fn opens_nothing_local(net: &IpNet) -> bool {
    [LOOPBACK_V4.into(), LINK_LOCAL_V4.into(), LOOPBACK_V6.into(), LINK_LOCAL_V6.into()]
        .iter()
        .all(|closed: &IpNet| !closed.contains(net) && !net.contains(closed))
}

#[cfg(test)]
mod tests {
    use super::Guard;

    fn production() -> Guard {
        Guard::new(Vec::new(), false).unwrap()
    }

    #[test]
    fn public_addresses_and_names_over_https_are_called() {
        for text in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "223.255.255.254",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::808:808",
            "64:ff9b::8.8.4.4",
        ] {
            assert!(production().allows(text.parse().unwrap()), "{text}");
        }
        for text in ["https://a.example/", "https://a.example:443/x?y"] {
            assert_eq!(production().check_url(&text.parse().unwrap()), Ok(()), "{text}");
        }
        assert_eq!(production().check_url(&"https://a.example./".parse().unwrap()), Err(super::BadUrl::Host));
    }

    #[test]
    fn a_nat64_address_counts_as_the_ipv4_address_within() {
        let closed = super::CLOSED_V4.iter().flat_map(|net| [net.network(), net.broadcast()]);
        for v4 in closed {
            for form in [format!("64:ff9b::{v4}"), format!("64:ff9b:1::{v4}")] {
                assert!(!production().allows(form.parse().unwrap()), "{form}");
            }
        }
        // Outside of the last 32 bits, and in the local-use prefix, the guard reads no IPv4 address.
        for text in ["64:ff9b:0:1::808:808", "64:ff9b:1::808:808", "64:ff9b:1:808:8:800::"] {
            assert!(!production().allows(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_development_flag_opens_localhost_and_nothing_else() {
        let guard = Guard::new(Vec::new(), true).unwrap();
        for text in ["http://localhost:8080/", "https://localhost/"] {
            assert_eq!(guard.check_url(&text.parse().unwrap()), Ok(()), "{text}");
        }
        for text in ["http://127.0.0.1:8080/", "http://a.example/", "https://a.example:8080/", "ftp://localhost/"] {
            assert!(guard.check_url(&text.parse().unwrap()).is_err(), "{text}");
        }
        assert!(guard.allows("127.0.0.1".parse().unwrap()) && guard.allows("::1".parse().unwrap()));
        for text in ["10.0.0.1", "169.254.169.254", "0.0.0.0", "fe80::1"] {
            assert!(!guard.allows(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn outbound_allow_opens_private_ranges_but_never_loopback_or_link_local() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let guard = Guard::new(nets(&["10.1.0.0/16", "fd00::/8"]), false).unwrap();
        for text in ["10.1.2.3", "fd00::1", "64:ff9b::a01:203"] {
            assert!(guard.allows(text.parse().unwrap()), "{text}");
        }
        for text in ["10.2.0.1", "64:ff9b::a02:1", "127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "fe80::1"] {
            assert!(!guard.allows(text.parse().unwrap()), "{text}");
        }
        // The whole prefix would open every private IPv4 address.
        let translated = Guard::new(nets(&["64:ff9b::/96"]), false).unwrap();
        assert!(!translated.allows("64:ff9b::10.1.2.3".parse().unwrap()));
        for text in ["0.0.0.0/0", "127.0.0.0/8", "127.0.0.1/32", "169.254.0.0/16", "::/0", "::1/128", "fe80::/64"] {
            assert!(Guard::new(nets(&[text]), false).is_err(), "{text}");
            assert!(Guard::new(nets(&[text]), true).is_ok(), "{text}");
        }
    }
}
