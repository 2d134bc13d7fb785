//! `/_spillway/jobs/{id}`: status, result and cancellation, for the caller who owns the job. Any
//! pod can answer, because all state is in the store.

use super::auth::{JobOwner, Still};
use super::context::{JobContext, JobWorker};
use super::ownership::{Owned, bound, login, owned};
use super::page::PageChoice;
use super::receipt::is_page;
use super::state::{JobRequest, JobState, note_unavailable, state, unavailable, unknown};
use super::{deliver, id, outside, page, progress, terminate, token, watch};
use crate::message::body::Body;
use crate::message::fields::View;
use crate::message::refused::Refused;
use crate::message::reply;
use http::{HeaderValue, Method, Response, header};
use rules::document::Delivery;
use rules::{Millis, Problem, Rules, UnixMillis};
use std::sync::Arc;
use std::time::Duration;
use stores::results::Results;

/// Answers a request for a job.
///
/// # Errors
/// `job-unknown` where the visitor does not own the job; `offload-unavailable` while store or
/// application can't answer, for which a browser gets a page that reloads itself.
pub async fn answer(
    worker: &Arc<JobWorker>,
    rules: &Arc<Rules>,
    asked: JobRequest<'_>,
    body: Body,
) -> Result<Response<Body>, Refused> {
    let is_page = asked.is_get() && is_page(asked.headers);
    match of_job(worker, rules, asked, body).await {
        Err(Refused { problem: Problem::OffloadUnavailable, detail }) if is_page => {
            note_unavailable(worker, &detail);
            Ok(page::try_again(&rules.document.jobs.page))
        }
        Err(Refused { problem: Problem::JobUnknown, detail }) if is_page => match login(rules) {
            // The answer is the same for another caller's job and for none.
            Some(login) => Ok(page::see(login)),
            None => Err(Refused::new(Problem::JobUnknown, detail)),
        },
        answered => answered,
    }
}

async fn of_job(
    worker: &Arc<JobWorker>,
    rules: &Arc<Rules>,
    asked: JobRequest<'_>,
    body: Body,
) -> Result<Response<Body>, Refused> {
    let context = &worker.context;
    let (id, part) = asked.job.split_once('/').unwrap_or((asked.job, ""));
    let Some((results, secrets)) = bound(worker) else { return Err(unknown()) };
    if !id::is_plausible(id) {
        return Err(unknown());
    }
    if (asked.method, part) == (&Method::PUT, "progress") {
        return progress::report(context, id, asked.headers, body).await;
    }
    if (asked.method, part) == (&Method::PUT, "outcome") {
        return token::end(worker, rules, id, &asked, body).await;
    }
    let Owned { route, queue, at, own_id, reader, cookies, is_open } =
        owned(worker, rules, (results.as_ref(), secrets), &asked, id).await?;
    let about = JobIdentity {
        base: rules.document.jobs.base.clone(),
        route: route.map(|route| route.name.clone()),
        id: id.to_owned(),
        own_id,
    };
    let job = VisitedJob { context, rules, results, queue, id, about, reader, is_open };
    let owner_route = (queue, route.map(|route| route.name.as_str()));
    let answered = match current(worker, rules, owner_route, id, at).await {
        Ok(known) if asked.is_get() && part.is_empty() && watch::is_stream(asked.headers) => {
            job.stream(&asked, &known)
        }
        Ok(known) => job.respond(&asked, part, known).await,
        Err(refused) => Err(refused),
    };
    let (in_force, base) = (context.active.in_force(), &rules.document.jobs.base);
    match answered {
        // A browser gets a page that reloads itself, and a visitor who does not own the job learns
        // that there is none.
        Err(refused)
            if matches!(refused.problem, Problem::OffloadUnavailable | Problem::JobUnknown) =>
        {
            Err(refused)
        }
        answered => cookies.with(worker, in_force.reserved(), base, answered),
    }
}

