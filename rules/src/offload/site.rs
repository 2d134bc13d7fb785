//! Whether a request that changes something comes from a page of the application itself.
//!
//! A job runs without the fields by which an application detects forged requests (CSRF tokens,
//! `Origin`), but in the name of the user whose cookie was accepted. Therefore the check is made
//! here (Fetch Metadata, <https://www.w3.org/TR/fetch-metadata/>; OWASP Cross-Site Request Forgery
//! Prevention, "Verifying Origin With Standard Headers").

use crate::document::Cors;
use crate::head::{Head, first, has};

/// Whether the request may become a job in the name of the user whose cookies it carries. `cors` is
/// the route's rule: pages of the origins in it may send such requests.
pub fn is_own(head: &Head<'_>, cors: Option<&Cors>) -> bool {
    if head.is_safe() {
        return true;
    }
    let fields = head.fields;
    let source = match first(fields, "origin") {
        Some(origin) => Some(origin),
        None => first(fields, "referer").map(|referer| origin_of(&referer).to_owned()),
    };
    let is_named = |origin: &str| {
        cors.is_some_and(|rule| rule.credentials && rule.origins.iter().any(|own| own == origin))
    };
    if source.as_deref().is_some_and(is_named) {
        return true;
    }
    if has(fields, "sec-fetch-site") {
        let site = first(fields, "sec-fetch-site");
        return matches!(site.as_deref(), Some("same-origin" | "none"));
    }
    match source {
        Some(origin) => is_same(&origin, head.scheme, head.host),
        // Every current browser sends one of these fields with a form.
        None => !has(fields, "cookie"),
    }
}

/// `https://host:port` of a URL.
fn origin_of(url: &str) -> &str {
    let Some((scheme, rest)) = url.split_once("://") else { return "" };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    url.get(..scheme.len() + "://".len() + end).unwrap_or_default()
}

/// Whether an origin is the requested one. Behind an ingress that terminates TLS without saying so,
/// the scheme appears to be http: then an https origin is accepted, but never the other way round.
fn is_same(origin: &str, scheme: &str, host: &str) -> bool {
    let Some((own_scheme, own_host)) = origin.split_once("://") else { return false };
    let is_scheme = own_scheme == scheme || own_scheme == "https";
    let own_host = own_host.to_ascii_lowercase();
    is_scheme && without_default_port(&own_host) == without_default_port(host) && !host.is_empty()
}

fn without_default_port(host: &str) -> &str {
    host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    struct Lines(Vec<(&'static str, &'static str)>);

    impl crate::Fields for Lines {
        fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
            for (_, value) in self.0.iter().filter(|(own, _)| *own == name) {
                visit(value.as_bytes());
            }
        }
    }

    fn is_taken(method: &str, lines: &[(&'static str, &'static str)]) -> bool {
        let fields = Lines(lines.to_vec());
        let (scheme, host) = ("http", "app.example");
        let head = Head { method, scheme, host, target: "/", fields: &fields };
        let cors = Cors {
            origins: vec!["https://pages.example".into(), "*".into()],
            credentials: true,
            max_age: Millis(0),
        };
        is_own(&head, Some(&cors))
    }

    #[test]
    fn a_request_of_a_page_of_the_application_or_of_a_program_is_taken() {
        for lines in [
            &[("sec-fetch-site", "same-origin"), ("cookie", "s=1")][..],
            &[("sec-fetch-site", "none"), ("cookie", "s=1")],
            &[("origin", "http://app.example"), ("cookie", "s=1")],
            &[("origin", "https://APP.example:443"), ("cookie", "s=1")],
            &[("referer", "https://app.example/form?x#y"), ("cookie", "s=1")],
            &[("authorization", "Bearer t")],
            &[("origin", "https://pages.example"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(is_taken("POST", lines), "{lines:?}");
        }
        assert!(is_taken("GET", &[("sec-fetch-site", "cross-site"), ("cookie", "s=1")]));
    }

    #[test]
    fn a_request_of_another_page_or_of_an_unknown_one_with_cookies_is_not() {
        for lines in [
            &[("sec-fetch-site", "cross-site"), ("origin", "https://app.example")][..],
            &[("sec-fetch-site", "same-site"), ("cookie", "s=1")],
            &[("sec-fetch-site", "\u{e9}")],
            &[("origin", "https://evil.example"), ("cookie", "s=1")],
            &[("origin", "https://evil.example")],
            &[("origin", "null"), ("cookie", "s=1")],
            &[("origin", "https://app.example.evil.example")],
            &[("origin", "https://app.example@evil.example")],
            &[("origin", "https://app.example:8443")],
            &[("referer", "https://evil.example/https://app.example/"), ("cookie", "s=1")],
            &[("referer", "about:blank"), ("cookie", "s=1")],
            &[("cookie", "s=1")],
        ] {
            assert!(!is_taken("POST", lines), "{lines:?}");
        }
        assert!(!is_taken("GET", &[("x-http-method-override", "POST"), ("cookie", "s=1")]));
    }
}
