//! `/_spillway/jobs/{id}`: status, result and cancellation, for the caller the job belongs to.
//! Any pod answers; everything is derived from what is in the store.

use super::receipt::is_page;
use super::record::{
    self, Accepted, Adopted, End, Lease, Outcome, Progress, adopted_key, lease_key,
};
use super::{auth, deliver, expire, id, page, progress, watch};
use crate::app::App;
use crate::body::Body;
use crate::fields::View;
use crate::proxy::handle::Refused;
use crate::proxy::inbound::Inbound;
use crate::reply;
use crate::results::{Results, StoreError};
use crate::secrets::Secrets;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use rules::document::{Delivery, Offload, Route};
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
    Running { attempt: u64, progress: Option<Progress> },
    Ended(Outcome),
}

impl State {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running { .. } => "running",
            Self::Ended(outcome) => outcome.status.as_str(),
        }
    }
}

impl State {
    /// Whether nothing is owed to the caller any more. Of a job that is not known to run or to have
    /// ended, nobody can tell whether it still waits or was forgotten.
    fn has_expired(&self, accepted: u64, ttl: u64, now: u64) -> bool {
        let from = match self {
            Self::Queued => accepted,
            Self::Running { .. } => return false,
            Self::Ended(outcome) => outcome.finished.max(accepted),
        };
        now > from.saturating_add(ttl)
    }
}

pub async fn answer(
    app: &Arc<App>,
    rules: &Arc<Rules>,
    asked: Asked<'_>,
    body: Body,
) -> Result<Response<Body>, Refused> {
    let (id, part) = asked.job.split_once('/').unwrap_or((asked.job, ""));
    let (Some(results), Some(secrets)) = (&app.bindings.results, &app.secrets) else {
        return Err(unknown());
    };
    if !id::is_plausible(id) {
        return Err(unknown());
    }
    if (asked.method, part) == (&Method::PUT, "progress") {
        return progress::report(app, id, asked.headers, body).await;
    }
    let owned =
        owner(rules, results.as_ref(), secrets, id, asked.headers).await.map_err(unavailable)?;
    let (route, offload, at) = owned.ok_or_else(unknown)?;
    let queue = rules.document.queues.get(&offload.queue);
    let is_get = matches!(*asked.method, Method::GET | Method::HEAD);
    let job = Job { app, rules, results, route, id };
    let mut known = state(app, results.as_ref(), id).await.map_err(unavailable)?;
    let ttl = queue.map_or(u64::MAX, |queue| queue.result_ttl);
    // Before anybody waits: what was forgotten never ends.
    if known.has_expired(at, ttl, app.clock.now()) {
        return Err((Problem::JobExpired, Problem::JobExpired.title().to_owned()));
    }
    if is_get && part.is_empty() && watch::is_stream(asked.headers) {
        return job.stream(&asked, &known);
    }
    let waited = job.wait(&asked).await;
    if waited.is_some() {
        known = state(app, results.as_ref(), id).await.map_err(unavailable)?;
    }
    let state = known;
    let mut response = match part {
        "" if is_get && is_page(asked.headers) => page::answer(rules, offload, id, &state),
        "" if is_get => job.answer(&state),
        "" if asked.method == Method::DELETE => cancel(app, results.as_ref(), id, state).await?,
        // A page without scripts has forms only.
        "cancel" if asked.method == Method::POST => {
            cancel(app, results.as_ref(), id, state).await?;
            to_page(rules, id)
        }
        "result" if is_get => {
            let delivery = queue.map_or(Delivery::Proxy, |queue| queue.result);
            deliver::result(results.as_ref(), id, state, &asked, delivery).await?
        }
        _ => return Err((Problem::NoRoute, format!("{} is not possible here", asked.method))),
    };
    if let Some(applied) = waited {
        response.headers_mut().insert("preference-applied", applied);
    }
    Ok(response)
}

/// A job of the one who asks.
struct Job<'a> {
    app: &'a Arc<App>,
    rules: &'a Arc<Rules>,
    results: &'a Arc<dyn Results>,
    route: &'a Route,
    id: &'a str,
}