/// The state of the job.
///
/// # Errors
/// `job-expired` when it was removed, and so never ends; `offload-unavailable`.
pub(super) async fn current(
    worker: &Arc<JobWorker>,
    rules: &Arc<Rules>,
    (queue, route): (&str, Option<&str>),
    id: &str,
    accepted: UnixMillis,
) -> Result<JobState, Refused> {
    let Some((results, _)) = bound(worker) else { return Err(unknown()) };
    let mut known = state(&worker.context, results.as_ref(), id).await.map_err(unavailable)?;
    let ttl = rules.document.queues.get(queue).map_or(Millis::MAX, |queue| queue.result_ttl);
    let now = worker.context.clock.now();
    // A job being removed looks like a result without an outcome, because its objects are removed
    // one by one.
    let may_be_put = matches!(known, JobState::Queued) && !known.has_expired(accepted, ttl, now);
    if may_be_put && id::JobKind::of(id) == id::JobKind::Queued {
        let job = outside::ForeignJob { id, queue, route };
        let found = outside::by_result(results, &worker.context.clock, &job).await;
        if let Some(outcome) = found.map_err(unavailable)? {
            token::tell_of_result(worker, rules, &job, &outcome).await;
            known = JobState::Ended(outcome);
        }
    }
    if known.has_expired(accepted, ttl, now) {
        return Err(Refused::from(Problem::JobExpired));
    }
    Ok(known)
}

/// The message for a job that waits.
pub(super) fn message<'r>(rules: &'r Rules, queue: &str) -> &'r str {
    rules.document.queues.get(queue).map_or("accepted", |queue| &queue.message)
}

/// A job of the visitor.
struct VisitedJob<'a> {
    context: &'a Arc<JobContext>,
    rules: &'a Arc<Rules>,
    results: &'a Arc<dyn Results>,
    queue: &'a str,
    id: &'a str,
    about: JobIdentity,
    reader: JobOwner,
    is_open: bool,
}

