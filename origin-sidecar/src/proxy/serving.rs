//! Answers from the cache: of what is stored, and of what is still coming in.

use super::context::Worker;
use crate::message::body::{Body, Served};
use crate::message::coming::Coming;
use crate::message::reply;
use crate::message::served_lines::added_lines;
use crate::request::clean::Clean;
use crate::upstream::lane::Lane;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use memory_cache::fill::Reader;
use memory_cache::stored::Stored;
use rules::cache::conditional::{Selected, select};
use rules::cache::{CacheStatus, NotStored, Tier};
use std::sync::Arc;

/// In the place of an answer of this status, or of none.
pub(super) fn serve_stale(
    worker: &Worker,
    clean: &Clean<'_>,
    lane: &Lane,
    stored: &Arc<Stored>,
    status: Option<u16>,
) -> Response<Body> {
    let now = worker.context.clock.now();
    let status = CacheStatus::StaleOnError { ttl: past(stored, now), status };
    serve(worker, clean, lane, stored, (status, now))
}

fn past(stored: &Stored, now: u64) -> i64 {
    let past = stored.entry.age(now).saturating_sub(stored.entry.windows.fresh) / 1000;
    -i64::try_from(past).unwrap_or(i64::MAX)
}

pub(super) fn count(worker: &Worker, lane: &Lane, status: CacheStatus) {
    lane.meters.cached(status.label());
    if let CacheStatus::Miss { stored: Err(reason), .. } = status {
        count_not_stored(worker, lane, reason);
    }
}

pub(super) fn count_not_stored(worker: &Worker, lane: &Lane, reason: NotStored) {
    let labels = [&*lane.name, reason.as_str()];
    worker.context.metrics.cache.not_stored.with_label_values(&labels).inc();
}

/// Answers from a stored answer: in full, a part, or that nothing changed.
pub(super) fn serve(
    worker: &Worker,
    clean: &Clean<'_>,
    lane: &Lane,
    stored: &Arc<Stored>,
    (status, now): (CacheStatus, u64),
) -> Response<Body> {
    count(worker, lane, status);
    let length = stored.body.len() as u64;
    let selected = selected(clean, stored, Some(length));
    let age = stored.entry.age(now) / 1000;
    let body = match selected {
        Selected::Full if clean.may_pass() => return encoded(clean, stored, age, status),
        Selected::Full => whole(clean, stored).map_or(Body::Empty, Body::full),
        Selected::Part { from, to } => Body::full(stored.body.slice(from as usize..=to as usize)),
        Selected::NotModified | Selected::Unsatisfiable => Body::Empty,
    };
    one_by_one(stored, (selected, Some(length)), body, (age, status))
}

/// The same from an answer that is still coming in, as far as its length is known.
pub(super) fn serve_coming(
    worker: &Worker,
    clean: &Clean<'_>,
    lane: &Lane,
    reader: Reader,
    (status, now): (CacheStatus, u64),
) -> Response<Body> {
    count(worker, lane, status);
    let (head, length) = (Arc::clone(&reader.fill().head), reader.fill().length);
    let selected = selected(clean, &head, length);
    let age = head.entry.age(now) / 1000;
    let has_body = clean.method != Method::HEAD;
    let coming = |reader, encoded| Body::Coming(Box::new(Coming { reader, encoded }));
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
        _ => Body::Empty,
    };
    one_by_one(&head, (selected, length), body, (age, status))
}

/// What the request asks for of an answer of this length. Without one there are no parts: the answer must
/// not wait for its end.
fn selected(clean: &Clean<'_>, stored: &Stored, length: Option<u64>) -> Selected {
    clean.decide(|head| select(head, &stored.entry, stored.status, length))
}

/// With its fields one by one.
fn one_by_one(
    stored: &Stored,
    (selected, length): (Selected, Option<u64>),
    body: Body,
    (age, status): (u64, CacheStatus),
) -> Response<Body> {
    let length = length.unwrap_or_default();
    let mut response = match selected {
        Selected::Full => full(stored),
        Selected::NotModified => bare(304, stored),
        Selected::Part { from, to } => {
            let mut response = bare(206, stored);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from + 1));
            headers.insert(header::CONTENT_RANGE, content_range(&format!("{from}-{to}"), length));
            response
        }
        Selected::Unsatisfiable => {
            let mut response = bare(416, stored);
            response.headers_mut().insert(header::CONTENT_RANGE, content_range("*", length));
            response
        }
    };
    *response.body_mut() = body;
    let headers = response.headers_mut();
    headers.insert(header::AGE, HeaderValue::from(age));
    reply::add_cache_status(headers, status.member(Tier::Sidecar));
    response
}

/// The whole answer, with its fields as they were encoded when it was stored.
fn encoded(
    clean: &Clean<'_>,
    stored: &Arc<Stored>,
    age: u64,
    status: CacheStatus,
) -> Response<Body> {
    let body = whole(clean, stored);
    let served = Served::new(Arc::clone(stored), body, age, status);
    let mut response = Response::new(Body::Served(Box::new(served)));
    *response.status_mut() = status_of(stored);
    response
}

/// The whole answer, with its fields one by one.
fn full(stored: &Stored) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status_of(stored);
    *response.headers_mut() = stored.fields.headers();
    response
}

fn whole(clean: &Clean<'_>, stored: &Stored) -> Option<Bytes> {
    (clean.method != Method::HEAD).then(|| stored.body.clone())
}

fn status_of(stored: &Stored) -> StatusCode {
    StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK)
}

/// The stored fields but for the length, under another status.
fn bare(status: u16, stored: &Stored) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    *response.headers_mut() = stored.fields.headers();
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}

fn content_range(range: &str, length: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes {range}/{length}"))
        .unwrap_or(HeaderValue::from_static("bytes */*"))
}
