//! Access control of the admin port.
//!
//! Any page that a user visits can make the browser call the port through a `kubectl port-forward`:
//! such calls have a foreign `Origin` or `Sec-Fetch-Site` or, after DNS rebinding, the page's own
//! name as `Host`. Loopback is no identity either: the pod's application can be tricked into
//! calling arbitrary addresses. Therefore changes need a form that such calls can't have.

use crate::secrets;
use http::{HeaderMap, HeaderName, Method, Request, header};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Required on every call that changes something; no page and no redirect can send it.
pub static FIELD: HeaderName = HeaderName::from_static("x-spillway-admin");
pub const FIELD_VALUE: &str = "1";
static SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Values of `Sec-Fetch-Site` for a browser's address bar, and for a page of this port.
const SITES: [&str; 2] = ["none", "same-origin"];

/// A status and what is wrong.
pub(super) type GuardRefusal = (u16, &'static str);

/// Host names besides `localhost` under which the port may be called.
#[derive(Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Reads the names.
    ///
    /// # Errors
    /// Names the one that is no host name.
    pub fn new(names: &[String]) -> Result<Self, String> {
        let is_legal = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        match names.iter().find(|name| name.is_empty() || !name.chars().all(is_legal)) {
            Some(name) => Err(format!("--admin-host {name:?}: write a host name without a port")),
            None => Ok(Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())),
        }
    }

    fn has(&self, name: &str) -> bool {
        let own = self.0.iter().map(String::as_str).chain(["localhost"]);
        own.into_iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether it is an address or one of the names. DNS rebinding needs a name of the attacker's.
    fn is_good(&self, authority: &str) -> bool {
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => (None, port),
                _ => return false,
            },
            None => {
                let end = authority.find(':').unwrap_or(authority.len());
                let (host, port) = authority.split_at(end);
                (Some(host), port)
            }
        };
        let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
        host.is_none_or(|host| host.parse::<Ipv4Addr>().is_ok() || self.has(host))
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
    }
}

/// Refuses requests that a browser may send for somebody else's page.
pub(super) fn foreign<B>(request: &Request<B>, hosts: &Hosts) -> Result<(), GuardRefusal> {
    let headers = request.headers();
    let stated = only(headers, &header::HOST);
    let in_target = request.uri().authority().map(http::uri::Authority::as_str);
    let host = match (stated, in_target) {
        (Some(host), None) => host,
        // The authority in the target takes precedence; both must be allowed.
        (Some(host), Some(target)) if hosts.is_good(host) => target,
        _ => "",
    };
    if !hosts.is_good(host) {
        return Err((421, "Host must be an address, localhost or an --admin-host\n"));
    }
    let own = |origin: &str| {
        let rest = origin.strip_prefix("http://");
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    };
    if !all(headers, &header::ORIGIN, own) {
        return Err((403, "Origin is another than this port's own\n"));
    }
    if !all(headers, &SITE, |site| SITES.contains(&site)) {
        return Err((403, "Sec-Fetch-Site is another than same-origin or none\n"));
    }
    Ok(())
}

/// Checks that the request has the form that is required for changes.
pub(super) fn change<B>(request: &Request<B>) -> Result<(), GuardRefusal> {
    let headers = request.headers();
    if request.method() != Method::POST {
        return Err((405, "POST only\n"));
    }
    let kind = only(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err((415, "Content-Type must be application/json\n"));
    }
    if only(headers, &FIELD) != Some(FIELD_VALUE) {
        return Err((403, "the field `X-Spillway-Admin: 1` is missing\n"));
    }
    Ok(())
}