impl VisitedJob<'_> {
    /// Every answer except a stream of events.
    async fn respond(
        &self,
        asked: &JobRequest<'_>,
        part: &str,
        mut known: JobState,
    ) -> Result<Response<Body>, Refused> {
        let (rules, id, results) = (self.rules, self.id, self.results.as_ref());
        let waited = self.wait(asked).await?;
        if waited.is_some() {
            known = state(self.context, results, id).await.map_err(unavailable)?;
        }
        let state = known;
        let mut response = match part {
            "" if asked.is_get() && is_page(asked.headers) => {
                let (jobs, message) = (&rules.document.jobs, message(rules, self.queue));
                let (scheme, host) = (asked.inbound.scheme, asked.inbound.visitor_host());
                let place = page::Place { jobs, id, message, scheme, host };
                match place.shown(&state) {
                    PageChoice::Page => place.page(&state),
                    PageChoice::Landing(target) => page::see(&target),
                    PageChoice::Answer => page::see(&format!("{}/jobs/{id}/result", jobs.base)),
                }
            }
            "" if asked.is_get() => self.answer(&state),
            "" if asked.method == Method::DELETE => self.cancel(state).await?,
            // A page without scripts can only send forms.
            "cancel" if asked.method == Method::POST => {
                self.cancel(state).await?;
                page::see(&format!("{}/jobs/{id}", rules.document.jobs.base))
            }
            "result" if asked.is_get() => {
                let queue = rules.document.queues.get(self.queue);
                let delivery = queue.map_or(Delivery::Proxy, |queue| queue.result);
                deliver::result(results, id, state, asked, (delivery, self.is_open)).await?
            }
            _ => {
                return Err(Refused::new(
                    Problem::NoRoute,
                    format!("{} is not possible here", asked.method),
                ));
            }
        };
        if let Some(applied) = waited {
            response.headers_mut().insert("preference-applied", applied);
        }
        Ok(response)
    }

    /// Waits as `Prefer: wait=N` says. Returns the applied preference.
    ///
    /// # Errors
    /// The caller may no longer see the job, or the application can't say whether it may.
    async fn wait(&self, asked: &JobRequest<'_>) -> Result<Option<HeaderValue>, Refused> {
        let view = View::of(asked.headers);
        let preference = rules::offload::prefer(&asked.inbound.head(asked.method, &view));
        let Some(wait) = preference.wait else { return Ok(None) };
        let limit = Duration::from(wait);
        let results = self.results.as_ref();
        let is_waited = watch::end(self.context, results, self.id, limit, Some(&self.reader)).await;
        // The job may have ended long after the last check.
        match self.reader.still().await {
            Still::Authorized => {}
            Still::Refused => return Err(unknown()),
            Still::Unknown => return Err(nobody_to_ask()),
        }
        let applied = HeaderValue::from_str(&format!("wait={}", wait.as_secs())).ok();
        Ok(applied.filter(|_| is_waited))
    }

    fn answer(&self, state: &JobState) -> Response<Body> {
        let mut response = reply::json(200, &self.about.report(state));
        if !matches!(state, JobState::Ended(_)) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    /// Cancels the job. A queued one is dropped when it is received; a running one's connection is
    /// closed.
    async fn cancel(&self, state: JobState) -> Result<Response<Body>, Refused> {
        let (id, results, now) = (self.id, self.results.as_ref(), self.context.clock.now());
        let of = (Some(self.queue), self.about.route.as_deref());
        let status = match state {
            JobState::Ended(outcome) => outcome.status,
            _ => terminate::cancel(results, id, of, now).await.map_err(unavailable)?,
        };
        Ok(reply::json(200, &serde_json::json!({ "id": id, "status": status.as_str() })))
    }

    fn stream(&self, asked: &JobRequest<'_>, state: &JobState) -> Result<Response<Body>, Refused> {
        let (context, results) = (self.context, self.results);
        let last = asked.headers.get("last-event-id").and_then(|last| last.to_str().ok());
        // The browser reconnects after the end of each stream; 204 tells it not to.
        if matches!(state, JobState::Ended(_)) && last == Some(state.name()) {
            return Ok(reply::text(204, ""));
        }
        let about = self.about.clone();
        let report = move |state: &JobState| about.report(state);
        let response = watch::stream(context, results, self.id, self.reader.clone(), report);
        response.ok_or_else(|| Refused::from(Problem::TooManyWatchers))
    }
}

fn nobody_to_ask() -> Refused {
    Refused::new(Problem::OffloadUnavailable, "the application can't say now who may see the job")
}

/// The names of a job: its URL's base, route and ids.
#[derive(Clone)]
struct JobIdentity {
    base: String,
    route: Option<String>,
    id: String,
    own_id: Option<String>,
}

impl JobIdentity {
    /// The answer to a GET of the job.
    fn report(&self, state: &JobState) -> serde_json::Value {
        let Self { base, route, id, own_id } = self;
        let location = format!("{base}/jobs/{id}");
        let mut body = serde_json::json!({
            "id": id, "route": route, "location": location, "status": state.name(),
        });
        if let Some(own_id) = own_id {
            body["own_id"] = own_id.clone().into();
        }
        match state {
            JobState::Queued => {}
            JobState::Running { attempt, progress } => {
                body["attempt"] = (*attempt).into();
                if let Some(progress) = progress {
                    body["progress"] = serde_json::json!(progress);
                }
            }
            JobState::Ended(outcome) => {
                body["attempt"] = outcome.attempt.into();
                if let Some(reason) = &outcome.reason {
                    body["reason"] = reason.clone().into();
                }
                if let Some(answer) = &outcome.answer {
                    let result = || format!("{location}/result");
                    body["result"] = answer.leads_to.clone().unwrap_or_else(result).into();
                }
            }
        }
        body
    }
}
