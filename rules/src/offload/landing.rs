//! Where an answer that redirects leads (Post/Redirect/Get), and whether it is a success.

use crate::document::{Auth, Login, Offload};
use crate::path;

/// Where a visitor goes when a job has ended with a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landing {
    /// Path, query and fragment on the visitor's own site.
    Own(String),
    /// A page of another site; the visitor decides whether to go there.
    Other {
        /// The absolute URL.
        url: String,
        /// Its host, which the visitor is shown.
        host: String,
    },
}

/// Resolves a `Location` (RFC 9110 section 10.2.2) against the target of the request (RFC 3986
/// section 5.2), to a path or a URL. `None` where it leads to no page: characters that browsers and
/// servers interpret in different ways, a scheme other than http and https, or a user name before
/// the host.
pub fn resolved(location: &str, target: &str) -> Option<String> {
    if location.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
        return None;
    }
    let location = path::legal(location);
    if let Some(scheme) = scheme(&location) {
        let rest = location.get(scheme.len() + 1..)?.strip_prefix("//")?;
        is_web(scheme).then(|| authority(rest)).flatten()?;
        return Some(location.into_owned());
    }
    if let Some(rest) = location.strip_prefix("//") {
        return authority(rest).map(|_| location.clone().into_owned());
    }
    let (own, query) = path::split(target);
    let (to, rest) = location.split_at(location.find(['?', '#']).unwrap_or(location.len()));
    let path = match to {
        "" if rest.starts_with('?') => own.to_owned(),
        "" => query.map_or(own.to_owned(), |query| format!("{own}?{query}")),
        to if to.starts_with('/') => without_dots(to),
        to => {
            without_dots(&format!("{}/{to}", own.rsplit_once('/').map_or("", |(folder, _)| folder)))
        }
    };
    // Two slashes at the beginning would name a host.
    (!path.starts_with("//")).then(|| format!("{path}{rest}"))
}

/// Where the resolved location leads a visitor who asked by this scheme and host.
pub fn landing(resolved: &str, own_scheme: &str, own_host: &str) -> Landing {
    let Some((scheme, rest)) = site(resolved) else { return Landing::Own(resolved.to_owned()) };
    let scheme = scheme.unwrap_or(own_scheme);
    let host = authority(rest).unwrap_or_default();
    let is_own = scheme.eq_ignore_ascii_case(own_scheme)
        && bare(host, own_scheme).eq_ignore_ascii_case(bare(own_host, own_scheme));
    let after = rest.get(host.len()..).unwrap_or_default();
    let path = if after.starts_with('/') { after.to_owned() } else { format!("/{after}") };
    // A second slash at the beginning would name a host once the first one is removed.
    if is_own && !path.starts_with("//") {
        return Landing::Own(path);
    }
    Landing::Other { url: format!("{scheme}://{rest}"), host: host.to_owned() }
}

/// Whether a job whose answer redirects there has succeeded: 307 and 308 ask for the same request
/// again, and a redirect to a login page is no success.
pub fn is_success(rule: &Offload, code: u16, resolved: Option<&str>) -> bool {
    let login = match &rule.auth {
        Auth::Open => &Login::None,
        Auth::Caller { login: Some(login), .. } => login,
        Auth::Caller { login: None, .. } => return false,
    };
    let Some(resolved) = resolved.filter(|_| matches!(code, 301..=303)) else { return false };
    let Login::Path(login) = login else { return true };
    // The host does not matter: the application may know itself by another name.
    let path = match site(resolved) {
        Some((_, rest)) => {
            rest.get(authority(rest).unwrap_or_default().len()..).unwrap_or_default()
        }
        None => resolved,
    };
    // Java servers append the session id to the path.
    let path = path::split(path).0.split(';').next().unwrap_or_default();
    path.trim_end_matches('/') != login.trim_end_matches('/')
}

/// The scheme, if there is one, and the text after `//`, of a reference that names a host. Slashes
/// in a query do not count.
fn site(resolved: &str) -> Option<(Option<&str>, &str)> {
    if let Some(rest) = resolved.strip_prefix("//") {
        return Some((None, rest));
    }
    let (scheme, rest) = resolved.split_once("://").filter(|_| !resolved.starts_with('/'))?;
    Some((Some(scheme), rest))
}

/// The scheme of a reference: `https` of `https:…`.
fn scheme(reference: &str) -> Option<&str> {
    let (scheme, _) = reference.split_once(':')?;
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    (!scheme.is_empty() && scheme.bytes().all(is_letter)).then_some(scheme)
}

