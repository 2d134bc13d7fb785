//! Which fields of a request are believed and go on to the app, in both halves.

use crate::head::{Fields, has};

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

/// Only Spillway itself may say these to the app.
const OURS: [&str; 3] = ["x-shard", "x-job-", "x-spillway-"];

/// By these a client could make the app believe that it was asked for something else than what the
/// rules and the cache's key were told.
const OVERRIDES: [&str; 6] = [
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Of `X-Forwarded-*` only these are known.
const KNOWN: [&str; 4] =
    ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"];

/// Fields that can be changed. Names are in lower case.
pub trait FieldsMut: Fields {
    fn remove_where(&mut self, is_unwanted: &dyn Fn(&str) -> bool);
    fn set(&mut self, field: Rebuilt, value: &str);
}

/// What the app is told of who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuilt {
    For,
    Host,
    Proto,
}

impl Rebuilt {
    pub const fn name(self) -> &'static str {
        match self {
            Self::For => "x-forwarded-for",
            Self::Host => "x-forwarded-host",
            Self::Proto => "x-forwarded-proto",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("x-forwarded-")?;
        match rest {
            "for" => Some(Self::For),
            "host" => Some(Self::Host),
            "proto" => Some(Self::Proto),
            _ => None,
        }
    }
}

/// Who sent a request, for the app.
#[derive(Clone, Copy)]
pub struct Sender<'a> {
    /// As `X-Forwarded-For` has it.
    pub address: &'a str,
    /// The host it asked.
    pub host: &'a str,
    pub is_tls: bool,
    /// A proxy of ours: what it says of those before it is believed.
    pub is_trusted: bool,
}

/// What must happen before any rule looks at a request; whether it asks to change to WebSocket. A
/// field that was part of a cache key and then vanished would give everybody the answer of a request
/// that did not have it.
pub fn on_arrival(method: &str, fields: &mut dyn FieldsMut) -> bool {
    let named = named_by_connection(fields);
    let is_upgrade = method == "GET" && asks_for_websocket(fields);
    fields.remove_where(&|name| {
        is_spoofed(name)
            || name == "http2-settings"
            || (name == "upgrade" && !is_upgrade)
            || named.iter().any(|own| own == name)
    });
    is_upgrade
}

/// What must happen before a request is sent on: `X-Forwarded-*` of a trusted peer are continued,
/// anyone else's replaced.
pub fn before_sending(fields: &mut dyn FieldsMut, sender: &Sender<'_>) {
    fields.remove_where(&|name| is_removed(name, sender.is_trusted));
    if sender.is_trusted {
        let chain = continued(fields, sender.address);
        fields.set(Rebuilt::For, &chain);
        return;
    }
    fields.set(Rebuilt::For, sender.address);
    fields.set(Rebuilt::Host, sender.host);
    fields.set(Rebuilt::Proto, scheme(sender.is_tls));
}

/// The fields as [`before_sending`] would leave them, without the work: for what is decided about a
/// request that may never be sent.
pub struct AsSent<'a> {
    pub fields: &'a dyn Fields,
    pub sender: Sender<'a>,
}

impl Fields for AsSent<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let Sender { address, host, is_tls, is_trusted } = self.sender;
        match Rebuilt::by_name(name) {
            Some(Rebuilt::For) if is_trusted => visit(continued(self.fields, address).as_bytes()),
            Some(Rebuilt::For) => visit(address.as_bytes()),
            Some(Rebuilt::Host) if !is_trusted => visit(host.as_bytes()),
            Some(Rebuilt::Proto) if !is_trusted => visit(scheme(is_tls).as_bytes()),
            // Mostly there is none, and nothing to be found out about it.
            _ => self.fields.each(name, &mut |value| {
                if !is_removed(name, is_trusted) {
                    visit(value);
                }
            }),
        }
    }
}

/// Whether a field is of this connection, or of a peer that is not believed.
fn is_removed(name: &str, is_trusted: bool) -> bool {
    is_hop_by_hop(name)
        || name == "forwarded"
        || (!is_trusted && matches!(name, "x-forwarded-port" | "x-real-ip"))
}

fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https" } else { "http" }
}

/// Removes what belongs to one connection, and what its `Connection` names. Of an answer this must
/// happen before it is stored: a stored `Connection: close` would close every hit's connection.
pub fn remove_hop_by_hop(fields: &mut dyn FieldsMut) {
    let named = named_by_connection(fields);
    fields.remove_where(&|name| is_of_connection(name.as_bytes(), &named));
}

/// Whether a field belongs to one connection, whose `Connection` names what [`named_by_connection`]
/// says. In any case.
pub fn is_of_connection(name: &[u8], named: &[String]) -> bool {
    let is = |own: &str| own.as_bytes().eq_ignore_ascii_case(name);
    (is_as_long_as_one(name) && HOP_BY_HOP.into_iter().any(is)) || named.iter().any(|own| is(own))
}

/// Whether a field of a connection has a name of this length, as few others have.
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

pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// Whether a client says what is not his to say. CGI and WSGI read `X_Job_Id` as `X-Job-Id`.
pub fn is_spoofed(name: &str) -> bool {
    name.contains('_')
        || (name.starts_with("x-")
            && (OURS.iter().any(|prefix| name.starts_with(prefix))
                || OVERRIDES.contains(&name)
                || (name.starts_with("x-forwarded-") && !KNOWN.contains(&name))))
}

/// What `Connection` names beside the fields of a connection. What frames the message stays until it
/// is sent on.
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

/// By `Connection` and `Upgrade` (RFC 9110 section 7.8). No other protocol is changed to: an `Upgrade:
/// h2c` that was passed on would open a tunnel past every rule.
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

/// All lines: a proxy may append its own below a client's.
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
        assert!(!on_arrival("GET", &mut fields));
        assert_eq!(names(&fields), ["connection", "te", "accept"]);
        remove_hop_by_hop(&mut fields);
        assert_eq!(names(&fields), ["accept"]);
    }

    #[test]
    fn what_frames_a_message_can_not_be_named_away() {
        let lines = [("connection", "content-length, transfer-encoding"), ("content-length", "3")];
        let mut fields = fields(&lines);
        on_arrival("POST", &mut fields);
        assert_eq!(names(&fields), ["connection", "content-length"]);
    }

    #[test]
    fn only_a_whole_offer_of_websocket_is_taken() {
        let offer = |method: &str, connection: &str, protocol: &str| {
            let lines =
                [("connection", connection), ("upgrade", protocol), ("http2-settings", "AAM")];
            let mut fields = fields(&lines);
            let is_taken = on_arrival(method, &mut fields);
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

    #[test]
    fn an_untrusted_peer_can_not_say_who_it_forwards_for() {
        let said = fields(&[("x-forwarded-for", "1.1.1.1"), ("x-real-ip", "1.1.1.1")]);
        let mut fields = said.clone();
        let mut sender = Sender { address: "9.9.9.9", host: "h", is_tls: true, is_trusted: false };
        before_sending(&mut fields, &sender);
        let expected = [
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-host", "h"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(fields, self::fields(&expected));
        sender = Sender { address: "10.0.0.1", is_trusted: true, ..sender };
        let mut fields = said;
        before_sending(&mut fields, &sender);
        let expected = [("x-real-ip", "1.1.1.1"), ("x-forwarded-for", "1.1.1.1, 10.0.0.1")];
        assert_eq!(fields, self::fields(&expected));
    }
}
