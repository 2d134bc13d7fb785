//! Recognises the rules of the example application, which are the repository's `routes.toml`. They
//! must not serve a real host: they would send its visitors to an origin that does not exist.

use crate::document::Document;

/// The origin in the demo's rules. It can't exist: the name is reserved (RFC 2606).
pub const ORIGIN: &str = "https://origin.example.com";
/// The hosts of visitors in the demo's rules.
pub(crate) const HOSTS: [&str; 2] = ["example.com", "www.example.com"];

/// Whether an edge built from the demo's rules is asked for a real host. `bound` is the
/// deployment's own origin, which overrides the rules' origin; `host` is the host that the visitor
/// asks for.
pub fn is_demo(document: &Document, bound: Option<&str>, host: &str) -> bool {
    let origin = bound.or(document.edge.origin.as_deref());
    origin.is_some_and(is_origin) && !is_tried_out(host)
}

/// Whether this is the demo's origin.
pub fn is_origin(origin: &str) -> bool {
    origin.eq_ignore_ascii_case(ORIGIN)
}

/// Whether this is one of the demo's hosts.
pub fn is_host(host: &str) -> bool {
    HOSTS.iter().any(|own| host.eq_ignore_ascii_case(own))
}

/// Whether a host is only used for trying things out: this machine, or Cloudflare's preview
/// address.
fn is_tried_out(host: &str) -> bool {
    let host = without_port(host).to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.ends_with(".workers.dev")
        || is_loopback(&host)
}

/// Whether the host is in 127.0.0.0/8 or `[::1]`, as URLs write them.
fn is_loopback(host: &str) -> bool {
    let numbers: Result<Vec<u8>, _> = host.split('.').map(str::parse).collect();
    host == "[::1]" || matches!(numbers.as_deref(), Ok([127, _, _, _]))
}

/// The host of `host:port` or `[address]:port`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, Edge};

    const OWN: &str = "www.shop.example";

    fn document(origin: Option<&str>) -> Document {
        let edge = Edge { origin: origin.map(str::to_owned), ..Edge::default() };
        Document { edge, ..Document::default() }
    }

    #[test]
    fn the_demos_rules_answer_for_no_host_that_is_somebodys() {
        let demo = document(Some(ORIGIN));
        for host in [OWN, "www.shop.example:8443", "example.com", "www.example.com"] {
            assert!(is_demo(&demo, None, host), "{host}");
        }
        for host in ["workers.dev", "myworkers.dev", "localhost.example", "a.workers.dev.example"] {
            assert!(is_demo(&demo, None, host), "{host} only looks like a host for trials");
        }
        for host in ["128.0.0.1", "10.0.0.1:8787", "[::2]", "127.0.0.1.example", "127.shop", ""] {
            assert!(is_demo(&demo, None, host), "{host}");
        }
    }

    #[test]
    fn whoever_tries_it_out_never_sees_that() {
        let demo = document(Some(ORIGIN));
        for host in [
            "spillway-edge.me.workers.dev",
            "SPILLWAY-EDGE.ME.WORKERS.DEV",
            "localhost",
            "LocalHost:8787",
            "shop.localhost:8787",
            "127.0.0.1",
            "127.9.9.9:8787",
            "[::1]",
            "[::1]:8787",
        ] {
            assert!(!is_demo(&demo, None, host), "{host}");
        }
    }

    #[test]
    fn an_origin_of_ones_own_is_never_taken_for_the_demos() {
        for origin in [None, Some("https://origin.shop.example"), Some("https://example.com")] {
            assert!(!is_demo(&document(origin), None, OWN), "{origin:?}");
        }
        assert!(!is_demo(&document(Some(ORIGIN)), Some("https://origin.shop.example"), OWN));
        // The example in wrangler.toml, used unchanged.
        assert!(is_demo(&document(None), Some(ORIGIN), OWN));
        assert!(is_demo(&document(Some("HTTPS://Origin.Example.COM")), None, OWN));
    }
}
