//! Where a request comes from: the real peer, or what a configured proxy says of it (API-08).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

/// The client's address; every request carries it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddress(pub IpAddr);

/// The coordinator's own address on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress(pub IpAddr);

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Headers by which a client could claim to be elsewhere; no handler ever sees them.
const CLAIMS: [HeaderName; 6] = [
    FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
    header::FORWARDED,
];

impl PeerAddress {
    /// The client behind `peer`; the claiming headers are removed whoever sent them.
    ///
    /// Only the part of `X-Forwarded-For` that trusted proxies wrote counts: the last address not of a trusted proxy.
    pub fn resolve(peer: IpAddr, headers: &mut HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: &IpAddr| trusted.iter().any(|range| range.contains(address));
        let client = if is_trusted(&peer) {
            headers
                .get_all(FORWARDED_FOR)
                .iter()
                .flat_map(|value| value.to_str().unwrap_or_default().split(','))
                .rev()
                .map_while(|hop| hop.trim().parse::<IpAddr>().ok())
                .map(|hop| hop.to_canonical())
                .find(|hop| !is_trusted(hop))
                .unwrap_or(peer)
        } else {
            peer
        };
        for claim in CLAIMS {
            headers.remove(claim);
        }
        Self(client)
    }
}

/// One customer's network: an IPv6 client has 2^64 addresses at hand.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn resolve(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        headers.insert("x-real-ip", HeaderValue::from_static("6.6.6.6"));
        let trusted: Vec<IpNet> = trusted.iter().map(|range| range.parse().unwrap()).collect();
        let client = PeerAddress::resolve(peer.parse().unwrap(), &mut headers, &trusted);
        assert!(headers.is_empty(), "the claims are gone: {headers:?}");
        client.to_string()
    }

    #[test]
    fn api_08_forwarded_headers_count_only_from_a_configured_proxy() {
        assert_eq!(resolve("10.0.0.9", &["1.2.3.4"], &[]), "10.0.0.9");
        assert_eq!(resolve("10.0.0.9", &["1.2.3.4"], &["10.9.0.0/16"]), "10.0.0.9");
        assert_eq!(resolve("10.0.0.9", &["1.2.3.4"], &["10.0.0.0/24"]), "1.2.3.4");
        assert_eq!(resolve("::ffff:10.0.0.9", &["1.2.3.4"], &["10.0.0.0/24"]), "1.2.3.4");
    }

    #[test]
    fn api_03_an_ipv6_network_is_one_client() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.9"), "10.0.0.9");
    }

    #[test]
    fn api_08_a_client_cannot_prepend_an_address_through_the_proxy() {
        assert_eq!(resolve("10.0.0.9", &["9.9.9.9, 1.2.3.4"], &["10.0.0.0/24"]), "1.2.3.4");
        assert_eq!(resolve("10.0.0.9", &["9.9.9.9", "1.2.3.4, 10.0.0.7"], &["10.0.0.0/24"]), "1.2.3.4");
        assert_eq!(resolve("10.0.0.9", &["junk, 1.2.3.4"], &["10.0.0.0/24"]), "1.2.3.4");
    }
}
