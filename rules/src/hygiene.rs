//! Decides, for both halves, which fields of a request are trusted and forwarded to the
//! application.

use crate::forwarded;
use crate::head::{Fields, FieldsMut, Rebuilt, has};
use crate::trust::{Removed, Trust, is_of_proxies, why_removed};

/// Hop-by-hop fields (RFC 9110 section 7.6.1), whether or not `Connection` names them.
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

/// The client of a request, as the application is told.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The address for `X-Forwarded-For`.
    pub address: &'a str,
    /// The host that it asked for; empty when an old client sent none.
    pub host: &'a str,
    /// The scheme of the request, or the one that a trusted proxy states.
    pub scheme: &'static str,
    /// How far the peer that sent the request is trusted.
    pub trust: Trust,
}

/// Cleans a request before any rule looks at it, and tells whether it asks to upgrade to WebSocket.
/// A field that was part of a cache key and removed later would give all clients the answer of a
/// request that did not have it. `removed` is called for each kind of field that is removed because
/// the peer is not trusted with it.
pub fn on_arrival(
    method: &str,
    fields: &mut dyn FieldsMut,
    trust: Trust,
    removed: &dyn Fn(Removed),
) -> bool {
    let named = named_by_connection(fields);
    let is_upgrade = method == "GET" && asks_for_websocket(fields);
    fields.remove_where(&|name| {
        let why = why_removed(name, trust);
        if let Some(why) = why {
            removed(why);
        }
        why.is_some()
            || name == "http2-settings"
            || (name == "upgrade" && !is_upgrade)
            || named.iter().any(|own| own == name)
    });
    is_upgrade
}

/// Whether the edge drops a field (lower-case name) of a client's request. It trusts no client with
/// fields that only a proxy may set, and sets its own anew. `named` is the result of
/// [`named_by_connection`] for the request. A fetch of the Worker has no trailers.
pub fn is_kept_back_by_edge(name: &str, named: &[String]) -> bool {
    is_of_connection(name.as_bytes(), named)
        || matches!(name, "http2-settings" | "trailer")
        || is_of_proxies(name)
        || why_removed(name, Trust::Nobody).is_some()
}

/// Prepares a request for forwarding. Forwarding fields of a trusted peer are continued; those of
/// any other peer were removed on arrival, and are set anew.
pub fn before_sending(fields: &mut dyn FieldsMut, sender: &Sender<'_>) {
    fields.remove_where(&is_hop_by_hop);
    let chain = continued(fields, sender.address);
    fields.set(Rebuilt::For, &chain);
    let is_believed = sender.trust.is_some();
    for (field, value) in [(Rebuilt::Host, sender.host), (Rebuilt::Proto, sender.scheme)] {
        let is_said = is_believed && has(fields, field.name());
        if !value.is_empty() && !is_said {
            fields.set(field, value);
        }
    }
    if is_believed && let Some(chain) = forwarded::continued(fields, sender.address) {
        fields.set(Rebuilt::Forwarded, &chain);
    }
}

/// A view of the fields as [`before_sending`] would leave them, without the work, for decisions on
/// a request that may never be sent.
pub struct AsSent<'a> {
    /// The fields as they arrived.
    pub fields: &'a dyn Fields,
    /// The client that [`before_sending`] would name.
    pub sender: Sender<'a>,
}

impl Fields for AsSent<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let own = match Rebuilt::by_name(name) {
            Some(Rebuilt::For) => {
                return visit(continued(self.fields, self.sender.address).as_bytes());
            }
            Some(Rebuilt::Forwarded) => {
                let chain = forwarded::continued(self.fields, self.sender.address);
                return chain.into_iter().for_each(|chain| visit(chain.as_bytes()));
            }
            Some(Rebuilt::Host) => self.sender.host,
            Some(Rebuilt::Proto) => self.sender.scheme,
            None => "",
        };
        let mut is_said = false;
        self.fields.each(name, &mut |value| {
            is_said = true;
            // Most requests have no such field, and are done here.
            if !is_hop_by_hop(name) {
                visit(value);
            }
        });
        if !is_said && !own.is_empty() {
            visit(own.as_bytes());
        }
    }
}

