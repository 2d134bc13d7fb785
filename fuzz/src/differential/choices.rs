//! Differences that the RFCs leave to a cache, and when exactly ours makes them.

use super::view::View;
use super::{Case, Question, Used, Verdict};

pub struct Choice {
    pub name: &'static str,
    pub question: Question,
    pub is_made: fn(&Case, &Verdict, &Verdict) -> bool,
}

/// Names of what is not stored are those of `NotStored` and `Bypass`.
#[rustfmt::skip]
pub const ALL: [Choice; 15] = [
    // RFC 9111 section 7.3 warns of it, section 3 does not forbid it.
    Choice { name: "set-cookie", question: Question::Stored, is_made: |case, ours, theirs| refuses("set-cookie", ours, theirs) && case.answer.fields.has("set-cookie") },
    // What the app was told by a cookie is nobody else's, unless the rule says so.
    Choice { name: "cookie", question: Question::Stored, is_made: |case, ours, theirs| refuses("cookie", ours, theirs) && case.first.fields.has("cookie") },
    // RFC 9111 section 4.1: never matches, so it is of no use.
    Choice { name: "vary-star", question: Question::Stored, is_made: |_, ours, theirs| refuses("vary-star", ours, theirs) && theirs.stored.as_ref().is_ok_and(|used| !used.is_selected) },
    // Of no use either: neither fresh nor anything to ask again with.
    Choice { name: "no-lifetime", question: Question::Stored, is_made: |case, ours, theirs| refuses("no-lifetime", ours, theirs) && theirs.stored.as_ref().is_ok_and(|used| used.left == 0) && !case.answer.fields.has("etag") },
    // An endless answer.
    Choice { name: "event-stream", question: Question::Stored, is_made: |_, ours, theirs| refuses("event-stream", ours, theirs) },
    // Cache deception.
    Choice { name: "content-type-mismatch", question: Question::Stored, is_made: |case, ours, theirs| refuses("content-type-mismatch", ours, theirs) && case.first.target.ends_with(".css") },
    // RFC 9110 section 7.8: not a request for what is here.
    Choice { name: "upgrade", question: Question::Stored, is_made: |case, ours, theirs| refuses("upgrade", ours, theirs) && case.first.fields.has("upgrade") },
    // RFC 9110 section 9.3.1: a GET's body means nothing, but apps read it.
    Choice { name: "body", question: Question::Stored, is_made: |case, ours, theirs| refuses("body", ours, theirs) && case.first.fields.has("content-length") },
    // RFC 9110 section 9.3.3 lets a POST's answer serve later GETs.
    Choice { name: "method", question: Question::Stored, is_made: |case, ours, theirs| refuses("method", ours, theirs) && case.first.method == "POST" },
    // RFC 9111 section 4.2.2: a tenth of the time since Last-Modified; ours is a day at most.
    Choice { name: "heuristic-day", question: Question::Left, is_made: |case, ours, theirs| is_guessed(case) && both(ours, theirs).is_some_and(|(ours, theirs)| ours.left <= 86_400 && theirs.left > ours.left) },
    // Ours counts that tenth in milliseconds.
    Choice { name: "heuristic-second", question: Question::Fresh, is_made: |case, ours, theirs| is_guessed(case) && both(ours, theirs).is_some_and(|(ours, _)| ours.is_fresh && ours.left == case.later) },
    // RFC 9111 section 4.1 lets a cache know what a field means: order and case of preferences.
    Choice { name: "preferences", question: Question::Selected, is_made: |case, ours, theirs| is_selected(ours, theirs, true) && differs(case, &["accept-language", "accept-encoding"]) },
    // What anybody was shown is for somebody with credentials where the app says so.
    Choice { name: "authorization", question: Question::Selected, is_made: |case, ours, theirs| is_selected(ours, theirs, false) && case.second.fields.has("authorization") },
    // RFC 9111 section 5.2.2.4 forbids what the peer does when a client says max-stale.
    Choice { name: "no-cache-is-strict", question: Question::Stale, is_made: |_, ours, theirs| both(ours, theirs).is_some_and(|(ours, _)| !ours.is_good_stale && ours.left == 0) },
    // RFC 5861 lets a cache choose: a stored failure shields the app for its lifetime, and stands in for nothing.
    Choice { name: "failures-never-stand-in", question: Question::Stale, is_made: |case, ours, theirs| case.answer.status >= 500 && both(ours, theirs).is_some_and(|(ours, _)| !ours.is_good_stale) },
];

fn refuses(name: &str, ours: &Verdict, theirs: &Verdict) -> bool {
    ours.stored == Err(name_of(ours)) && name_of(ours) == name && theirs.stored.is_ok()
}

fn name_of(verdict: &Verdict) -> &'static str {
    verdict.stored.as_ref().err().copied().unwrap_or_default()
}

fn both<'v>(ours: &'v Verdict, theirs: &'v Verdict) -> Option<(&'v Used, &'v Used)> {
    ours.stored.as_ref().ok().zip(theirs.stored.as_ref().ok())
}

/// The app gave no lifetime.
fn is_guessed(case: &Case) -> bool {
    let answer = View::of(case).answer;
    let is_age = |name: &[u8]| {
        name.eq_ignore_ascii_case(b"max-age") || name.eq_ignore_ascii_case(b"s-maxage")
    };
    let says_age = answer.control.iter().flatten().any(|(name, _)| is_age(name));
    answer.first("last-modified").is_some() && answer.first("expires").is_none() && !says_age
}

fn is_selected(ours: &Verdict, theirs: &Verdict, by_us: bool) -> bool {
    both(ours, theirs)
        .is_some_and(|(ours, theirs)| ours.is_selected == by_us && theirs.is_selected != by_us)
}

/// Whether the two requests say something else in one of these fields.
fn differs(case: &Case, names: &[&str]) -> bool {
    let all = |request: &crate::message::Request, name: &str| {
        let own = request.fields.0.iter().filter(|(own, _)| own == name);
        own.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    names.iter().any(|name| all(&case.first, name) != all(&case.second, name))
}
