//! hyper's header map as the view that `rules` reads, and the hygiene of header fields.

use crate::proxy::inbound::Peer;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::net::IpAddr;

/// The view.
pub struct View<'a>(pub &'a HeaderMap);

impl rules::Fields for View<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        // A request has a dozen fields. To go through them costs less than to look one up by text,
        // which is checked, put into a form of its own and hashed first.
        for (own, value) in self.0 {
            if own.as_str() == name {
                visit(value.as_bytes());
            }
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
    remove_named_by_connection(headers);
    remove_where(headers, |name| HOP_BY_HOP.contains(&name));
}

/// In one pass: mostly there is nothing to remove.
fn remove_where(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    let unwanted = headers.keys().filter(|name| is_unwanted(name.as_str()));
    let unwanted: Vec<HeaderName> = unwanted.cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// Removes what `Connection` names. For requests this must happen before any rule looks at them:
/// a field that was part of a cache key and then vanished would give everybody the answer of a
/// request that did not have it. What frames the message stays until it is sent on.
pub fn remove_named_by_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .filter(|name| !HOP_BY_HOP.contains(&name.as_str()))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Fields that only Spillway itself may set, and those by which a client could make the app
/// believe that it asked for something else than what the cache key says.
const NOT_FROM_OUTSIDE: [&str; 13] = [
    "x-shard",
    "x-shard-epoch",
    "x-shard-range",
    "x-job-id",
    "x-job-attempt",
    "x-job-progress",
    "x-job-token",
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Of X-Forwarded-* only those that we rebuild are known.
const REBUILT: [&str; 4] =
    ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"];

pub fn remove_spoofed(headers: &mut HeaderMap) {
    remove_where(headers, |name| {
        // CGI and WSGI read `X_Job_Id` as `X-Job-Id`.
        name.contains('_')
            || (name.starts_with("x-")
                && (NOT_FROM_OUTSIDE.contains(&name)
                    || (name.starts_with("x-forwarded-") && !REBUILT.contains(&name))))
    });
}

/// The protocol a GET asks to change to (RFC 9110 section 7.8). Only WebSocket: an `Upgrade: h2c`
/// that was passed on would open a tunnel past every rule, so it is removed, as the RFC allows.
pub fn take_upgrade(method: &http::Method, headers: &mut HeaderMap) -> Option<HeaderValue> {
    let is_named = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    let protocol = headers.get(header::UPGRADE).cloned();
    let protocol = protocol.filter(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if is_named && method == http::Method::GET && protocol.is_some() {
        return protocol;
    }
    remove_where(headers, |name| matches!(name, "upgrade" | "http2-settings"));
    None
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

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Rebuilds `X-Forwarded-*`: a trusted peer's are continued, anyone else's replaced.
pub fn set_forwarded(headers: &mut HeaderMap, peer: Peer, host: &str) {
    headers.remove(header::FORWARDED);
    let mut chain = String::new();
    if peer.is_trusted {
        // All lines: a proxy may append its own below a client's.
        for line in headers.get_all(X_FORWARDED_FOR) {
            chain.extend(line.to_str().ok().into_iter().flat_map(|line| [line, ", "]));
        }
    } else {
        remove_where(headers, |name| matches!(name, "x-forwarded-port" | "x-real-ip"));
        headers.insert(
            X_FORWARDED_PROTO,
            HeaderValue::from_static(if peer.is_tls { "https" } else { "http" }),
        );
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.insert(X_FORWARDED_HOST, host);
        }
    }
    chain.push_str(&peer.address.to_canonical().to_string());
    if let Ok(chain) = HeaderValue::try_from(chain) {
        headers.insert(X_FORWARDED_FOR, chain);
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
            is_tls: false,
        };
        set_forwarded(&mut headers, peer("9.9.9.9", false), "h");
        assert_eq!(headers["x-forwarded-for"], "9.9.9.9");
        set_forwarded(&mut headers, peer("10.0.0.1", true), "h");
        assert_eq!(headers["x-forwarded-for"], "9.9.9.9, 10.0.0.1");
    }
}
