//! Paths that servers interpret in different ways: which readings exist, and whether they matter.
//!
//! `%2F`, `\\`, `//` and `%zz` are legal on the wire and in daily use (npm's scoped packages,
//! RabbitMQ's `/api/queues/%2F/…`). Where no reading of such a path meets a rule, nothing can be
//! bypassed with it, and it is forwarded unchanged.

use crate::document::{AmbiguousPath, Mode, Route, Unmatched};
use crate::path::is_reserved;
use crate::path::{is_plain_in_path, is_unreserved, push_encoded};
use crate::rules::Rules;
use std::collections::BTreeSet;

/// The most readings of one path. No legitimate path has more than a dozen; each costs a lookup.
const READINGS_MAX: usize = 64;
/// How often servers decode a path at most.
const DECODINGS_MAX: u8 = 2;

/// Whether an ambiguous path may be forwarded unchanged: every reading of it must get the decision
/// of a path that no rule touches. `path` is as received, without the query.
pub(crate) fn is_harmless(rules: &Rules, host: &str, path: &str) -> bool {
    if !path.starts_with('/') || rules.document.unmatched == Unmatched::Refuse {
        return false;
    }
    let Some(readings) = readings(path) else { return false };
    readings.iter().all(|reading| {
        let path = spelled(reading);
        !has_dot_segment(reading)
            && !reading.bytes().any(|byte| byte.is_ascii_control())
            && !is_reserved(&rules.document.jobs.base, &path)
            && !rules.is_hook(&path)
            && !rules.routes_of_path(host, &path).any(|route| touches(rules, route))
    })
}

/// Whether a route decides more about a request than its timeouts.
fn touches(rules: &Rules, route: &Route) -> bool {
    // All fields are listed, so that a new one can't be forgotten here.
    let Route {
        name: _,
        matches: _,
        ambiguous_path,
        timeout: _,
        idle_timeout: _,
        total_timeout: _,
        max_body,
        concurrency,
        upstream,
        require_signature,
        cors,
        cache,
        shard,
        offload,
    } = route;
    let is_on = |mode: Mode| mode == Mode::On;
    *ambiguous_path == AmbiguousPath::Bypass
        || max_body.is_some()
        || concurrency.is_some()
        || upstream.is_some()
        || cors.is_some()
        || require_signature.is_some_and(|own| own != rules.document.edge.require_signature)
        || cache.as_ref().is_some_and(|rule| is_on(rule.mode))
        || shard.as_ref().is_some_and(|rule| is_on(rule.mode))
        || offload.as_ref().is_some_and(|rule| is_on(rule.mode))
}

/// All readings of a path by servers: decoding it once or twice, reading `\\` as `/`, merging
/// slashes, and cutting off what follows a `;` in a segment. None when there are too many.
fn readings(path: &str) -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open = vec![(path.as_bytes().to_vec(), 0)];
    let mut seen = BTreeSet::new();
    while let Some((reading, decodings)) = open.pop() {
        if !seen.insert((reading.clone(), decodings)) {
            continue;
        }
        if seen.len() > READINGS_MAX * usize::from(DECODINGS_MAX + 1) {
            return None;
        }
        if decodings < DECODINGS_MAX {
            open.push((decoded(&reading), decodings + 1));
        }
        for other in [with_slashes(&reading), merged(&reading), without_parameters(&reading)] {
            open.push((other, decodings));
        }
        found.insert(String::from_utf8_lossy(&reading).into_owned());
        if found.len() > READINGS_MAX {
            return None;
        }
    }
    Some(found)
}

/// Replaces each `%XX` by its byte; an invalid one stays.
fn decoded(path: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(path).collect()
}

fn with_slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

fn merged(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|next, before| *next == b'/' && *before == b'/');
    merged
}

/// The path as servers see it that strip parameters such as in `/a;v=1/b` (Tomcat, Jetty).
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/');
    let bare = segments.map(|it| it.split(|byte| *byte == b';').next().unwrap_or_default());
    bare.collect::<Vec<_>>().join(&b'/')
}

/// Whether a segment is `.` or `..`, with or without parameters.
fn has_dot_segment(reading: &str) -> bool {
    let segments = reading.split(['/', '\\']);
    segments.map(|it| it.split(';').next().unwrap_or_default()).any(|it| it == "." || it == "..")
}