impl Job<'_> {
    /// `Prefer: wait=N`, and that it was heard.
    async fn wait(&self, asked: &Asked<'_>) -> Option<HeaderValue> {
        let view = View::of(asked.headers);
        let preference = rules::offload::prefer(&asked.inbound.head(asked.method, &view));
        let seconds = preference.wait?;
        let limit = Duration::from_secs(seconds);
        let is_waited = watch::end(self.app, self.results.as_ref(), self.id, limit).await;
        HeaderValue::from_str(&format!("wait={seconds}")).ok().filter(|_| is_waited)
    }

    fn answer(&self, state: &State) -> Response<Body> {
        let base = &self.rules.document.jobs.base;
        let mut response = reply::json(200, &report(base, &self.route.name, self.id, state));
        if !matches!(state, State::Ended(_)) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn stream(&self, asked: &Asked<'_>, state: &State) -> Result<Response<Body>, Refused> {
        let (app, results) = (self.app, self.results);
        let last = asked.headers.get("last-event-id").and_then(|last| last.to_str().ok());
        // The browser comes again after each end of a stream; 204 tells it not to.
        if matches!(state, State::Ended(_)) && last == Some(state.name()) {
            return Ok(reply::text(204, ""));
        }
        let (base, route) = (self.rules.document.jobs.base.clone(), self.route.name.clone());
        let id = self.id.to_owned();
        let report = move |state: &State| report(&base, &route, &id, state);
        let response = watch::stream(app, results, self.id, report);
        response
            .ok_or_else(|| (Problem::TooManyWatchers, Problem::TooManyWatchers.title().to_owned()))
    }
}

fn unknown() -> Refused {
    (Problem::JobUnknown, Problem::JobUnknown.title().to_owned())
}

fn to_page(rules: &Rules, id: &str) -> Response<Body> {
    let mut response = reply::text(303, "");
    if let Ok(page) = HeaderValue::from_str(&format!("{}/jobs/{id}", rules.document.jobs.base)) {
        response.headers_mut().insert(header::LOCATION, page);
    }
    response
}

pub(super) fn unavailable(error: StoreError) -> Refused {
    // What the store said is for the log: it may name accounts and addresses.
    tracing::warn!(%error, "the result store failed");
    (Problem::OffloadUnavailable, error.name.to_owned())
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

pub(super) async fn state(app: &App, results: &dyn Results, id: &str) -> Result<State, StoreError> {
    if let End::Is(outcome) = record::end(results, id).await? {
        return Ok(State::Ended(outcome));
    }
    let now = app.clock.now();
    if id::Kind::of(id) == id::Kind::Adopted {
        return match record::read::<Adopted>(results, &adopted_key(id)).await? {
            Some((lease, _)) if !expire::is_lost(&lease, now) => {
                Ok(State::Running { attempt: 1, progress: None })
            }
            // The process that executed the request is gone: nobody will ever know how it ended.
            _ => expire::lost(results, id, now).await.map(State::Ended),
        };
    }
    match record::read::<Lease>(results, &lease_key(id)).await? {
        Some((lease, _)) if lease.until > now => {
            let progress = record::read::<Progress>(results, &record::progress_key(id)).await?;
            let progress = progress.map(|(progress, _)| progress);
            Ok(State::Running { attempt: lease.attempt, progress })
        }
        _ => Ok(State::Queued),
    }
}

/// What a GET of the job answers.
fn report(base: &str, route: &str, id: &str, state: &State) -> serde_json::Value {
    let location = format!("{base}/jobs/{id}");
    let mut body = serde_json::json!({
        "id": id, "route": route, "location": location, "status": state.name(),
    });
    match state {
        State::Queued => {}
        State::Running { attempt, progress } => {
            body["attempt"] = (*attempt).into();
            if let Some(progress) = progress {
                body["progress"] = serde_json::json!(progress);
            }
        }
        State::Ended(outcome) => {
            body["attempt"] = outcome.attempt.into();
            if let Some(reason) = &outcome.reason {
                body["reason"] = reason.clone().into();
            }
            if outcome.answer.is_some() {
                body["result"] = format!("{location}/result").into();
            }
        }
    }
    body
}

/// A queued job is dropped when it is received; a running one's connection is closed.
async fn cancel(
    app: &App,
    results: &dyn Results,
    id: &str,
    state: State,
) -> Result<Response<Body>, Refused> {
    let status = match state {
        State::Ended(outcome) => outcome.status,
        _ => expire::cancel(results, id, app.clock.now()).await.map_err(unavailable)?,
    };
    Ok(reply::json(200, &serde_json::json!({ "id": id, "status": status.as_str() })))
}
