//! A fetch for the cache: asked with what the plan says, judged, kept.

use super::forward::{self, Failure, Outgoing, Slow};
use super::inbound::Inbound;
use super::{Worker, cache_fields, hop};
use crate::bindings::Upstream;
use crate::body::{Body, Collected};
use crate::cache::flights::{Flight, Landing};
use crate::cache::stored::{self, Stored};
use crate::fields::View;
use crate::in_force::Lane;
use http::{HeaderMap, Method, Response, StatusCode};
use http1::client::Mended;
use http1::received::Received;
use http1::server::Exchange;
use rules::cache::{NotStored, Plan, judge};
use rules::{Problem, ResponseHead};
use std::sync::Arc;
use std::time::Duration;

/// What a fetch brought.
pub(super) enum Fetched {
    /// In the store now, or revalidated there.
    Stored(Arc<Stored>, Option<u16>),
    /// For the one who asked: the store did not take it.
    NotKept(Arc<Stored>, NotStored),
    /// For the one who asked, streamed.
    Passed(Response<Body>, NotStored),
    Failed(Failure),
}

/// Everything a fetch needs that outlives the request which started it.
pub(super) struct Job {
    pub worker: Arc<Worker>,
    pub inbound: Inbound,
    pub plan: Plan<'static>,
    pub upstream: Arc<Upstream>,
    pub timeout: Duration,
    pub lane: Arc<Lane>,
    pub headers: HeaderMap,
    pub config: Arc<str>,
    /// Of the client whose request started it.
    pub exchange: Option<Exchange>,
    /// Told when even the connection is slow.
    pub slow: Option<Slow>,
}

pub(super) async fn fetch_and_land(
    job: Job,
    stored: Option<Arc<Stored>>,
    flight: Flight,
) -> Fetched {
    let fetched = fetch(job, stored).await;
    flight.land(match &fetched {
        Fetched::Stored(..) => Landing::Stored,
        Fetched::Passed(response, _) if response.status().is_server_error() => Landing::Failed,
        Fetched::Passed(..) | Fetched::NotKept(..) => Landing::NotStored,
        Fetched::Failed(_) => Landing::Failed,
    });
    fetched
}

/// The origin's answer to the request with all that it depends on.
async fn ask(job: &mut Job, stored: Option<&Stored>) -> Result<Response<Body>, Failure> {
    let varies = &job.worker.app.varies;
    job.plan.learned = varies.of(&job.lane.name);
    let response = send(job, stored).await?;
    let kept_back = {
        let view = View::of(&job.headers);
        let head = job.inbound.head(&Method::GET, &view);
        let status = response.status().as_u16();
        job.plan.kept_back(&head, &ResponseHead { status, fields: &View::of(response.headers()) })
    };
    if kept_back.is_empty() || response.status().is_server_error() {
        return Ok(response);
    }
    varies.learn(&job.lane.name, &kept_back);
    // Also what found no room there: this answer must be the right one, though it is not kept.
    job.plan.learned.extend(kept_back);
    send(job, stored).await
}

async fn send(job: &Job, stored: Option<&Stored>) -> Result<Response<Body>, Failure> {
    let mut added = String::new();
    hop::carry(&job.upstream, &job.headers, &mut added);
    let mut outgoing = Outgoing {
        upstream: Arc::clone(&job.upstream),
        method: Method::GET,
        target: job.plan.target().to_owned(),
        headers: cache_fields::to_origin(&job.headers, &job.inbound, &job.plan, stored),
        came: Received::default(),
        added,
        body: Body::Empty,
        timeout: job.timeout,
        exchange: job.exchange.clone(),
        may_pass: false,
        lane: Some(Arc::clone(&job.lane)),
        slow: job.slow.clone(),
    };
    forward::send(&job.worker, &mut outgoing).await
}

async fn fetch(mut job: Job, stored: Option<Arc<Stored>>) -> Fetched {
    let mark = job.worker.app.store.mark();
    let asked = ask(&mut job, stored.as_deref()).await;
    let app = &job.worker.app;
    let response = match asked {
        Ok(response) => response,
        Err(failure) => return Fetched::Failed(failure),
    };
    let (mut parts, body) = response.into_parts();
    let code = parts.status.as_u16();
    let revalidated = stored.filter(|stored| code == 304 && stored.entry.has_validator());
    if let Some(stored) = &revalidated {
        parts.headers = cache_fields::merged(stored.fields.headers(), &parts.headers);
        parts.status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    }
    let judged = {
        let view = View::of(&job.headers);
        let head = job.inbound.head(&Method::GET, &view);
        let response =
            ResponseHead { status: parts.status.as_u16(), fields: &View::of(&parts.headers) };
        judge(&job.plan, &head, &response, app.clock.now())
    };
    let is_mended = parts.extensions.get::<Mended>().is_some();
    let judged = judged.and_then(|own| if is_mended { Err(NotStored::Mended) } else { Ok(own) });
    let judged = match judged {
        Ok(judged) => judged,
        Err(reason) => {
            // A failing app says nothing about its answers, and needs the collapsing most.
            if code < 500 {
                app.store.note_uncacheable(&job.plan, app.clock.now());
            }
            let body = revalidated.map_or(body, |stored| Body::full(stored.body.clone()));
            return Fetched::Passed(Response::from_parts(parts, body), reason);
        }
    };
    let body = match revalidated {
        Some(stored) => stored.body.clone(),
        None => match whole(&job, body).await {
            Ok(Collected::Whole(body)) => body,
            Ok(Collected::TooLarge(body)) => {
                app.store.note_uncacheable(&job.plan, app.clock.now());
                return Fetched::Passed(Response::from_parts(parts, body), NotStored::TooLarge);
            }
            Err(failure) => return Fetched::Failed(failure),
        },
    };
    let now = app.clock.now();
    let fields = cache_fields::to_store(parts.status, parts.headers, &judged, body.len(), now);
    let (url, tags) = (app.store.url(&job.plan.url), judged.tags.into_iter().map(Into::into));
    let status = parts.status.as_u16();
    let stored = Stored::new(status, fields, body, judged.entry, url, tags.collect());
    let stored = Arc::new(stored);
    // A fill begun under other rules, or before a purge, is served once and not kept.
    let kept = if *app.rules().hash == *job.config {
        app.store.insert(&job.plan.key, Arc::clone(&stored), mark)
    } else {
        Err(NotStored::Superseded)
    };
    match kept {
        Ok(()) => Fetched::Stored(stored, (code == 304).then_some(304)),
        Err(reason) => Fetched::NotKept(stored, reason),
    }
}

/// Within the route's time: a body that stalls must not hold those who wait, or memory.
async fn whole(job: &Job, body: Body) -> Result<Collected, Failure> {
    let limit = job.worker.app.store.entry_bytes_max();
    match tokio::time::timeout(job.timeout, stored::collect(body, limit)).await {
        Ok(collected) => collected.map_err(|error| broken(&error)),
        Err(_) => Err(Failure {
            problem: Problem::UpstreamTimeout,
            detail: "the answer's body did not end in time".to_owned(),
            is_unsent: false,
        }),
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure {
        problem: Problem::UpstreamInvalid,
        detail: format!("the answer broke off: {error}"),
        is_unsent: false,
    }
}
