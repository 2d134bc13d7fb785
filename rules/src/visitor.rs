//! The host that a visitor asked at the edge, where the edge's origin has another one: how the edge tells it,
//! when the sidecar believes it, and what of the origin's own host the edge takes off its answers.

use crate::document::Edge;
use crate::forwarded::is_host;
use crate::head::{Fields, Head};

/// Fields that the edge writes and signs. From anybody else they are taken off, as all of `X-Spillway-*`.
pub const HOST: &str = "x-spillway-host";
/// The field in which the edge says `http` or `https`, as the visitor asked; in lower case.
pub const SCHEME: &str = "x-spillway-scheme";

/// What the edge says of a visitor's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// In lower case, with the port when it is not the scheme's own.
    pub host: String,
    /// `http` or `https`, as the visitor asked.
    pub scheme: &'static str,
}

impl Visitor {
    /// For a request that the edge sends to an origin (`scheme://host`) of another host; none where the rules do
    /// not name the visitor's.
    pub fn told(edge: &Edge, head: &Head<'_>, origin: &str) -> Option<Self> {
        let (_, origin) = origin.split_once("://")?;
        let is_other = !origin.eq_ignore_ascii_case(head.host);
        let visitor = Self { host: head.host.to_ascii_lowercase(), scheme: known(head.scheme)? };
        (is_other && edge.names(&visitor.host)).then_some(visitor)
    }

    /// What a request says, once its signature is known to be good and to cover both fields; none where the
    /// rules do not name the host, or a field is missing, twice there or no host.
    pub fn said(edge: &Edge, fields: &dyn Fields) -> Option<Self> {
        let host = only(fields, HOST)?.to_ascii_lowercase();
        let scheme = known(&only(fields, SCHEME)?)?;
        (is_host(&host) && edge.names(&host)).then_some(Self { host, scheme })
    }

    /// A `Location` of the origin as the visitor must see it; none where it leads elsewhere or has no authority.
    pub fn location(&self, location: &str, origin: &str) -> Option<String> {
        let origin = origin.split_once("://")?.1;
        let (led, rest) = match location.split_once("://") {
            Some((scheme, rest)) => (known(&scheme.to_ascii_lowercase())?, rest),
            None => (self.scheme, location.strip_prefix("//")?),
        };
        let (authority, rest) =
            rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
        let is_origins = authority.eq_ignore_ascii_case(origin);
        // A redirect to https is what it says: in the visitor's own scheme it would lead back for ever.
        let scheme = if led == "https" { led } else { self.scheme };
        is_origins.then(|| format!("{scheme}://{}{rest}", self.host))
    }
}

/// A `Set-Cookie` value without a `Domain` that is the origin's own host: the visitor's browser would refuse it.
/// None where there is no such.
pub fn cookie(set_cookie: &str, origin: &str) -> Option<String> {
    let origin = origin.split_once("://")?.1;
    let host = origin.split(':').next().unwrap_or_default();
    let is_origins = |attribute: &&str| {
        attribute.split_once('=').is_some_and(|(name, domain)| {
            let domain = domain.trim();
            name.trim().eq_ignore_ascii_case("domain")
                && domain.strip_prefix('.').unwrap_or(domain).eq_ignore_ascii_case(host)
        })
    };
    // The first part is the cookie itself, whatever its name.
    let (pair, attributes) = set_cookie.split_once(';')?;
    let all: Vec<&str> = attributes.split(';').collect();
    let kept: Vec<&str> = all.iter().copied().filter(|it| !is_origins(it)).collect();
    (kept.len() < all.len()).then(|| [&[pair], &kept[..]].concat().join(";"))
}

fn known(scheme: &str) -> Option<&'static str> {
    match scheme {
        "http" => Some("http"),
        "https" => Some("https"),
        _ => None,
    }
}

/// The value of a field that is there once.
fn only(fields: &dyn Fields, name: &str) -> Option<String> {
    let mut lines = Vec::new();
    fields.each(name, &mut |line| lines.push(line.to_vec()));
    match <[Vec<u8>; 1]>::try_from(lines) {
        Ok([line]) => String::from_utf8(line).ok(),
        Err(_) => None,
    }
}