fn is_web(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
}

/// The host with its port, before path, query and fragment.
fn authority(rest: &str) -> Option<&str> {
    let host = rest.get(..rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
    crate::forwarded::is_host(host).then_some(host)
}

fn bare<'a>(host: &'a str, scheme: &str) -> &'a str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host)
}

/// Removes dot segments from a path that begins with a slash (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut is_folder = false;
    for segment in path.split('/').skip(1) {
        is_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let end = if is_folder && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lands(location: &str) -> Option<Landing> {
        let resolved = resolved(location, "/orders/new?step=2")?;
        Some(landing(&resolved, "https", "app.example"))
    }

    fn own(target: &str) -> Option<Landing> {
        Some(Landing::Own(target.to_owned()))
    }

    #[test]
    fn a_redirect_leads_to_the_page_that_a_browser_would_go_to() {
        for (location, target) in [
            ("/orders/7", "/orders/7"),
            ("/orders/7?x=1#top", "/orders/7?x=1#top"),
            ("7", "/orders/7"),
            ("./7", "/orders/7"),
            ("../done", "/done"),
            ("../../done/..", "/"),
            ("..", "/"),
            (".", "/orders/"),
            ("?step=3", "/orders/new?step=3"),
            ("#end", "/orders/new?step=2#end"),
            ("", "/orders/new?step=2"),
            ("https://app.example/orders/7", "/orders/7"),
            ("HTTPS://APP.example:443/orders/7", "/orders/7"),
            ("https://app.example?x", "/?x"),
            ("//app.example/x", "/x"),
            ("/m\u{fc}ll", "/m%C3%BCll"),
            ("/a:b", "/a:b"),
            ("/thanks?return=https://shop.example/x", "/thanks?return=https://shop.example/x"),
            ("/thanks?next=/a//b", "/thanks?next=/a//b"),
            ("https://app.example/x?u=https://shop.example//y", "/x?u=https://shop.example//y"),
        ] {
            assert_eq!(lands(location), own(target), "{location}");
        }
    }

    #[test]
    fn a_login_page_is_one_whatever_it_is_told_to_go_on_to() {
        let rules = "[[route]]\nname = 'r'\nmatch = { path = '/r' }\n[route.offload]\nqueue = 'q'\n\
                     when = 'always'\nauth = { check = '/me', identity = 'check:X-User', login = '/login' }\n[queue.q]\n";
        let checked = crate::file::check(rules).expect("good rules");
        let rule = checked.document.routes[0].offload.as_ref().expect("a rule");
        let succeeds =
            |location: &str| is_success(rule, 302, resolved(location, "/orders").as_deref());
        for location in [
            "/login",
            "/login/",
            "/login?next=http://app.example/orders",
            "/login?next=/a//b",
            "/login;jsessionid=1?next=/x",
            "login",
            "https://sso.example/login?x=//y",
            "//sso.example/login",
        ] {
            assert!(!succeeds(location), "{location}");
        }
        for location in ["/orders/7", "/login/help", "/orders?from=/login", "https://a.example/x"] {
            assert!(succeeds(location), "{location}");
        }
    }

    #[test]
    fn another_site_is_named_with_its_host() {
        for (location, url, host) in [
            ("https://pay.example/x?y", "https://pay.example/x?y", "pay.example"),
            ("//evil.example/", "https://evil.example/", "evil.example"),
            ("http://app.example/", "http://app.example/", "app.example"),
            ("https://app.example:8443/", "https://app.example:8443/", "app.example:8443"),
            (
                "https://app.example.evil.example",
                "https://app.example.evil.example",
                "app.example.evil.example",
            ),
            (
                "https://app.example//evil.example/",
                "https://app.example//evil.example/",
                "app.example",
            ),
        ] {
            let other = Landing::Other { url: url.to_owned(), host: host.to_owned() };
            assert_eq!(lands(location), Some(other), "{location}");
        }
    }

    #[test]
    fn what_leads_to_no_page_or_to_two_leads_nowhere() {
        for location in [
            "/\\evil.example",
            "\\\\evil.example",
            "/\tevil",
            " /x",
            "/x\r\ny: z",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "mailto:a@b",
            "https:/x",
            "https:",
            "https://",
            "https://app.example@evil.example/",
            "https://evil.example\\@app.example/",
            "//",
            "///evil.example",
            "/.//evil.example",
            "..//evil.example",
        ] {
            assert_eq!(lands(location), None, "{location}");
        }
    }
}
