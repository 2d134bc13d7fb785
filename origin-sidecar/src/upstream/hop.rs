//! The signed marker of a request that one sidecar sends on to another.
//!
//! A forwarded request is never forwarded again: two sidecars that disagree about a range would
//! otherwise send it round until a timeout. The marker also proves that `X-Shard*` come from a
//! sidecar of ours.

use super::server::Upstream;
use crate::message::fields::View;
use crate::secrets::{Purpose, Secrets};
use http::{HeaderMap, HeaderName, HeaderValue};
use http1::lines;
use rules::hops;
use rules::shard::Resolved;

pub const NAME: &str = "x-shard-hop";
/// Another one of us, as a line ([`hops::FIELD`]).
const LINE: &str = "CDN-Loop: spillway\r\n";
static HEADER: HeaderName = HeaderName::from_static(NAME);
/// Milliseconds a marker is good for: clock differences between nodes plus the way.
const GOOD_FOR_MS: u64 = 60_000;

/// Says to whoever gets the request next that it passed one more of us (`rules::hops`), unless that is
/// the application beside us. In a line of its own: those that came stay as they are.
pub fn pass_on(upstream: &Upstream, added: &mut String) {
    if !upstream.is_app() {
        added.push_str(LINE);
    }
}

/// The same of those that a request has passed already, where its own fields are left behind.
pub fn carry(upstream: &Upstream, headers: &HeaderMap, added: &mut String) {
    for _ in 0..hops::count(&View::of(headers)) {
        pass_on(upstream, added);
    }
}

/// Whether a request for another sidecar came through more than the edge: what it waits for must be
/// nobody else's.
pub fn is_far(upstream: &Upstream, headers: &HeaderMap) -> bool {
    !upstream.is_app() && hops::count(&View::of(headers)) > 1
}

/// Adds the marker for a request to another sidecar.
pub fn mark(headers: &mut HeaderMap, secrets: &Secrets, resolved: &Resolved, now: u64) {
    let time = now.to_string();
    let signature = secrets
        .sign(Purpose::Hop, &[time.as_bytes(), resolved.map.as_bytes(), resolved.shard.as_bytes()]);
    let value = format!("v1.{time}.{}.{}.{signature}", resolved.map, resolved.shard);
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(HEADER.clone(), value);
    }
}

/// Takes the marker off; whether it was a valid one.
pub fn take(headers: &mut HeaderMap, secrets: Option<&Secrets>, now: u64) -> bool {
    let Some(value) = lines::take(headers, &HEADER) else { return false };
    let parts: Vec<&str> = value.to_str().unwrap_or_default().split('.').collect();
    let (Some(secrets), [version, time, map, shard, signature]) = (secrets, parts.as_slice())
    else {
        return false;
    };
    let is_recent = time.parse::<u64>().is_ok_and(|time| time.abs_diff(now) <= GOOD_FOR_MS);
    let signed = [time.as_bytes(), map.as_bytes(), shard.as_bytes()];
    *version == "v1" && is_recent && secrets.verify(Purpose::Hop, &signed, signature)
}

/// Tells the app beside us which shard the request is for.
pub fn annotate(headers: &mut HeaderMap, resolved: &Resolved) {
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("x-shard", &resolved.shard);
    set("x-shard-epoch", &resolved.epoch.to_string());
    set("x-shard-range", &resolved.range);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved() -> Resolved {
        Resolved {
            map: "m".into(),
            key: "1".into(),
            shard: "a".into(),
            epoch: 1,
            range: "[1,2)".into(),
            upstream: None,
        }
    }

    #[test]
    fn only_a_recent_marker_of_ours_counts_and_it_is_always_taken_off() {
        let ours = Secrets::parse(&"a".repeat(32)).expect("long enough");
        let theirs = Secrets::parse(&"b".repeat(32)).expect("long enough");
        let marked = || {
            let mut headers = HeaderMap::new();
            mark(&mut headers, &ours, &resolved(), 1_000_000);
            headers
        };
        let mut headers = marked();
        assert!(take(&mut headers, Some(&ours), 1_030_000));
        assert!(!headers.contains_key(&HEADER));
        assert!(!take(&mut marked(), Some(&ours), 1_061_000));
        assert!(!take(&mut marked(), Some(&theirs), 1_000_000));
        assert!(!take(&mut marked(), None, 1_000_000));
    }
}