impl Edge {
    /// Whether visitors ask this host, as far as the rules say it: `hosts`, and where other hosts are redirected
    /// to.
    pub fn names(&self, host: &str) -> bool {
        let canonical = self.canonical.iter().map(|canonical| &canonical.to);
        self.hosts.iter().chain(canonical).any(|own| own.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://origin.example.com:8443";

    fn visitor() -> Visitor {
        Visitor { host: "shop.example.com".to_owned(), scheme: "https" }
    }

    #[test]
    fn a_location_is_rewritten_when_its_authority_is_exactly_the_origins() {
        let seen = |location: &str| visitor().location(location, ORIGIN);
        for (location, wanted) in [
            ("https://origin.example.com:8443/a?b#c", "https://shop.example.com/a?b#c"),
            ("http://Origin.Example.com:8443/a", "https://shop.example.com/a"),
            ("//origin.example.com:8443/a", "https://shop.example.com/a"),
            ("https://origin.example.com:8443", "https://shop.example.com"),
        ] {
            assert_eq!(seen(location).as_deref(), Some(wanted), "{location}");
        }
        for location in [
            "/a",
            "?b",
            "https://origin.example.com/a",
            "https://origin.example.com:8443.evil.example/",
            "https://other.example/?next=https://origin.example.com:8443/",
            "https://user@origin.example.com:8443/",
            "ftp://origin.example.com:8443/a",
            "/login?next=//origin.example.com:8443/",
        ] {
            assert_eq!(seen(location), None, "{location}");
        }
        let http = Visitor { scheme: "http", ..visitor() };
        let secure = http.location("https://origin.example.com:8443/a", ORIGIN);
        assert_eq!(secure.as_deref(), Some("https://shop.example.com/a"), "never less secure");
        let own = http.location("http://origin.example.com:8443/a", ORIGIN);
        assert_eq!(own.as_deref(), Some("http://shop.example.com/a"));
    }

    #[test]
    fn a_cookies_domain_is_taken_off_when_it_is_the_origins_host() {
        let kept = |value: &str| cookie(value, ORIGIN);
        for (value, wanted) in [
            ("a=1; Domain=origin.example.com; Path=/", "a=1; Path=/"),
            ("a=1;domain=.Origin.example.com", "a=1"),
        ] {
            assert_eq!(kept(value).as_deref(), Some(wanted), "{value}");
        }
        for value in [
            "a=1",
            "a=1; Domain=example.com",
            "a=1; Domain=shop.example.com; Path=/",
            "domain=origin.example.com; Path=/",
        ] {
            assert_eq!(kept(value), None, "{value}");
        }
    }

    #[test]
    fn only_a_host_that_the_rules_name_is_told_and_believed() {
        let edge = Edge { hosts: vec!["shop.example.com".to_owned()], ..Edge::default() };
        let head = |host| Head {
            method: "GET",
            scheme: "https",
            host,
            target: "/",
            fields: &crate::NoFields,
        };
        assert_eq!(Visitor::told(&edge, &head("shop.example.com"), ORIGIN), Some(visitor()));
        assert_eq!(Visitor::told(&edge, &head("evil.example"), ORIGIN), None);
        assert_eq!(
            Visitor::told(&edge, &head("shop.example.com"), "https://shop.example.com"),
            None
        );
        let said = |lines: &[(&str, &str)]| {
            let lines = lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Visitor::said(&edge, &lines.collect::<Vec<_>>())
        };
        assert_eq!(said(&[(HOST, "Shop.example.com"), (SCHEME, "https")]), Some(visitor()));
        for lines in [
            &[(HOST, "shop.example.com")][..],
            &[(SCHEME, "https")],
            &[(HOST, "evil.example"), (SCHEME, "https")],
            &[(HOST, "shop.example.com"), (SCHEME, "ftp")],
            &[(HOST, "shop.example.com"), (HOST, "shop.example.com"), (SCHEME, "https")],
        ] {
            assert_eq!(said(lines), None, "{lines:?}");
        }
    }
}
