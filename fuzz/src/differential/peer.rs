//! The peer's verdict.

use super::view::{Shown, View};
use super::{Used, Verdict};
use crate::message::NOW;
use http::{HeaderName, HeaderValue};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn moment(seconds_after: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(NOW.0) + Duration::from_secs(seconds_after)
}

pub fn ask(view: &View) -> Verdict {
    let first = request(view, &view.first);
    let mut answer = http::Response::new(());
    *answer.status_mut() = http::StatusCode::from_u16(view.status).unwrap_or_default();
    fill(answer.headers_mut(), &view.answer);
    let policy = CachePolicy::new_options(&first, &answer, moment(0), CacheOptions::default());
    if !policy.is_storable() {
        return Verdict { stored: Err("not storable") };
    }
    // Without the limits that a client may set: ours lets none.
    let asks_again = request(view, &limitless(&view.first));
    let mut takes_stale = request(view, &limitless(&view.first));
    takes_stale.headers_mut().insert("cache-control", HeaderValue::from_static("max-stale"));
    let is_fresh = |request: &http::Request<()>, at: u64| {
        policy.before_request(request, moment(at)).satisfies_without_revalidation()
    };
    let second = request(view, &limitless(&view.second));
    let is_selected = match policy.before_request(&second, moment(view.later)) {
        BeforeRequest::Fresh(_) => true,
        BeforeRequest::Stale { matches, .. } => matches,
    };
    let left = policy.time_to_live(moment(0)).as_secs();
    Verdict {
        stored: Ok(Used {
            left,
            age: policy.age(moment(view.later)).as_secs(),
            is_fresh: is_fresh(&asks_again, view.later),
            is_selected,
            is_good_stale: is_fresh(&takes_stale, left.saturating_add(1)),
        }),
    }
}

fn limitless(shown: &Shown) -> Shown {
    let others = shown.others.iter().filter(|(name, _)| name != "pragma");
    Shown { control: Vec::new(), others: others.cloned().collect() }
}

fn request(view: &View, shown: &Shown) -> http::Request<()> {
    let mut request = http::Request::new(());
    *request.method_mut() = view.method.parse().unwrap_or_default();
    *request.uri_mut() = format!("http://h{}", view.target).parse().unwrap_or_default();
    fill(request.headers_mut(), shown);
    request
}

fn fill(headers: &mut http::HeaderMap, shown: &Shown) {
    for (name, value) in shown.lines() {
        let name = name.parse::<HeaderName>();
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&value)) {
            headers.append(name, value);
        }
    }
}
