//! Answers from the cache, from stored answers and from those still being received.

use super::context::Worker;
use crate::message::body::{Body, BodySource, Served};
use crate::message::coming::FillingBody;
use crate::message::fields::Map;
use crate::message::reply;
use crate::message::served_lines::added_lines;
use crate::request::sanitized::SanitizedRequest;
use crate::upstream::route_state::RouteState;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use memory_cache::fill::Reader;
use memory_cache::stored::Stored;
use rules::UnixMillis;
use rules::cache::conditional::{Selected, select};
use rules::cache::{CacheStatus, NotStored, Tier};
use rules::head::FieldsMut;
use std::sync::Arc;

/// Serves the stale answer instead of one that is no longer waited for.
pub(super) fn serve_stale(
    worker: &Worker,
    clean: &SanitizedRequest<'_>,
    route_state: &RouteState,
    stored: &Arc<Stored>,
) -> Response<Body> {
    let now = worker.context.clock.now();
    serve(worker, clean, route_state, stored, (stored.entry.stale_on_error(None, now), now))
}

pub(super) fn count(worker: &Worker, route_state: &RouteState, status: CacheStatus) {
    route_state.meters.cached(status.label());
    if let CacheStatus::Miss { stored: Err(reason), .. } = status {
        count_not_stored(worker, route_state, reason);
    }
}

pub(super) fn count_not_stored(worker: &Worker, route_state: &RouteState, reason: NotStored) {
    let labels = [&*route_state.name, reason.as_str()];
    worker.context.metrics.cache.not_stored.with_label_values(&labels).inc();
}

/// Serves a stored answer: in full, a range of it, or as a 304.
pub(super) fn serve(
    worker: &Worker,
    clean: &SanitizedRequest<'_>,
    route_state: &RouteState,
    stored: &Arc<Stored>,
    (status, now): (CacheStatus, UnixMillis),
) -> Response<Body> {
    count(worker, route_state, status);
    let length = stored.body.len() as u64;
    let selected = selected(clean, stored, Some(length));
    let age = stored.entry.age(now).as_secs();
    let body = match selected {
        Selected::Full if clean.may_pass() => return encoded(clean, stored, age, status),
        Selected::Full => whole(clean, stored).map_or_else(Body::empty, Body::full),
        Selected::Part { from, to } => Body::full(stored.body.slice(from as usize..=to as usize)),
        Selected::NotModified | Selected::Unsatisfiable => Body::empty(),
    };
    one_by_one(stored, (selected, Some(length)), body, (age, status))
}

/// Serves an answer that is still being received, as far as its length is known.
pub(super) fn serve_coming(
    worker: &Worker,
    clean: &SanitizedRequest<'_>,
    route_state: &RouteState,
    reader: Reader,
    (status, now): (CacheStatus, UnixMillis),
) -> Response<Body> {
    count(worker, route_state, status);
    let (head, length) = (Arc::clone(&reader.fill().head), reader.fill().length);
    let selected = selected(clean, &head, length);
    let age = head.entry.age(now).as_secs();
    let has_body = clean.method != Method::HEAD;
    let coming =
        |reader, encoded| Body::from(BodySource::Coming(Box::new(FillingBody { reader, encoded })));
    let body = match selected {
        Selected::Full if clean.may_pass() && !has_body => {
            return encoded(clean, &head, age, status);
        }
        Selected::Full if clean.may_pass() => {
            let added = added_lines(age, status);
            let mut response = Response::new(coming(reader, Some((Arc::clone(&head), added))));
            *response.status_mut() = status_of(&head);
            return response;
        }
        Selected::Full if has_body => coming(reader, None),
        Selected::Part { from, to } => coming(reader.part(from, to), None),
        _ => Body::empty(),
    };
    one_by_one(&head, (selected, length), body, (age, status))
}

/// Which part the request asks for, of an answer of this length. Without a length there are no
/// ranges: the answer must not wait for its end.
fn selected(clean: &SanitizedRequest<'_>, stored: &Stored, length: Option<u64>) -> Selected {
    clean.decide(|head| select(head, &stored.entry, stored.status, length))
}

/// Serves the answer with separate fields.
fn one_by_one(
    stored: &Stored,
    (selected, length): (Selected, Option<u64>),
    body: Body,
    (age, status): (u64, CacheStatus),
) -> Response<Body> {
    let length = length.unwrap_or_default();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code(selected.status(stored.status));
    let headers = response.headers_mut();
    *headers = stored.fields.headers();
    if selected != Selected::Full {
        Map(headers).remove_where(&|name| selected.leaves_out(name));
    }
    match selected {
        Selected::Full | Selected::NotModified => {}
        Selected::Part { from, to } => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from + 1));
            headers.insert(header::CONTENT_RANGE, content_range(&format!("{from}-{to}"), length));
        }
        Selected::Unsatisfiable => {
            headers.insert(header::CONTENT_RANGE, content_range("*", length));
        }
    }
    *response.body_mut() = body;
    let headers = response.headers_mut();
    headers.insert(header::AGE, HeaderValue::from(age));
    reply::add_cache_status(headers, status.member(Tier::Sidecar));
    response
}

/// Serves the whole answer, with its fields in the form in which they were encoded when it was
/// stored.
fn encoded(
    clean: &SanitizedRequest<'_>,
    stored: &Arc<Stored>,
    age: u64,
    status: CacheStatus,
) -> Response<Body> {
    let body = whole(clean, stored);
    let served = Served::new(Arc::clone(stored), body, age, status);
    let mut response = Response::new(BodySource::Served(Box::new(served)).into());
    *response.status_mut() = status_of(stored);
    response
}

fn whole(clean: &SanitizedRequest<'_>, stored: &Stored) -> Option<Bytes> {
    (clean.method != Method::HEAD).then(|| stored.body.clone())
}

fn status_of(stored: &Stored) -> StatusCode {
    code(stored.status)
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::OK)
}

fn content_range(range: &str, length: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes {range}/{length}"))
        .unwrap_or(HeaderValue::from_static("bytes */*"))
}