/// Removes hop-by-hop fields, and those that `Connection` names. An answer must be cleaned before
/// it is stored: a stored `Connection: close` would close the connection of every hit.
pub fn remove_hop_by_hop(fields: &mut dyn FieldsMut) {
    let named = named_by_connection(fields);
    fields.remove_where(&|name| is_of_connection(name.as_bytes(), &named));
}

/// Whether a field belongs to one connection: a hop-by-hop field, or one of `named`, the result of
/// [`named_by_connection`]. The name may be in any case.
pub fn is_of_connection(name: &[u8], named: &[String]) -> bool {
    let is = |own: &str| own.as_bytes().eq_ignore_ascii_case(name);
    (is_as_long_as_one(name) && HOP_BY_HOP.into_iter().any(is)) || named.iter().any(|own| is(own))
}

/// Whether a hop-by-hop field has a name of this length, as few other fields do.
fn is_as_long_as_one(name: &[u8]) -> bool {
    const LENGTHS: u64 = {
        let (mut lengths, mut rest) = (0, HOP_BY_HOP.as_slice());
        while let [first, others @ ..] = rest {
            lengths |= 1 << first.len();
            rest = others;
        }
        lengths
    };
    name.len() < 64 && LENGTHS & (1 << name.len()) != 0
}

/// Whether a field (lower-case name) is hop-by-hop, whatever `Connection` says (RFC 9110 section
/// 7.6.1).
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// The fields that `Connection` names besides the hop-by-hop ones. Fields that frame the message
/// stay until it is forwarded.
pub fn named_by_connection(fields: &dyn Fields) -> Vec<String> {
    const FRAMING: [&str; 1] = ["content-length"];
    let mut named = Vec::new();
    each_option(fields, &mut |option| {
        let is_own = |own: &&str| option.eq_ignore_ascii_case(own);
        if !HOP_BY_HOP.iter().chain(&FRAMING).any(is_own) {
            named.push(option.to_ascii_lowercase());
        }
    });
    named
}

/// Whether `Connection` and `Upgrade` ask for WebSocket (RFC 9110 section 7.8). No other protocol
/// is supported: a forwarded `Upgrade: h2c` would open a tunnel past every rule.
fn asks_for_websocket(fields: &dyn Fields) -> bool {
    if !has(fields, "upgrade") {
        return false;
    }
    let (mut is_named, mut lines, mut is_websocket) = (false, 0, false);
    each_option(fields, &mut |option| is_named |= option.eq_ignore_ascii_case("upgrade"));
    fields.each("upgrade", &mut |protocol| {
        lines += 1;
        is_websocket = protocol.eq_ignore_ascii_case(b"websocket");
    });
    is_named && is_websocket && lines == 1
}

fn each_option(fields: &dyn Fields, visit: &mut dyn FnMut(&str)) {
    fields.each("connection", &mut |line| {
        for option in line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if let Some(option) = str::from_utf8(option).ok().filter(|option| !option.is_empty()) {
                visit(option);
            }
        }
    });
}

