//! `/_spillway/jobs/{id}`: status, result and cancellation, for the caller the job belongs to.
//! Any pod answers; everything is derived from what is in the store.

use super::accept::wait_for;
use super::receipt::is_page;
use super::record::{self, Accepted, Lease, Outcome, Terminal, lease_key, outcome_key};
use super::{auth, id, page};
use crate::app::App;
use crate::body::Body;
use crate::fields::View;
use crate::proxy::handle::{Clean, Refused};
use crate::proxy::inbound::Inbound;
use crate::reply;
use crate::results::{Condition, PutError, Results, StoreError};
use crate::secrets::Secrets;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use rules::cache::conditional::{Selected, select};
use rules::cache::{Entry, Windows};
use rules::document::{Offload, Route};
use rules::{Problem, Rules};
use std::sync::Arc;
use std::time::Duration;

pub struct Asked<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub inbound: &'a Inbound,
    /// What follows `/jobs/`: an id, or an id and `/result`.
    pub job: &'a str,
}

/// What is known of a job.
pub(super) enum State {
    Queued,
    Running(u64),
    Ended(Outcome),
}

pub async fn answer(
    app: &Arc<App>,
    rules: &Rules,
    asked: Asked<'_>,
) -> Result<Response<Body>, Refused> {
    let (id, part) = asked.job.split_once('/').unwrap_or((asked.job, ""));
    let unknown = || (Problem::JobUnknown, Problem::JobUnknown.title().to_owned());
    let (Some(results), Some(secrets)) = (&app.bindings.results, &app.secrets) else {
        return Err(unknown());
    };
    if !id::is_plausible(id) {
        return Err(unknown());
    }
    let owned =
        owner(rules, results.as_ref(), secrets, id, asked.headers).await.map_err(unavailable)?;
    let (route, offload, at) = owned.ok_or_else(unknown)?;
    let ttl = rules.document.queues.get(&offload.queue).map_or(u64::MAX, |queue| queue.result_ttl);
    if app.clock.now() > at.saturating_add(ttl) {
        return Err((Problem::JobExpired, Problem::JobExpired.title().to_owned()));
    }
    let view = View(asked.headers);
    let preference = rules::offload::prefer(&asked.inbound.head(asked.method, &view));
    if let Some(seconds) = preference.wait {
        wait_for(results.as_ref(), id, Duration::from_secs(seconds)).await;
    }
    let state = state(app, results.as_ref(), id).await.map_err(unavailable)?;
    match (asked.method, part) {
        (&Method::GET | &Method::HEAD, "") if is_page(asked.headers) => {
            Ok(page::answer(rules, offload, id, &state))
        }
        (&Method::GET | &Method::HEAD, "") => Ok(report(rules, route, id, &state)),
        (&Method::GET | &Method::HEAD, "result") => {
            result(results.as_ref(), id, state, &asked).await
        }
        (&Method::DELETE, "") => cancel(app, results.as_ref(), id, state).await,
        _ => Err((Problem::NoRoute, format!("{} is not possible here", asked.method))),
    }
}

/// The app's own answer for a client that waited, if the job has ended with one.
pub(super) async fn finished(
    app: &App,
    results: &dyn Results,
    id: &str,
    clean: &Clean,
) -> Option<Response<Body>> {
    let state = state(app, results, id).await.ok()?;
    let (method, headers) = (&Method::GET, &HeaderMap::new());
    let asked = Asked { method, headers, inbound: &clean.inbound, job: id };
    result(results, id, state, &asked).await.ok()
}

fn unavailable(error: StoreError) -> Refused {
    (Problem::OffloadUnavailable, error.to_string())
}

type Owned<'r> = (&'r Route, &'r Offload, u64);

/// The route of the job and the time it was accepted, if it belongs to the one who asks. Another
/// caller's job looks exactly like none.
async fn owner<'r>(
    rules: &'r Rules,
    results: &dyn Results,
    secrets: &Secrets,
    id: &str,
    headers: &HeaderMap,
) -> Result<Option<Owned<'r>>, StoreError> {
    let offloads =
        rules.document.routes.iter().filter_map(|route| Some((route, route.offload.as_ref()?)));
    if !id.starts_with("k1.") {
        let mut found = offloads.filter_map(|(route, offload)| {
            let caller = auth::identity(&offload.auth, headers)?;
            Some((route, offload, id::verify(secrets, id, &route.name, &caller)?))
        });
        return Ok(found.next());
    }
    let Some((accepted, _)) = record::read::<Accepted>(results, &record::accepted_key(id)).await?
    else {
        return Ok(None);
    };
    let mut found = offloads.filter(|(route, offload)| {
        let caller = auth::identity(&offload.auth, headers);
        route.name == accepted.route
            && caller.is_some_and(|caller| caller.is(secrets, &accepted.owner))
    });
    Ok(found.next().map(|(route, offload)| (route, offload, accepted.at)))
}

