//! Adapts the header map to the traits with which `rules` reads and changes fields.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use http1::lines;
use http1::received::Received;
use net::cidr::Cidr;
use net::https::is_public;
use rules::Edit;
use rules::head::{FieldsMut, Rebuilt};
use rules::trust::Trust;
use std::net::IpAddr;

/// Changes an answer's fields.
pub fn edit(headers: &mut HeaderMap, edits: &[Edit]) {
    for edit in edits {
        let name = HeaderName::from_static(edit.name());
        match edit.value().map(HeaderValue::from_str) {
            Some(Ok(value)) => drop(headers.insert(name, value)),
            _ => drop(headers.remove(name)),
        }
    }
}

/// A header map as `rules` reads it.
pub struct View<'a> {
    headers: &'a HeaderMap,
    /// A Bloom filter of the names: one bit each, which other names may share.
    names: u64,
}

impl<'a> View<'a> {
    pub fn of(headers: &'a HeaderMap) -> Self {
        let names = headers.keys().fold(0, |names, name| names | bit(name.as_str()));
        Self { headers, names }
    }
}

fn bit(name: &str) -> u64 {
    let letter = |letter: Option<&u8>| letter.map_or(0, |letter| usize::from(*letter));
    let name = name.as_bytes();
    1 << ((name.len() + 5 * letter(name.first()) + 11 * letter(name.last())) % 64)
}

impl rules::Fields for View<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        // Most fields that are looked up are absent.
        if self.names & bit(name) != 0 {
            visit_lines(self.headers, name, visit);
        }
    }
}

/// Visits all lines of a name. A request has about a dozen fields: a scan costs less than a lookup
/// by text, which first checks, normalises and hashes the name.
fn visit_lines(headers: &HeaderMap, name: &str, visit: &mut dyn FnMut(&[u8])) {
    for (own, value) in headers {
        if own.as_str() == name {
            visit(value.as_bytes());
        }
    }
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static(Rebuilt::For.name());
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static(Rebuilt::Host.name());
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static(Rebuilt::Proto.name());

fn name_of(field: Rebuilt) -> &'static HeaderName {
    match field {
        Rebuilt::For => &X_FORWARDED_FOR,
        Rebuilt::Host => &X_FORWARDED_HOST,
        Rebuilt::Proto => &X_FORWARDED_PROTO,
        Rebuilt::Forwarded => &header::FORWARDED,
    }
}

/// Fields as they were received.
pub struct AsReceived<'a>(pub &'a Received);

impl rules::Fields for AsReceived<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (own, value) in self.0.iter() {
            if own.eq_ignore_ascii_case(name.as_bytes()) {
                visit(value);
            }
        }
    }
}

/// A header map as `rules` changes it.
pub struct Map<'a>(pub &'a mut HeaderMap);

impl rules::Fields for Map<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        visit_lines(self.0, name, visit);
    }
}

impl FieldsMut for Map<'_> {
    /// Most requests have nothing to remove.
    fn remove_where(&mut self, is_unwanted: &dyn Fn(&str) -> bool) {
        let unwanted = self.0.keys().filter(|name| is_unwanted(name.as_str()));
        let unwanted: Vec<HeaderName> = unwanted.cloned().collect();
        for name in unwanted {
            self.0.remove(name);
        }
    }

    fn set(&mut self, field: Rebuilt, value: &str) {
        // The name is a static one: to validate it each time would cost more than the rest.
        let name = name_of(field).clone();
        let value = match value {
            "http" => Ok(HeaderValue::from_static("http")),
            "https" => Ok(HeaderValue::from_static("https")),
            other => HeaderValue::from_bytes(other.as_bytes()),
        };
        if let Ok(value) = value {
            self.0.insert(name, value);
        }
    }
}

/// The fields of a request that is forwarded as received. Rebuilt fields become lines beside the
/// map, which costs less than inserting them.
pub struct OutgoingFields<'a> {
    pub headers: &'a mut HeaderMap,
    /// Complete field lines, each with its line end.
    pub added: &'a mut String,
}

impl rules::Fields for OutgoingFields<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        visit_lines(self.headers, name, visit);
    }
}

