//! Which fields of a request travel with its job.

use super::lines::Lines;
use super::offered::OffloadCandidate;
use http::HeaderMap;
use rules::document::ReplayAs;
use rules::hops;

/// Fields that travel in the open. Queue and store are another trust zone, so credentials stay behind
/// unless the route lists them, or go sealed.
const TRAVEL: [&str; 12] = [
    "accept",
    "accept-language",
    "content-type",
    "content-encoding",
    "user-agent",
    "traceparent",
    "tracestate",
    "idempotency-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    // A job that is sent on goes round as a request does.
    hops::FIELD,
];

/// Fields of a request that say nothing to who gets it later: its framing, its connection, and under
/// which conditions, and of which part, its client wanted an answer.
const OF_THE_EXCHANGE: [&str; 9] = [
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
];

/// The attribute `headers`, for consumers of ours and of others.
pub(super) fn in_the_open(offered: &OffloadCandidate<'_>) -> Lines {
    let headers: &HeaderMap = offered.clean.headers;
    // What travels sealed, with all else, need not travel in the open besides.
    let is_open = offered.rule.replay_as == ReplayAs::Nobody;
    let listed = offered.rule.forward_headers.iter().map(String::as_str).filter(|_| is_open);
    let mut open = Lines::default();
    for name in TRAVEL.into_iter().chain(listed.filter(|name| !TRAVEL.contains(name))) {
        for value in headers.get_all(name) {
            open.push(name, value);
        }
    }
    with_kept(open, offered)
}

/// Every field that the app would have been sent.
pub(super) fn sealed(offered: &OffloadCandidate<'_>) -> Lines {
    let mut all = Lines::default();
    for (name, value) in offered.clean.headers.iter() {
        if !OF_THE_EXCHANGE.contains(&name.as_str()) {
            all.push(name.as_str(), value);
        }
    }
    with_kept(all, offered)
}

/// The app's own word takes the place of a client's field of that name.
fn with_kept(mut lines: Lines, offered: &OffloadCandidate<'_>) -> Lines {
    let is_said = |name: &str| offered.allowed.keep.iter().any(|(own, _)| own.as_str() == name);
    lines.0.retain(|(name, _)| !is_said(name));
    for (name, value) in &offered.allowed.keep {
        lines.push(name.as_str(), value);
    }
    lines
}
