//! Delivers the result of a job: the application's own status, headers and body.

use super::context::JobContext;
use super::lines::{Lines, Value};
use super::record::{Outcome, StoredAnswer};
use super::state;
use super::state::{JobRequest, JobState, unavailable};
use crate::message::body::Body;
use crate::message::fields::View;
use crate::message::refused::Refused;
use crate::message::reply;
use crate::request::sanitized::SanitizedRequest;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use rules::cache::conditional::{Selected, select};
use rules::cache::{Entry, Windows};
use rules::document::Delivery;
use rules::{Millis, Problem, UnixMillis};
use std::time::Duration;
use stores::results::{Results, StoreError};

/// How long a signed URL of a result is valid: long enough to follow it, too short to share it.
const REDIRECT_LIFE: Duration = Duration::from_secs(300);
/// Fields of the application's answer that S3 can be told to send.
const PASSED_BY_STORE: [&str; 4] =
    ["content-type", "content-disposition", "content-encoding", "content-language"];

/// Answers with the application's own status, headers and body. `is_open` where the job has no
/// owner.
pub(super) async fn result(
    results: &dyn Results,
    id: &str,
    state: JobState,
    asked: &JobRequest<'_>,
    (delivery, is_open): (Delivery, bool),
) -> Result<Response<Body>, Refused> {
    if let JobState::Ended(Outcome { answer: None, answered: true, .. }) = &state {
        let detail = "its client was given the answer, which is more than is kept of one";
        return Err(Refused::new(Problem::AlreadyAnswered, detail.to_owned()));
    }
    let JobState::Ended(Outcome { answer: Some(answer), .. }) = state else {
        return Err(Refused::from(Problem::JobUnfinished));
    };
    if delivery == Delivery::Redirect
        && answer.code == 200
        && let Some(url) = address(results, &answer).await.map_err(unavailable)?
    {
        return Ok(redirect(&url, id));
    }
    let etag = results.head(&answer.object).await.map_err(unavailable)?.map(|(etag, _)| etag);
    let Some(etag) = etag else {
        return Err(Refused::new(Problem::JobExpired, "the result is gone"));
    };
    let entry = Entry {
        received: UnixMillis::default(),
        age_at_receipt: Millis::ZERO,
        windows: Windows::fresh_only(Millis::ZERO),
        etag: Some(etag.clone()),
        last_modified: None,
        vary: Vec::new(),
        is_shared: false,
        language: None,
    };
    let selected = {
        let view = View::of(asked.headers);
        let head = asked.inbound.head(asked.method, &view);
        select(&head, &entry, answer.code, Some(answer.length))
    };
    let (code, range) = match selected {
        Selected::Full => (answer.code, None),
        Selected::NotModified => (304, None),
        Selected::Part { from, to } => (206, Some((from, to))),
        Selected::Unsatisfiable => (416, None),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    result_headers(response.headers_mut(), &answer.headers, id, &etag);
    if is_open {
        // Anybody who knows the URL can be lured to it, and its starter may have made the
        // application reflect anything.
        let sandbox = HeaderValue::from_static("sandbox");
        response.headers_mut().append(header::CONTENT_SECURITY_POLICY, sandbox);
    }
    if let Some((from, to)) = range {
        let value = format!("bytes {from}-{to}/{}", answer.length);
        insert(response.headers_mut(), "content-range", &value);
    }
    if matches!(selected, Selected::Unsatisfiable) {
        let value = format!("bytes */{}", answer.length);
        insert(response.headers_mut(), "content-range", &value);
    }
    let has_body = matches!(selected, Selected::Full | Selected::Part { .. });
    if has_body && asked.method == Method::GET && answer.length > 0 {
        let object = results.get(&answer.object, range).await.map_err(unavailable)?;
        let length = range.map_or(answer.length, |(from, to)| to - from + 1);
        insert(response.headers_mut(), "content-length", &length.to_string());
        *response.body_mut() = object.map_or_else(Body::empty, |object| Body::boxed(object.body));
    }
    Ok(response)
}

/// A signed URL of the store, with the application's media type and file name.
async fn address(
    results: &dyn Results,
    answer: &StoredAnswer,
) -> Result<Option<String>, StoreError> {
    let is_passed = |name: &str| PASSED_BY_STORE.contains(&name);
    let passed = answer.headers.iter().filter(|(name, _)| is_passed(name));
    let passed =
        passed.filter_map(|(name, value)| Some((name.clone(), value.as_text()?.to_owned())));
    let headers: Vec<(String, String)> = passed.collect();
    results.signed_url(&answer.object, REDIRECT_LIFE, &headers).await
}

fn redirect(url: &str, id: &str) -> Response<Body> {
    let mut response = reply::text(303, "");
    insert(response.headers_mut(), "location", url);
    insert(response.headers_mut(), "x-job-id", id);
    response
}

fn result_headers(headers: &mut HeaderMap, stored: &[(String, Value)], id: &str, etag: &str) {
    Lines(stored.to_vec()).put_into(headers);
    insert(headers, "cache-control", "no-store");
    insert(headers, "x-content-type-options", "nosniff");
    // The URL contains the job's id. An application that reveals even less in `Referrer-Policy`
    // keeps its own value.
    if headers.get(header::REFERRER_POLICY).is_none_or(|policy| policy != "no-referrer") {
        insert(headers, "referrer-policy", "same-origin");
    }
    insert(headers, "etag", etag);
    insert(headers, "accept-ranges", "bytes");
    insert(headers, "x-job-id", id);
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The application's answer for a client that waited, if the job has ended with one.
pub(super) async fn finished(
    context: &JobContext,
    results: &dyn Results,
    id: &str,
    clean: &SanitizedRequest<'_>,
) -> Option<Response<Body>> {
    let state = state::state(context, results, id).await.ok()?;
    let (method, headers) = (&Method::GET, &HeaderMap::new());
    let asked = JobRequest { method, headers, inbound: &clean.inbound, job: id };
    result(results, id, state, &asked, (Delivery::Proxy, false)).await.ok()
}
