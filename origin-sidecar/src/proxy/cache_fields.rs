//! Header fields on the way into the cache and past it.

use super::inbound::Inbound;
use crate::cache::store::Stored;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use rules::cache::{Cookies, Judgement, Plan};

/// The request as it came, when its answer is known not to be kept; cookies as for any other of the
/// route, so that the app does not see them now and then.
pub(super) fn passing(mut headers: HeaderMap, plan: &Plan<'_>) -> HeaderMap {
    set_cookies(&mut headers, &plan.cookies);
    headers
}

fn set_cookies(headers: &mut HeaderMap, cookies: &Cookies) {
    match cookies {
        Cookies::Only(Some(cookies)) => set(headers, header::COOKIE, cookies),
        Cookies::Only(None) | Cookies::Removed => {
            headers.remove(header::COOKIE);
        }
        Cookies::Untouched => {}
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// What the app may see: what the key says, and validators of what is stored.
pub(super) fn to_origin(
    mut headers: HeaderMap,
    inbound: &Inbound,
    plan: &Plan<'_>,
    stored: Option<&Stored>,
) -> HeaderMap {
    // One client's conditions, ranges and address are not everybody's.
    for name in [
        "if-none-match",
        "if-modified-since",
        "if-match",
        "if-unmodified-since",
        "if-range",
        "range",
        "x-forwarded-for",
        "x-real-ip",
        "cache-control",
        "pragma",
    ] {
        headers.remove(name);
    }
    set(&mut headers, HeaderName::from_static("x-forwarded-host"), &inbound.host);
    set(&mut headers, HeaderName::from_static("x-forwarded-proto"), inbound.scheme);
    set_cookies(&mut headers, &plan.cookies);
    if let Some(stored) = stored {
        if let Some(etag) = &stored.entry.etag {
            set(&mut headers, header::IF_NONE_MATCH, etag);
        }
        if let Some(modified) = &stored.entry.last_modified {
            set(&mut headers, header::IF_MODIFIED_SINCE, modified);
        }
    }
    headers
}

pub(super) fn to_store(mut headers: HeaderMap, judged: &Judgement) -> HeaderMap {
    for name in &judged.remove {
        headers.remove(name.as_str());
    }
    headers.remove(header::AGE);
    // hyper's values are slices of its read buffer, which each would keep in memory.
    for value in headers.values_mut() {
        if let Ok(own) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = own;
        }
    }
    if let Some(value) =
        judged.client_cache_control.as_deref().and_then(|value| HeaderValue::from_str(value).ok())
    {
        headers.insert(header::CACHE_CONTROL, value);
    }
    headers
}

/// Header fields of a 304 replace the stored ones (RFC 9111 section 3.2).
pub(super) fn merged(stored: &HeaderMap, new: &HeaderMap) -> HeaderMap {
    let mut merged = stored.clone();
    let kept = [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
    ];
    for name in new.keys().filter(|name| !kept.contains(name)) {
        merged.remove(name);
        for value in new.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    merged
}