/// Uses all lines, because a proxy may append its own line below a client's.
fn continued(fields: &dyn Fields, address: &str) -> String {
    let mut chain = String::new();
    fields.each("x-forwarded-for", &mut |line| {
        let line = str::from_utf8(line).unwrap_or_default().trim();
        if !line.is_empty() {
            chain.push_str(line);
            chain.push_str(", ");
        }
    });
    chain.push_str(address);
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(fields: &[(String, String)]) -> Vec<&str> {
        fields.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn fields(lines: &[(&str, &str)]) -> Vec<(String, String)> {
        lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_connection_names_is_removed_with_it() {
        let lines = [("connection", "close, X-Secret"), ("x-secret", "1"), ("te", "trailers")];
        let mut fields = fields(&[&lines[..], &[("accept", "*/*")]].concat());
        assert!(!on_arrival("GET", &mut fields, Trust::Nobody, &|_| {}));
        assert_eq!(names(&fields), ["connection", "te", "accept"]);
        remove_hop_by_hop(&mut fields);
        assert_eq!(names(&fields), ["accept"]);
    }

    #[test]
    fn the_edge_takes_from_no_client_what_only_a_proxy_may_say() {
        let named = ["x-hop".to_owned()];
        for kept_back in [
            "connection",
            "x-hop",
            "trailer",
            "http2-settings",
            "x-forwarded-for",
            "x-forwarded-port",
            "x-forwarded-anything",
            "x-real-ip",
            "forwarded",
            "client-cert",
            "x-request-id",
            "x-job-id",
            "x-original-url",
            "x_forwarded_for",
        ] {
            assert!(is_kept_back_by_edge(kept_back, &named), "{kept_back}");
        }
        for passes in ["accept", "cookie", "authorization", "traceparent", "x-anything"] {
            assert!(!is_kept_back_by_edge(passes, &named), "{passes}");
        }
    }

    #[test]
    fn what_frames_a_message_can_not_be_named_away() {
        let lines = [("connection", "content-length, transfer-encoding"), ("content-length", "3")];
        let mut fields = fields(&lines);
        on_arrival("POST", &mut fields, Trust::Nobody, &|_| {});
        assert_eq!(names(&fields), ["connection", "content-length"]);
    }

    #[test]
    fn only_a_whole_offer_of_websocket_is_taken() {
        let offer = |method: &str, connection: &str, protocol: &str| {
            let lines =
                [("connection", connection), ("upgrade", protocol), ("http2-settings", "AAM")];
            let mut fields = fields(&lines);
            let is_taken = on_arrival(method, &mut fields, Trust::Nobody, &|_| {});
            let expected = if is_taken { &["connection", "upgrade"][..] } else { &["connection"] };
            assert_eq!(names(&fields), expected);
            is_taken
        };
        assert!(offer("GET", "keep-alive, Upgrade", "WebSocket"));
        assert!(!offer("POST", "upgrade", "websocket"));
        assert!(!offer("GET", "close", "websocket"));
        assert!(!offer("GET", "upgrade, http2-settings", "h2c"));
        assert!(!offer("GET", "upgrade", "websocket, h2c"));
    }

    const NAMED: Trust = Trust::Named { by_forwarded: false };

    fn arrived(lines: &[(&str, &str)], trust: Trust) -> Vec<(String, String)> {
        let mut fields = fields(lines);
        on_arrival("GET", &mut fields, trust, &|_| {});
        fields
    }

    const OF_AN_INGRESS: [(&str, &str); 6] = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-user", "alice"),
        ("client-cert", ":AA==:"),
        ("forwarded", "for=1.1.1.1"),
    ];

    #[test]
    fn a_peer_is_believed_in_what_its_trust_covers_and_the_rest_is_taken_off() {
        let left = |trust| arrived(&OF_AN_INGRESS, trust).len();
        assert_eq!(left(Trust::Nobody), 0);
        assert_eq!(arrived(&OF_AN_INGRESS, Trust::Network), fields(&OF_AN_INGRESS[..3]));
        assert_eq!(arrived(&OF_AN_INGRESS, NAMED), fields(&OF_AN_INGRESS[..5]));
        assert_eq!(left(Trust::Named { by_forwarded: true }), 6);
    }

    #[test]
    fn the_app_is_told_the_peer_itself_where_nobody_else_is_believed() {
        let sender =
            Sender { address: "9.9.9.9", host: "h", scheme: "https", trust: Trust::Nobody };
        let mut fields = arrived(&OF_AN_INGRESS, sender.trust);
        before_sending(&mut fields, &sender);
        let expected = [
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-host", "h"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(fields, self::fields(&expected));
    }

    #[test]
    fn what_a_believed_peer_says_is_continued_and_what_it_does_not_say_is_added() {
        let sender =
            Sender { address: "10.0.0.1", host: "h", scheme: "https", trust: Trust::Network };
        let mut fields = arrived(&OF_AN_INGRESS, sender.trust);
        before_sending(&mut fields, &sender);
        let expected = [
            ("x-real-ip", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "1.1.1.1, 10.0.0.1"),
            ("x-forwarded-host", "h"),
        ];
        assert_eq!(fields, self::fields(&expected));
    }

    #[test]
    fn each_removal_is_told_with_its_reason() {
        let lines = [("x_a", "1"), ("x-shard", "a"), ("x-original-url", "/"), ("client-cert", "")];
        let told = std::cell::RefCell::new(Vec::new());
        let mut fields = fields(&lines);
        on_arrival("GET", &mut fields, Trust::Nobody, &|why| told.borrow_mut().push(why));
        // The last one is decided per route, which is not known on arrival.
        assert_eq!(told.into_inner(), Removed::ALL[..4]);
        assert!(fields.is_empty());
    }
}