/// A reading in the spelling of routes: unreserved characters plain, all others encoded. An encoded
/// slash stays encoded; another reading has it as a slash.
fn spelled(reading: &str) -> String {
    let mut normal = String::with_capacity(reading.len() + 8);
    let mut rest = reading.as_bytes();
    while let [byte, others @ ..] = rest {
        rest = others;
        if let (b'%', [high, low, after @ ..]) = (byte, others)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            let value = high * 16 + low;
            if is_unreserved(value) {
                normal.push(char::from(value));
            } else {
                push_encoded(value, &mut normal);
            }
            rest = after;
        } else if is_unreserved(*byte) || is_plain_in_path(*byte) || *byte == b'/' {
            normal.push(char::from(*byte));
        } else {
            push_encoded(*byte, &mut normal);
        }
    }
    normal
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::{self, SidecarAction};
    use crate::{Head, NoFields};
    use proptest::prelude::*;

    const RULES: &str = r#"
[queue.q]
notify = { app = "/hooks/done" }
[[route]]
name  = "cached"
match = { path = "/api/{id}", methods = ["GET"] }
cache = { sidecar = "1s" }
[[route]]
name  = "limited"
match = { path = "/up/{*rest}", hosts = ["up.example"] }
max_body = "1MiB"
[[route]]
name  = "watched"
match = { path = "/watched/{*rest}" }
mode  = "observe"
cache = { sidecar = "1s" }
[[route]]
name    = "slow"
match   = { path = "/slow/{*rest}" }
timeout = "2m"
"#;

    fn rules(text: &str) -> Rules {
        Rules::from_toml(text).expect("rules")
    }

    fn passes(path: &str) -> bool {
        is_harmless(&rules(RULES), "h", path)
    }

    #[test]
    fn what_no_rule_touches_in_any_reading_passes() {
        for path in [
            "/@scope%2Fname",
            "/queues/%2F/messages",
            "/a//b",
            "/a\\b",
            "/100%zz",
            "/watched//a",
            "/slow/a%2Fb",
            "/up//a",
        ] {
            assert!(passes(path), "{path}");
        }
        assert!(!is_harmless(&rules(RULES), "up.example", "/up//a"));
    }

    #[test]
    fn what_meets_a_rule_in_one_reading_does_not() {
        for path in [
            "//api/1",
            "/api%2F1",
            "/api%252F1",
            "/api\\1",
            "/api%5C1",
            "/x;/../api",
            "/%61pi%2f1",
            "/api;v=1//2",
            "/hooks%2Fdone",
            "/_spillway%2Fjobs",
            "//_spillway/jobs/1",
        ] {
            assert!(!passes(path), "{path}");
        }
    }

    #[test]
    fn dot_segments_and_control_bytes_are_never_harmless() {
        for path in
            ["/a/../b", "/a%2F..%2Fb", "/a//%2e%2e/b", "/a%2F%252e%252e/b", "/a%00", "/a//%0d"]
        {
            assert!(!passes(path), "{path}");
        }
    }

    #[test]
    fn where_unmatched_paths_are_refused_no_reading_is_harmless() {
        let rules = rules("default = \"refuse\"\n");
        assert!(!is_harmless(&rules, "h", "/a//b"));
    }

    proptest! {
        #[test]
        fn no_path_that_passes_has_a_reading_with_another_decision(
            path in "/([a-c%;./\\\\]|api|hooks|done|%2f|%5C|%25|%2e|1|_spillway|jobs){0,9}",
        ) {
            let rules = rules(RULES);
            if is_harmless(&rules, "h", &path) {
                for reading in readings(&path).unwrap_or_default() {
                    for method in ["GET", "POST", "OPTIONS"] {
                        let target = spelled(&reading);
                        let fields = NoFields;
                        let head = Head { method, scheme: "http", host: "h", target: &target, fields: &fields };
                        let SidecarAction::Proceed(proceed) = sidecar::decide(&rules, &head).action else {
                            // The normal form may be ambiguous itself; then it is a different path.
                            prop_assert!(crate::path::normalize(&target).is_err(), "{target}");
                            continue;
                        };
                        prop_assert!(proceed.cache.is_err() && proceed.shard.resolved().is_none());
                    }
                }
            }
        }
    }
}
