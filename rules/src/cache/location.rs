//! Resolves an answer's `Location` or `Content-Location`, as long as it is on the request's own
//! origin.

use crate::head::Head;

/// The path and query of a URI reference (RFC 9110 section 10.2.2) on the request's own origin
/// (scheme, host and port, RFC 9110 section 4.3.1). None when it is on another one. `hosts` are the
/// hosts under which the request was made; a relative reference is resolved against `path` (RFC
/// 3986 section 5.2).
pub(super) fn on_own_origin(
    request: &Head<'_>,
    hosts: &[&str],
    path: &str,
    reference: &str,
) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    let under_own_host = |rest: &str| {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(end)?;
        let host = without_default_port(request.scheme, host);
        let is_own =
            |own: &&str| without_default_port(request.scheme, own).eq_ignore_ascii_case(host);
        hosts.iter().any(is_own).then(|| match target.starts_with('/') {
            true => target.to_owned(),
            false => format!("/{target}"),
        })
    };
    let target = match reference.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            under_own_host(rest).filter(|_| scheme.eq_ignore_ascii_case(request.scheme))
        }
        _ => match reference.strip_prefix("//") {
            Some(rest) => under_own_host(rest),
            None if reference.starts_with('/') => Some(reference.to_owned()),
            None if reference.is_empty() => Some(request.target.to_owned()),
            None if reference.starts_with('?') => Some([path, reference].concat()),
            None => Some(format!("{}/{reference}", path.rsplit_once('/')?.0)),
        },
    };
    target.map(without_dot_segments)
}

/// Removes dot segments (RFC 3986 section 5.2.4).
fn without_dot_segments(target: String) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    if !path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return target;
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
        if segments.peek().is_none() && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

/// The host without the default port of its scheme (RFC 9110 sections 4.2.1 and 4.2.2).
fn without_default_port<'h>(scheme: &str, host: &'h str) -> &'h str {
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::NoFields;

    #[test]
    fn references_are_resolved_as_rfc_3986_has_it() {
        let (scheme, host) = ("http", "a");
        let head = Head { method: "GET", scheme, host, target: "/b/c/d;p?q", fields: &NoFields };
        for (reference, expected) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("g?y#s", "/b/c/g?y"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("..", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../../g", "/g"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("//a/g", "/g"),
            ("http://a?y", "/?y"),
            ("HTTP://A:80", "/"),
        ] {
            let target = on_own_origin(&head, &[host], "/b/c/d;p", reference);
            assert_eq!(target.as_deref(), Some(expected), "{reference}");
        }
        for other in ["//g", "https://a/", "http://a.b/", "http://a@b/", "http://a:8080/"] {
            assert_eq!(on_own_origin(&head, &[host], "/b/c/d;p", other), None, "{other}");
        }
    }
}
