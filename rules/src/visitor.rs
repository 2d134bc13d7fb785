//! The host that a visitor asked for at the edge, where the edge's origin has another one: how the
//! edge states it, when the sidecar trusts it, and how the edge removes the origin's own host from
//! answers.

use crate::document::Edge;
use crate::forwarded::is_host;
use crate::head::{Fields, Head};

/// The field in which the edge states the visitor's host; the edge signs it. It is removed from any
/// other peer's requests, like all `X-Spillway-*`.
pub const HOST: &str = "x-spillway-host";
/// The field in which the edge states the visitor's scheme, `http` or `https` in lower case.
pub const SCHEME: &str = "x-spillway-scheme";

/// A visitor's request, as the edge states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// The host in lower case, with the port unless it is the scheme's default.
    pub host: String,
    /// The scheme that the visitor used: `http` or `https`.
    pub scheme: &'static str,
}

impl Visitor {
    /// The visitor, for a request that the edge sends to an origin (`scheme://host`) of another
    /// host; none where the rules do not name the visitor's host.
    pub fn told(edge: &Edge, head: &Head<'_>, origin: &str) -> Option<Self> {
        let (_, origin) = origin.split_once("://")?;
        let is_other = !origin.eq_ignore_ascii_case(head.host);
        let visitor = Self { host: head.host.to_ascii_lowercase(), scheme: known(head.scheme)? };
        (is_other && edge.names(&visitor.host)).then_some(visitor)
    }

    /// The visitor that a request with a valid signature over both fields states; none where the
    /// rules do not name the host, or where a field is missing, repeated or not a host.
    pub fn said(edge: &Edge, fields: &dyn Fields) -> Option<Self> {
        let host = only(fields, HOST)?.to_ascii_lowercase();
        let scheme = known(&only(fields, SCHEME)?)?;
        (is_host(&host) && edge.names(&host)).then_some(Self { host, scheme })
    }

    /// Rewrites the origin's `Location` for the visitor; none where it leads elsewhere or has no
    /// authority.
    pub fn location(&self, location: &str, origin: &str) -> Option<String> {
        let origin = origin.split_once("://")?.1;
        let (led, rest) = match location.split_once("://") {
            Some((scheme, rest)) => (known(&scheme.to_ascii_lowercase())?, rest),
            None => (self.scheme, location.strip_prefix("//")?),
        };
        let (authority, rest) =
            rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
        let is_origins = authority.eq_ignore_ascii_case(origin);
        // A redirect to https stays one: in the visitor's own scheme it would loop.
        let scheme = if led == "https" { led } else { self.scheme };
        is_origins.then(|| format!("{scheme}://{}{rest}", self.host))
    }
}

/// A `Set-Cookie` value without its `Domain`, where that is the origin's own host, which the
/// visitor's browser would reject. None where there is no such attribute.
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

/// The value of a field that occurs exactly once.
fn only(fields: &dyn Fields, name: &str) -> Option<String> {
    let mut lines = Vec::new();
    fields.each(name, &mut |line| lines.push(line.to_vec()));
    match <[Vec<u8>; 1]>::try_from(lines) {
        Ok([line]) => String::from_utf8(line).ok(),
        Err(_) => None,
    }
}

impl Edge {
    /// Whether the rules name this host as one that visitors ask for: in `hosts`, or as the target
    /// of canonical redirects.
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
