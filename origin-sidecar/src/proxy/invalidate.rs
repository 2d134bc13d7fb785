//! Stored answers that an unsafe request makes obsolete.

use super::context::Worker;
use crate::message::body::Body;
use crate::message::reply;
use crate::request::inbound::Inbound;
use http::{HeaderName, Method, Response};
use memory_cache::purge::Target;
use memory_cache::store::Purge;
use rules::cache::invalidated;
use rules::{Fields, NoFields, ResponseHead, Rules};

/// Removes the stored answers that a request with this unsafe method makes obsolete.
pub(super) fn stored(
    worker: &Worker,
    rules: &Rules,
    (inbound, method): (&Inbound, &Method),
    response: &Response<Body>,
) {
    if rules.document.routes.iter().all(|route| route.cache.is_none()) {
        return;
    }
    let (status, fields) = (response.status().as_u16(), &Named(response));
    let visited = inbound.visitor_host();
    let request = inbound.head(method, &NoFields);
    for target in invalidated(&request, visited, &ResponseHead { status, fields }) {
        // Answers are stored under the host that the client asked for.
        purge(worker, rules, visited, &target);
    }
}

/// The fields of an answer, whether or not they have been parsed. Only the first line of each field
/// is read; those that matter here have just one.
struct Named<'a>(&'a Response<Body>);

impl Fields for Named<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let name = HeaderName::from_bytes(name.as_bytes());
        name.iter().filter_map(|name| reply::first(self.0, name)).for_each(visit);
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