impl FieldsMut for OutgoingFields<'_> {
    fn remove_where(&mut self, is_unwanted: &dyn Fn(&str) -> bool) {
        Map(self.headers).remove_where(is_unwanted);
    }

    fn set(&mut self, field: Rebuilt, value: &str) {
        lines::take(self.headers, name_of(field));
        lines::push(self.added, field.spelled(), value);
    }
}

/// The peers that are trusted about the clients behind them.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    named: Vec<Cidr>,
    /// Whether peers with private addresses are trusted about scheme, client address and host.
    is_network_trusted: bool,
    /// Whether named proxies are trusted in `Forwarded`, too.
    by_forwarded: bool,
}

impl TrustedProxies {
    /// Parses the values of `--trusted-proxy`: address blocks and `private`, or `none` alone.
    ///
    /// # Errors
    /// Names the value that is neither.
    pub fn parse(texts: &[String], by_forwarded: bool) -> Result<Self, String> {
        let mut own = Self { by_forwarded, ..Self::default() };
        let texts: Vec<&str> = texts.iter().map(|text| text.trim()).collect();
        for text in texts.iter().filter(|text| !text.is_empty()) {
            match *text {
                "none" if texts.len() == 1 => {}
                "none" => return Err("`none` stands alone, or not at all".to_owned()),
                "private" => own.is_network_trusted = true,
                block => own.named.push(Cidr::parse(block)?),
            }
        }
        Ok(own)
    }

    pub fn has_named(&self) -> bool {
        !self.named.is_empty()
    }

    pub fn trust(&self, address: IpAddr) -> Trust {
        if self.named.iter().any(|block| block.contains(address)) {
            return Trust::Named { by_forwarded: self.by_forwarded };
        }
        let is_near = self.is_network_trusted && !is_public(address);
        if is_near { Trust::Network } else { Trust::Nobody }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::Fields;
    use std::collections::BTreeSet;

    #[test]
    fn a_view_shows_what_the_map_holds_and_nothing_else() {
        let names: Vec<String> = (0..300).map(|at| format!("x-{at}")).collect();
        let bits: BTreeSet<u64> = names.iter().map(|name| bit(name)).collect();
        assert!((2..64).contains(&bits.len()), "some share a bit, and not all: {}", bits.len());
        for own in &names {
            let mut headers = HeaderMap::new();
            headers.append(own.parse::<HeaderName>().expect("a name"), HeaderValue::from(1));
            headers.append(own.parse::<HeaderName>().expect("a name"), HeaderValue::from(2));
            let view = View::of(&headers);
            for name in &names {
                let mut lines = 0;
                view.each(name, &mut |_| lines += 1);
                assert_eq!(lines, if name == own { 2 } else { 0 }, "{name} among {own}");
            }
        }
    }

    #[test]
    fn peers_are_believed_as_they_are_named_or_near() {
        let trust = |texts: &[&str], address: &str| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let proxies = TrustedProxies::parse(&texts, false).expect("a list");
            proxies.trust(address.parse().expect("an address"))
        };
        let named = Trust::Named { by_forwarded: false };
        for near in ["10.0.0.7", "127.0.0.1", "100.64.1.1", "::1", "fd00::1", "::ffff:10.0.0.7"] {
            assert_eq!(trust(&["private"], near), Trust::Network, "{near}");
            assert_eq!(trust(&[], near), Trust::Nobody, "{near}");
            assert_eq!(trust(&["none"], near), Trust::Nobody, "{near}");
        }
        assert_eq!(trust(&["private"], "8.8.8.8"), Trust::Nobody);
        assert_eq!(trust(&["private", " 10.0.0.0/8 "], "10.0.0.7"), named);
        assert_eq!(trust(&["8.8.8.8"], "8.8.8.8"), named);
        for wrong in [&["none", "private"][..], &["privat"], &["10.0.0.0/33"]] {
            let texts: Vec<String> = wrong.iter().map(|text| (*text).to_owned()).collect();
            assert!(TrustedProxies::parse(&texts, false).is_err(), "{wrong:?}");
        }
    }
}
