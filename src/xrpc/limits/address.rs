//! The address that a request comes from.
//!
//! Invariant: the server believes only trusted proxies, and only about the client that connected to the proxy.
//! `X-Forwarded-For` is read from its end; the first hop that is no trusted proxy is the client, whatever precedes it.
//! The header `Forwarded` (RFC 7239) is not read.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// An address as limits count it: an IPv6 address stands for its /64, which is what one household or host has.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address(IpAddr);

pub(super) const FORWARDED_FOR: &str = "x-forwarded-for";
/// Bits of an IPv6 address that name the network.
const NETWORK_BITS: u32 = 64;

impl Address {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - NETWORK_BITS))).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }

    /// The address of the client of a request that arrived from `peer`.
    pub fn of_client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(&address));
        let mut client = peer.to_canonical();
        let hops = headers.get_all(FORWARDED_FOR).iter().rev();
        // A header that is not text ends the way back like a hop that is not an address.
        let mut hops = hops.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        while is_trusted(client) {
            match hops.next().and_then(hop) {
                Some(address) => client = address,
                None => break,
            }
        }
        Self::of(client)
    }
}

/// The logs know it by a hash alone.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address(…)")
    }
}

/// For hashing; nothing else may show it.
impl Address {
    pub(super) fn text(self) -> String {
        self.0.to_string()
    }
}

/// One hop: an address, which some proxies write with a port.
fn hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::{Address, FORWARDED_FOR, hop};

    fn client(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let trusted: Vec<_> = trusted.iter().map(|range| range.parse().unwrap()).collect();
        Address::of_client(peer.parse().unwrap(), &headers, &trusted).text()
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_trusted_proxy() {
        let (one, two) = (&["10.0.0.0/8"][..], &["10.0.0.0/8", "203.0.113.7/32"][..]);
        for (peer, lines, trusted, expected) in [
            // No proxy is trusted: a stranger wrote the header.
            ("10.0.0.1", &["198.51.100.9"][..], &[][..], "10.0.0.1"),
            ("198.51.100.1", &["198.51.100.9"], one, "198.51.100.1"),
            ("10.0.0.1", &[], one, "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.9"], one, "198.51.100.9"),
            // Hops before the client come from the client itself.
            ("10.0.0.1", &["127.0.0.1, 10.0.0.3, 198.51.100.9"], one, "198.51.100.9"),
            ("10.0.0.1", &["127.0.0.1", "198.51.100.9"], one, "198.51.100.9"),
            ("10.0.0.1", &["198.51.100.9, 203.0.113.7, 10.0.0.3"], one, "203.0.113.7"),
            ("10.0.0.1", &["198.51.100.9, 203.0.113.7, 10.0.0.3"], two, "198.51.100.9"),
            ("10.0.0.1", &["198.51.100.9", "203.0.113.7", "10.0.0.3"], two, "198.51.100.9"),
            // All hops are proxies: takes the farthest.
            ("10.0.0.1", &["10.0.0.9,10.0.0.3"], one, "10.0.0.9"),
            // With a port, as some proxies write it.
            ("10.0.0.1", &["198.51.100.9:4711"], one, "198.51.100.9"),
            ("10.0.0.1", &["[2001:db8:1:2::9]:4711"], one, "2001:db8:1:2::"),
            ("10.0.0.1", &["[2001:db8:1:2::9]"], one, "2001:db8:1:2::"),
            // A hop that is no address ends the search at the last known hop.
            ("10.0.0.1", &["198.51.100.9, unknown"], one, "10.0.0.1"),
            ("10.0.0.1", &["unknown, 10.0.0.3"], one, "10.0.0.3"),
            ("10.0.0.1", &[""], one, "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.9,"], one, "10.0.0.1"),
            // Bytes that are no text.
            ("10.0.0.1", &["198.51.100.9", "é"], one, "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.999"], one, "10.0.0.1"),
        ] {
            assert_eq!(client(peer, lines, trusted), expected, "{peer} {lines:?} {trusted:?}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_one_within_and_an_ipv6_network_is_one_address() {
        assert_eq!(client("::ffff:198.51.100.9", &[], &[]), "198.51.100.9");
        assert_eq!(client("::ffff:10.0.0.1", &["::ffff:198.51.100.9"], &["10.0.0.0/8"]), "198.51.100.9");
        assert_eq!(client("2001:db8:1:2:3:4:5:6", &[], &[]), client("2001:db8:1:2::1", &[], &[]));
        assert_ne!(client("2001:db8:1:2::1", &[], &[]), client("2001:db8:1:3::1", &[], &[]));
    }

    proptest! {
        #[test]
        fn no_header_whatever_stands_in_it_is_more_than_ignored(bytes in proptest::collection::vec(32_u8..=255, 0..200)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.append(FORWARDED_FOR, value);
            let everybody = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            let _ = Address::of_client("10.0.0.1".parse().unwrap(), &headers, &everybody);
            let unread = Address::of_client("10.0.0.1".parse().unwrap(), &headers, &[]);
            prop_assert_eq!(unread.text(), "10.0.0.1");
        }

        #[test]
        fn every_address_is_read_back(v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr) {
            prop_assert_eq!(hop(&v4.to_string()), Some(v4.into()));
            prop_assert_eq!(hop(&format!(" {v6} ")), Some(std::net::IpAddr::from(v6).to_canonical()));
        }
    }
}