async fn state(app: &App, results: &dyn Results, id: &str) -> Result<State, StoreError> {
    if let Some((outcome, _)) = record::read::<Outcome>(results, &outcome_key(id)).await? {
        return Ok(State::Ended(outcome));
    }
    let Some((lease, _)) = record::read::<Lease>(results, &lease_key(id)).await? else {
        return Ok(State::Queued);
    };
    if lease.until > app.clock.now() {
        return Ok(State::Running(lease.attempt));
    }
    if !lease.adopted {
        return Ok(State::Queued);
    }
    // The process that executed the request is gone: nobody will ever know how it ended.
    let outcome = Outcome {
        id: id.to_owned(),
        status: Terminal::Failed,
        reason: Some("unknown".to_owned()),
        answer: None,
        attempt: lease.attempt,
        finished: app.clock.now(),
    };
    match record::write(results, &outcome_key(id), &outcome, Condition::IfAbsent).await {
        Ok(_) => Ok(State::Ended(outcome)),
        Err(PutError::Precondition) => {
            let found = record::read::<Outcome>(results, &outcome_key(id)).await?;
            Ok(found.map_or(State::Queued, |(outcome, _)| State::Ended(outcome)))
        }
        Err(PutError::Failed(error)) => Err(error),
    }
}

fn report(rules: &Rules, route: &Route, id: &str, state: &State) -> Response<Body> {
    let location = format!("{}/jobs/{id}", rules.document.jobs.base);
    let mut body = serde_json::json!({ "id": id, "route": route.name, "location": location });
    let mut is_pending = true;
    match state {
        State::Queued => body["status"] = "queued".into(),
        State::Running(attempt) => {
            body["status"] = "running".into();
            body["attempt"] = (*attempt).into();
        }
        State::Ended(outcome) => {
            is_pending = false;
            body["status"] = outcome.status.as_str().into();
            body["attempt"] = outcome.attempt.into();
            if let Some(reason) = &outcome.reason {
                body["reason"] = reason.clone().into();
            }
            if outcome.answer.is_some() {
                body["result"] = format!("{location}/result").into();
            }
        }
    }
    let mut response = reply::json(200, &body);
    if is_pending {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The app's own status, headers and body.
async fn result(
    results: &dyn Results,
    id: &str,
    state: State,
    asked: &Asked<'_>,
) -> Result<Response<Body>, Refused> {
    let State::Ended(Outcome { answer: Some(answer), .. }) = state else {
        return Err((Problem::JobUnfinished, Problem::JobUnfinished.title().to_owned()));
    };
    let etag = results.head(&answer.object).await.map_err(unavailable)?.map(|(etag, _)| etag);
    let Some(etag) = etag else {
        return Err((Problem::JobExpired, "the result is gone".to_owned()));
    };
    let windows =
        Windows { fresh: 0, stale_while_revalidate: 0, stale_if_error: 0, max_staleness: None };
    let entry = Entry {
        received: 0,
        age_at_receipt: 0,
        windows,
        etag: Some(etag.clone()),
        last_modified: None,
        vary: Vec::new(),
    };
    let selected = {
        let view = View(asked.headers);
        let head = asked.inbound.head(asked.method, &view);
        if answer.code == 200 { select(&head, &entry, answer.length) } else { Selected::Full }
    };
    let (code, range) = match selected {
        Selected::Full => (answer.code, None),
        Selected::NotModified => (304, None),
        Selected::Part { from, to } => (206, Some((from, to))),
        Selected::Unsatisfiable => (416, None),
    };
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    result_headers(response.headers_mut(), &answer.headers, id, &etag);
    if let Some((from, to)) = range {
        let value = format!("bytes {from}-{to}/{}", answer.length);
        insert(response.headers_mut(), "content-range", &value);
    }
    let has_body = matches!(selected, Selected::Full | Selected::Part { .. });
    if has_body && asked.method == Method::GET && answer.length > 0 {
        let object = results.get(&answer.object, range).await.map_err(unavailable)?;
        let length = range.map_or(answer.length, |(from, to)| to - from + 1);
        insert(response.headers_mut(), "content-length", &length.to_string());
        *response.body_mut() = object.map_or(Body::Empty, |object| Body::boxed(object.body));
    }
    Ok(response)
}

fn result_headers(headers: &mut HeaderMap, stored: &[(String, String)], id: &str, etag: &str) {
    for (name, value) in stored {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value))
        {
            headers.append(name, value);
        }
    }
    insert(headers, "cache-control", "private, no-store");
    insert(headers, "etag", etag);
    insert(headers, "accept-ranges", "bytes");
    insert(headers, "x-job-id", id);
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A queued job is dropped when it is received; a running one's connection is closed.
async fn cancel(
    app: &App,
    results: &dyn Results,
    id: &str,
    state: State,
) -> Result<Response<Body>, Refused> {
    if let State::Ended(outcome) = &state {
        return Ok(reply::json(
            200,
            &serde_json::json!({ "id": id, "status": outcome.status.as_str() }),
        ));
    }
    let outcome = Outcome {
        id: id.to_owned(),
        status: Terminal::Cancelled,
        reason: Some("caller".to_owned()),
        answer: None,
        attempt: 0,
        finished: app.clock.now(),
    };
    let status = match record::write(results, &outcome_key(id), &outcome, Condition::IfAbsent).await
    {
        Ok(_) => "cancelled".to_owned(),
        Err(PutError::Precondition) => "finished".to_owned(),
        Err(PutError::Failed(error)) => return Err(unavailable(error)),
    };
    Ok(reply::json(200, &serde_json::json!({ "id": id, "status": status })))
}