pub(super) fn is_loopback(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// Checks that the peer may see and do what is not for everyone.
pub(super) fn known<B>(
    request: &Request<B>,
    peer: SocketAddr,
    token: Option<&str>,
) -> Result<(), GuardRefusal> {
    if is_loopback(peer.ip()) {
        return Ok(());
    }
    let given = only(request.headers(), &header::AUTHORIZATION);
    let given = given.and_then(|given| given.strip_prefix("Bearer "));
    match (given, token) {
        (Some(given), Some(token)) if secrets::same(given.as_bytes(), token.as_bytes()) => Ok(()),
        _ => Err((401, "a bearer token is needed\n")),
    }
}

/// The value of a field that occurs exactly once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut lines = headers.get_all(name).iter();
    let value = lines.next()?.to_str().ok()?;
    lines.next().is_none().then_some(value)
}

/// Whether every line of a field is allowed; true for none.
fn all(headers: &HeaderMap, name: &HeaderName, is_good: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().all(|value| value.to_str().is_ok_and(&is_good))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(fields: &[(&str, &str)], target: &str) -> u16 {
        let mut request = Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let hosts = Hosts::new(&["Admin.shop.example".to_owned()]).expect("a name");
        let request = request.body(()).expect("a request");
        foreign(&request, &hosts).map_or_else(|(status, _)| status, |()| 200)
    }

    #[test]
    fn only_addresses_localhost_and_given_names_are_this_port() {
        for host in ["127.0.0.1:15081", "10.0.0.7", "[::1]:9", "[fd00::1]", "localhost:80"] {
            assert_eq!(status(&[("host", host)], "/routes"), 200, "{host}");
        }
        for host in ["LocalHost", "admin.shop.EXAMPLE:8443"] {
            assert_eq!(status(&[("host", host)], "/routes"), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:15081",
            "localhost@evil.example",
            "evil.example:80@localhost",
            "[::1].evil.example",
            "[evil]",
            "localhost:80:80",
            "localhost:x",
            "",
        ] {
            assert_eq!(status(&[("host", host)], "/routes"), 421, "{host}");
        }
        assert_eq!(status(&[], "/routes"), 421);
        assert_eq!(status(&[("host", "localhost"), ("host", "localhost")], "/routes"), 421);
        assert_eq!(status(&[("host", "localhost")], "http://evil.example/routes"), 421);
        assert_eq!(status(&[("host", "evil.example")], "http://localhost/routes"), 421);
        assert!(Hosts::new(&["a:80".to_owned()]).is_err());
    }

    #[test]
    fn a_page_of_another_origin_is_told_apart_from_one_of_this_port() {
        let host = ("host", "localhost:9000");
        let own = ("origin", "http://localhost:9000");
        assert_eq!(status(&[host, own, ("sec-fetch-site", "same-origin")], "/"), 200);
        assert_eq!(status(&[host, ("sec-fetch-site", "none")], "/"), 200);
        for origin in
            ["https://evil.example", "null", "http://localhost:3000", "https://localhost:9000", ""]
        {
            assert_eq!(status(&[host, ("origin", origin)], "/"), 403, "{origin}");
        }
        assert_eq!(status(&[host, own, ("origin", "null")], "/"), 403);
        for site in ["cross-site", "same-site", "", "same-origin, cross-site"] {
            assert_eq!(status(&[host, ("sec-fetch-site", site)], "/"), 403, "{site}");
        }
    }

    #[test]
    fn a_change_has_a_form_that_neither_a_form_nor_a_redirect_has() {
        let status = |method: &str, kind: &str, field: Option<&str>| {
            let mut request = Request::builder().method(method).header("content-type", kind);
            if let Some(field) = field {
                request = request.header(&FIELD, field);
            }
            let request = request.body(()).expect("a request");
            change(&request).map_or_else(|(status, _)| status, |()| 200)
        };
        assert_eq!(status("POST", "application/json", Some("1")), 200);
        assert_eq!(status("POST", "Application/JSON; charset=utf-8", Some("1")), 200);
        assert_eq!(status("GET", "application/json", Some("1")), 405);
        assert_eq!(status("POST", "text/plain", Some("1")), 415);
        assert_eq!(status("POST", "text/plain; application/json", Some("1")), 415);
        assert_eq!(status("POST", "application/json", None), 403);
        assert_eq!(status("POST", "application/json", Some("0")), 403);
    }
}
