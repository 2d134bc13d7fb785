//! hyper's header map as the view that `rules` reads, and the hygiene of header fields.

use crate::proxy::inbound::Peer;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::net::IpAddr;

/// The view.
pub struct View<'a>(pub &'a HeaderMap);

impl rules::Fields for View<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for value in self.0.get_all(name) {
            visit(value.as_bytes());
        }
    }
}

/// Fields of one connection (RFC 9110 section 7.6.1), whether or not `Connection` names them.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Removes what belongs to one connection, and what its `Connection` names. Must happen before
/// anything is stored: a stored `Connection: close` would close every hit's connection.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Fields that only Spillway itself may set, and those by which a client could make the app
/// believe that it asked for something else than what the cache key says.
const NOT_FROM_OUTSIDE: [&str; 12] = [
    "x-shard",
    "x-shard-epoch",
    "x-shard-range",
    "x-job-id",
    "x-job-attempt",
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-forwarded-prefix",
];

pub fn remove_spoofed(headers: &mut HeaderMap) {
    for name in NOT_FROM_OUTSIDE {
        headers.remove(name);
    }
}

/// Whether the request asks to change protocols (RFC 9110 section 7.8); the protocol's name.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_named = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    if is_named { headers.get(header::UPGRADE).cloned() } else { None }
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: u128,
    bits: u32,
}

impl Cidr {
    /// `10.0.0.0/8`, `::1`, `fd00::/8`.
    ///
    /// # Errors
    /// Names the text that is no block.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an address block: write 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (prefix, max) = if address.is_ipv4() { (96, 32) } else { (0, 128) };
        let bits = bits.unwrap_or(max);
        if bits > max {
            return Err(wrong());
        }
        Ok(Self { address: mapped(address), bits: bits + prefix })
    }

    pub fn contains(self, address: IpAddr) -> bool {
        let mask = if self.bits == 0 { 0 } else { u128::MAX << (128 - self.bits) };
        (mapped(address) & mask) == (self.address & mask)
    }
}

/// IPv4 as IPv4-mapped IPv6, so that a dual-stack listener's peers compare.
fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Rebuilds `X-Forwarded-*`: a trusted peer's are continued, anyone else's replaced.
pub fn set_forwarded(headers: &mut HeaderMap, peer: Peer, host: &str) {
    let trusted = peer.is_trusted;
    headers.remove("forwarded");
    let own = peer.address.to_canonical().to_string();
    let before = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let chain = match before.filter(|_| trusted) {
        Some(before) => format!("{before}, {own}"),
        None => own,
    };
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("x-forwarded-for", &chain);
    if !trusted {
        set("x-forwarded-host", host);
        set("x-forwarded-proto", "http");
        headers.remove("x-forwarded-port");
        headers.remove("x-real-ip");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_names_is_removed_with_it() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("close, X-Secret"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn a_block_contains_its_addresses_in_either_notation() {
        let block = Cidr::parse("10.1.0.0/16").expect("a block");
        assert!(block.contains("10.1.2.3".parse().expect("an address")));
        assert!(block.contains("::ffff:10.1.2.3".parse().expect("an address")));
        assert!(!block.contains("10.2.0.1".parse().expect("an address")));
        assert!(Cidr::parse("10.0.0.0/33").is_err());
        assert!(
            Cidr::parse("0.0.0.0/0")
                .expect("a block")
                .contains("1.2.3.4".parse().expect("an address"))
        );
    }

    #[test]
    fn an_untrusted_peer_can_not_say_who_it_forwards_for() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("1.1.1.1"));
        let peer = |text: &str, is_trusted| Peer {
            address: text.parse().expect("an address"),
            is_trusted,
        };
        set_forwarded(&mut headers, peer("9.9.9.9", false), "h");
        assert_eq!(headers["x-forwarded-for"], "9.9.9.9");
        set_forwarded(&mut headers, peer("10.0.0.1", true), "h");
        assert_eq!(headers["x-forwarded-for"], "9.9.9.9, 10.0.0.1");
    }
}
