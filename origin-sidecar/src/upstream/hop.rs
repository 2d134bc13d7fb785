//! The signed marker of a request that one sidecar sends on to another.
//!
//! A forwarded request is never forwarded again: two sidecars that disagree about a range would
//! otherwise send it round until a timeout. The marker also proves that `X-Shard*` come from a
//! sidecar of ours.

use super::server::Upstream;
use crate::message::body::Body;
use crate::message::fields::View;
use crate::message::reply;
use crate::secrets::{Purpose, Secrets};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http1::lines;
use rules::UnixMillis;
use rules::hops;
use rules::shard::Resolved;
use rules::shard::marker::{self, WrittenMarker};
use rules::shard::protocol::Marker;

pub const NAME: &str = "x-shard-hop";
/// Tells the application which map a request follows, and another sidecar which one a refusal does.
pub const EPOCH_NAME: &str = "x-shard-epoch";
/// Another one of us, as a line ([`hops::FIELD`]).
const LINE: &str = "CDN-Loop: spillway\r\n";
static HEADER: HeaderName = HeaderName::from_static(NAME);
static EPOCH: HeaderName = HeaderName::from_static(EPOCH_NAME);

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
pub fn mark(headers: &mut HeaderMap, secrets: &Secrets, resolved: &Resolved, now: UnixMillis) {
    let to = (&**resolved.map(), &**resolved.shard());
    let value =
        marker::written(to, resolved.epoch(), now, |signed| secrets.sign(Purpose::Hop, signed));
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(HEADER.clone(), value);
    }
}

/// Takes the marker off, and returns what it says if one of our keys signed it.
pub fn take(headers: &mut HeaderMap, secrets: Option<&Secrets>, now: UnixMillis) -> Option<Marker> {
    let value = lines::take(headers, &HEADER)?;
    let written = WrittenMarker::read(value.to_str().ok()?)?;
    let is_ours = secrets?.verify(Purpose::Hop, &written.signed(), written.signature);
    written.said(now).filter(|_| is_ours)
}

/// Whether the answer is another sidecar's refusal of a request that followed an older map. An application's
/// own 421 (RFC 9110 section 15.5.20) says no epoch.
pub fn is_stale(response: &Response<Body>) -> bool {
    let is_problem = || {
        let kind = reply::first(response, &header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind == b"application/problem+json")
    };
    response.status() == StatusCode::MISDIRECTED_REQUEST
        && reply::first(response, &EPOCH).is_some()
        && is_problem()
}

/// Tells the app beside us which shard the request is for.
pub fn annotate(headers: &mut HeaderMap, resolved: &Resolved) {
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("x-shard", resolved.shard());
    set(EPOCH_NAME, &resolved.epoch().to_string());
    set("x-shard-range", &resolved.range.text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::Rules;
    use rules::shard::{ShardKey, ShardKeys};

    const TEXT: &str = "[shard_map.m]\nkey_type = \"int\"\nranges = [{ from = 1, shard = \"a\" }]\nshards = { a = {} }\n";

    fn resolved() -> Resolved {
        let rules = Rules::from_toml(TEXT).expect("good rules");
        Resolved::find(&rules.shard_maps["m"], ShardKeys::One(ShardKey::Int(7))).expect("a shard")
    }

    #[test]
    fn only_a_marker_of_ours_counts_and_it_is_always_taken_off() {
        let ours = Secrets::parse(&"a".repeat(32)).expect("long enough");
        let theirs = Secrets::parse(&"b".repeat(32)).expect("long enough");
        let marked = || {
            let mut headers = HeaderMap::new();
            mark(&mut headers, &ours, &resolved(), UnixMillis(1_000_000));
            headers
        };
        let mut headers = marked();
        let marker = take(&mut headers, Some(&ours), UnixMillis(1_030_000)).expect("ours");
        assert!(!headers.contains_key(&HEADER));
        let (map, shard) = ("m".to_owned(), "a".to_owned());
        let expected = Marker { knows_stale: true, map, shard, epoch: 1, is_recent: true };
        assert_eq!(marker, expected);
        // Two clocks may be far apart: it still says that a sidecar sent it.
        let late = take(&mut marked(), Some(&ours), UnixMillis(1_061_000)).expect("ours");
        assert_eq!(late, Marker { is_recent: false, ..expected });
        assert_eq!(take(&mut marked(), Some(&theirs), UnixMillis(1_000_000)), None);
        assert_eq!(take(&mut marked(), None, UnixMillis(1_000_000)), None);
    }

    #[test]
    fn the_marker_of_the_last_version_is_read_and_no_part_of_one_passes_for_another() {
        let ours = Secrets::parse(&"a".repeat(32)).expect("long enough");
        let first = ours.sign(Purpose::Hop, &[b"1000000", b"m", b"a"]);
        let read = |value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER.clone(), HeaderValue::from_str(&value).expect("a value"));
            take(&mut headers, Some(&ours), UnixMillis(1_000_000))
        };
        let old = read(format!("v1.1000000.m.a.{first}")).expect("ours");
        assert!(!old.knows_stale && old.is_recent && old.epoch == rules::shard::FILE_EPOCH);
        assert_eq!(read(format!("v2.1000000.m.a.{first}")), None);
        assert_eq!(read(format!("v1.1000000.m.b.{first}")), None);
        assert_eq!(read("v2.1.2.3.4.5.6.7".to_owned()), None);
    }
}
