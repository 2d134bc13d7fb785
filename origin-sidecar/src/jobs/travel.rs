//! Selects the fields of a request that are stored with its job.

use super::lines::Lines;
use super::offered::OffloadCandidate;
use http::HeaderMap;
use rules::document::ReplayAs;
use rules::hops;

/// Fields that are stored in the clear. Queue and store are another trust zone, so credentials are
/// left out unless the route lists them, or are sealed.
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
    // A job that is forwarded can loop as a request can.
    hops::FIELD,
];

/// Fields that mean nothing to a later receiver: framing, hop-by-hop fields, and the conditions and
/// ranges of the client's request.
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

/// The attribute `headers`, for our own and foreign consumers.
pub(super) fn in_the_open(offered: &OffloadCandidate<'_>) -> Lines {
    let headers: &HeaderMap = offered.clean.headers;
    // Fields that are sealed need not be stored in the clear as well.
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

/// Every field that the application would have got.
pub(super) fn sealed(offered: &OffloadCandidate<'_>) -> Lines {
    let mut all = Lines::default();
    for (name, value) in offered.clean.headers.iter() {
        if !OF_THE_EXCHANGE.contains(&name.as_str()) {
            all.push(name.as_str(), value);
        }
    }
    with_kept(all, offered)
}

/// The application's own value replaces a client's field of that name.
fn with_kept(mut lines: Lines, offered: &OffloadCandidate<'_>) -> Lines {
    let is_said = |name: &str| offered.allowed.keep.iter().any(|(own, _)| own.as_str() == name);
    lines.0.retain(|(name, _)| !is_said(name));
    for (name, value) in &offered.allowed.keep {
        lines.push(name.as_str(), value);
    }
    lines
}
