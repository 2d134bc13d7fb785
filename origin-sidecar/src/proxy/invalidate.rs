//! Stored answers that an unsafe request makes obsolete.

use super::context::Worker;
use crate::message::body::Body;
use crate::message::reply;
use crate::request::inbound::Inbound;
use http::{Response, header};
use memory_cache::purge::Target;
use memory_cache::store::Purge;
use rules::Rules;

/// An unsafe request that succeeded makes stored answers of its target obsolete, and of what it says
/// has changed besides (RFC 9111 section 4.4).
pub(super) fn stored(worker: &Worker, rules: &Rules, inbound: &Inbound, response: &Response<Body>) {
    if rules.document.routes.iter().all(|route| route.cache.is_none()) {
        return;
    }
    purge(worker, rules, &inbound.host, &inbound.target);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let location = reply::first(response, &name).and_then(|value| str::from_utf8(value).ok());
        let Some(uri) = location.and_then(|location| location.parse::<http::Uri>().ok()) else {
            continue;
        };
        // Another host's answers are not this one's to throw away.
        let is_own = uri.authority().is_none_or(|own| own.as_str() == inbound.host);
        if let Some(target) = uri.path_and_query().filter(|_| is_own) {
            purge(worker, rules, &inbound.host, target.as_str());
        }
    }
}

fn purge(worker: &Worker, rules: &Rules, host: &str, target: &str) {
    let Ok(target) = rules::path::normalize(target) else { return };
    let caching = rules.document.routes.iter().filter_map(|route| route.cache.as_ref());
    let store = &worker.context.store;
    for url in rules::cache::urls(caching, host, &target) {
        store.purge(&Target::Url(store.url(&url)), Purge::Hard);
    }
}
