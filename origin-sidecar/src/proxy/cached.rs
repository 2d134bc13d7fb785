//! A request that may use the cache: hit, stale, revalidate or fetch, one fetch per key.

use super::clean::Clean;
use super::fetched::{Fetched, Job, fetch_and_land};
use super::forward::{self, Outgoing};
use super::handle::{Refused, shard_failed};
use super::step::Step;
use super::{Worker, cache_fields};
use crate::bindings::Upstream;
use crate::body::{Body, Served};
use crate::cache::flights::{self, Flight, Landing, Part};
use crate::cache::store::Found;
use crate::cache::stored::Stored;
use crate::in_force::Lane;
use crate::reply;
use crate::telemetry::Span;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http1::received::Received;
use rules::Problem;
use rules::cache::conditional::{Selected, select};
use rules::cache::status::Miss;
use rules::cache::{Bypass, CacheStatus, Lookup, OriginFailure, Plan, Tier};
use std::sync::Arc;
use std::time::Duration;

/// Fetches of others that one request waits for, one after the other as each fails, before it asks
/// for itself.
const FLIGHTS_MAX: usize = 3;

/// Where a request goes on to, and what is told of it.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    pub upstream: &'a Arc<Upstream>,
    pub timeout: Duration,
    pub lane: &'a Arc<Lane>,
    pub span: &'a Span,
}

pub fn answer<'a>(
    worker: &'a Arc<Worker>,
    mut clean: Box<Clean<'a>>,
    plan: Box<Plan<'a>>,
    way: Way<'a>,
) -> Result<Step<'a>, Refused> {
    let now = way.span.at;
    let (stored, reason) = look_up(worker, &clean, &plan);
    let lookup = stored.as_ref().map(|stored| stored.entry.look_up(now));
    match (&stored, lookup) {
        (Some(stored), Some(Lookup::Fresh { ttl, .. })) => {
            let status = CacheStatus::Hit { ttl };
            let hit = serve(worker, &clean, way.lane, stored, (status, now));
            return Ok(Step::Answered(hit));
        }
        (Some(stored), Some(Lookup::StaleWhileRevalidate { ttl, .. })) => {
            if let Part::Leader(flight) = worker.app.flights.join(&plan.key) {
                clean.rebuild();
                way.span.pass_on(clean.headers);
                let job = job(worker, &clean, &plan, way);
                tokio::spawn(fetch_and_land(job, Some(Arc::clone(stored)), flight));
            }
            let status = CacheStatus::StaleHit { ttl };
            let hit = serve(worker, &clean, way.lane, stored, (status, now));
            return Ok(Step::Answered(hit));
        }
        _ if plan.only_if_cached => {
            count(worker, way.lane, CacheStatus::OnlyIfCached);
            let detail = "only-if-cached, and nothing fresh is stored".to_owned();
            return Err((Problem::UpstreamTimeout, detail));
        }
        _ => {}
    }
    clean.rebuild();
    way.span.pass_on(clean.headers);
    Ok(Step::Later(Box::pin(miss(worker, clean, plan, way, stored, reason))))
}

/// What is not in the store as it should be: waits for another's fetch, or fetches.
async fn miss(
    worker: &Arc<Worker>,
    clean: Box<Clean<'_>>,
    plan: Box<Plan<'_>>,
    way: Way<'_>,
    stored: Option<Arc<Stored>>,
    reason: Miss,
) -> Result<Response<Body>, Refused> {
    let now = worker.app.clock.now();
    if stored.is_none() && worker.app.store.is_uncacheable(&plan, now) {
        return pass(worker, clean, plan, way).await;
    }
    let stale =
        stored.as_ref().filter(|it| it.entry.serves_on_error(OriginFailure::Unreachable, now));
    let flight = match join(worker, &clean, &plan, (now, stale)).await {
        Turn::Served(fresh) => {
            let status = CacheStatus::Miss { reason, stored: Ok(()), collapsed: true };
            return Ok(serve(worker, &clean, way.lane, &fresh, (status, worker.app.clock.now())));
        }
        Turn::Stale(stale) => return Ok(serve_stale(worker, &clean, way.lane, &stale, None)),
        Turn::Fetch(flight) => flight,
    };
    let mut job = job(worker, &clean, &plan, way);
    let mut progress = flight.watch();
    if stale.is_some() {
        job.slow = Some(Arc::new(flight.slowness()));
    }
    // The fetch goes on when this client leaves, or is served what is stale: others may wait for it.
    let mut fetching = tokio::spawn(fetch_and_land(job, stored.clone(), flight));
    let fetched = match stale {
        None => fetching.await,
        Some(stale) => tokio::select! {
            biased;
            fetched = &mut fetching => fetched,
            Ok(_) = progress.wait_for(|progress| progress.is_slow) => {
                return Ok(serve_stale(worker, &clean, way.lane, stale, None));
            }
        },
    };
    let fetched = fetched.map_err(|error| (Problem::Internal, error.to_string()))?;
    finish(worker, &clean, way.lane, stored, fetched, reason)
}

fn job(worker: &Arc<Worker>, clean: &Clean<'_>, plan: &Plan<'_>, way: Way<'_>) -> Job {
    Job {
        worker: Arc::clone(worker),
        inbound: clean.inbound.clone(),
        plan: plan.clone().into_owned(),
        upstream: Arc::clone(way.upstream),
        timeout: way.timeout,
        lane: Arc::clone(way.lane),
        headers: clean.headers.clone(),
        config: clean.rules.hash.as_str().into(),
        exchange: clean.exchange.clone(),
        slow: None,
    }
}

/// What became of waiting for another's fetch.
enum Turn {
    Served(Arc<Stored>),
    /// The other can't even connect, and this may be served meanwhile.
    Stale(Arc<Stored>),
    /// One's own turn to fetch, perhaps for others too.
    Fetch(Flight),
}

/// Waits for the fetch of the key that is under way, if there is one. When it fails, one of those who
/// waited fetches for the others: they do not fail with it, nor all run to the origin at once.
async fn join(
    worker: &Worker,
    clean: &Clean<'_>,
    plan: &Plan<'_>,
    (now, stale): (u64, Option<&Arc<Stored>>),
) -> Turn {
    // Cookies are either part of the key or do not reach the app.
    if plan.has_authorization {
        return Turn::Fetch(Flight::alone());
    }
    for _ in 0..FLIGHTS_MAX {
        let waiters = match worker.app.flights.join(&plan.key) {
            Part::Leader(flight) => {
                // Another's fetch may have landed since the store was looked into.
                return match usable(worker, clean, plan, now) {
                    Some(fresh) => {
                        flight.land(Landing::Stored);
                        Turn::Served(fresh)
                    }
                    None => Turn::Fetch(flight),
                };
            }
            Part::Follower(waiters) => waiters,
        };
        let Some(progress) = flights::follow(waiters, stale.is_some()).await else { break };
        match (progress.landing, stale) {
            (Some(Landing::Failed), _) => {}
            (Some(Landing::Stored), _) => {
                return usable(worker, clean, plan, now)
                    .map_or_else(|| Turn::Fetch(Flight::alone()), Turn::Served);
            }
            (None, Some(stale)) => return Turn::Stale(Arc::clone(stale)),
            (Some(Landing::NotStored) | None, _) => break,
        }
    }
    Turn::Fetch(Flight::alone())
}

/// What is stored, if it need not be asked for again.
fn usable(worker: &Worker, clean: &Clean<'_>, plan: &Plan<'_>, now: u64) -> Option<Arc<Stored>> {
    let (stored, _) = look_up(worker, clean, plan);
    stored.filter(|it| !matches!(it.entry.look_up(now), Lookup::Expired { .. }))
}

/// Sends a request on whose answer is known not to be kept: its own conditions and range count, and
/// nothing waits for its end.
async fn pass(
    worker: &Worker,
    clean: Box<Clean<'_>>,
    mut plan: Box<Plan<'_>>,
    way: Way<'_>,
) -> Result<Response<Body>, Refused> {
    plan.learned = worker.app.varies.of(&way.lane.name);
    let is_sharded = clean.headers.contains_key("x-shard");
    let may_pass = clean.may_pass();
    let mut outgoing = Outgoing {
        upstream: Arc::clone(way.upstream),
        method: clean.method,
        headers: cache_fields::passing(clean.headers, &clean.inbound, &plan),
        came: Received::default(),
        added: String::new(),
        target: plan.target().to_owned(),
        body: Body::Empty,
        timeout: way.timeout,
        exchange: clean.exchange,
        may_pass,
        lane: Some(Arc::clone(way.lane)),
        slow: None,
    };
    let sent = forward::send(worker, &mut outgoing).await;
    let mut response = sent.map_err(|failure| shard_failed(failure, is_sharded))?;
    let status = CacheStatus::Bypass(Bypass::Uncacheable);
    count(worker, way.lane, status);
    reply::add_cache_status(response.headers_mut(), status.member(Tier::Sidecar));
    Ok(response)
}

fn look_up(worker: &Worker, clean: &Clean<'_>, plan: &Plan<'_>) -> (Option<Arc<Stored>>, Miss) {
    match clean.decide(|head| worker.app.store.look_up(plan, head)) {
        Found::Answer(stored) => (Some(stored), Miss::Stale),
        Found::Miss(reason) => (None, reason),
    }
}

fn finish(
    worker: &Worker,
    clean: &Clean<'_>,
    lane: &Lane,
    stale: Option<Arc<Stored>>,
    fetched: Fetched,
    miss: Miss,
) -> Result<Response<Body>, Refused> {
    let now = worker.app.clock.now();
    let usable =
        |how: OriginFailure| stale.clone().filter(|stored| stored.entry.serves_on_error(how, now));
    let usable = match &fetched {
        Fetched::Passed(response, _) if response.status().is_server_error() => {
            usable(OriginFailure::Status)
        }
        Fetched::Failed(_) => usable(OriginFailure::Unreachable),
        _ => None,
    };
    match (fetched, usable) {
        (Fetched::Stored(stored, Some(304)), _) => {
            Ok(serve(worker, clean, lane, &stored, (CacheStatus::Revalidated, now)))
        }
        (Fetched::Stored(stored, _), _) => {
            let status = CacheStatus::Miss { reason: miss, stored: Ok(()), collapsed: false };
            Ok(serve(worker, clean, lane, &stored, (status, now)))
        }
        (Fetched::NotKept(stored, reason), _) => {
            let status = CacheStatus::Miss { reason: miss, stored: Err(reason), collapsed: false };
            Ok(serve(worker, clean, lane, &stored, (status, now)))
        }
        (Fetched::Passed(response, _), Some(stored)) => {
            Ok(serve_stale(worker, clean, lane, &stored, Some(response.status().as_u16())))
        }
        (Fetched::Failed(_), Some(stored)) => Ok(serve_stale(worker, clean, lane, &stored, None)),
        (Fetched::Passed(mut response, reason), _) => {
            let status = CacheStatus::Miss { reason: miss, stored: Err(reason), collapsed: false };
            count(worker, lane, status);
            reply::add_cache_status(response.headers_mut(), status.member(Tier::Sidecar));
            Ok(if clean.method == Method::HEAD { response.map(|_| Body::Empty) } else { response })
        }
        (Fetched::Failed(failure), None) => {
            Err(shard_failed(failure, clean.headers.contains_key("x-shard")))
        }
    }
}

/// In the place of an answer of this status, or of none.
fn serve_stale(
    worker: &Worker,
    clean: &Clean<'_>,
    lane: &Lane,
    stored: &Arc<Stored>,
    status: Option<u16>,
) -> Response<Body> {
    let now = worker.app.clock.now();
    let status = CacheStatus::StaleOnError { ttl: past(stored, now), status };
    serve(worker, clean, lane, stored, (status, now))
}

fn past(stored: &Stored, now: u64) -> i64 {
    let past = stored.entry.age(now).saturating_sub(stored.entry.windows.fresh) / 1000;
    -i64::try_from(past).unwrap_or(i64::MAX)
}

fn count(worker: &Worker, lane: &Lane, status: CacheStatus) {
    lane.meters.cached(status.label());
    if let CacheStatus::Miss { stored: Err(reason), .. } = status {
        let labels = [&*lane.name, reason.as_str()];
        worker.app.metrics.cache.not_stored.with_label_values(&labels).inc();
    }
}

/// Answers from a stored answer: in full, a part, or that nothing changed.
fn serve(
    worker: &Worker,
    clean: &Clean<'_>,
    lane: &Lane,
    stored: &Arc<Stored>,
    (status, now): (CacheStatus, u64),
) -> Response<Body> {
    count(worker, lane, status);
    let length = stored.body.len() as u64;
    let selected = match stored.status {
        200 => clean.decide(|head| select(head, &stored.entry, length)),
        _ => Selected::Full,
    };
    let age = stored.entry.age(now) / 1000;
    let mut response = match selected {
        Selected::Full if clean.may_pass() => return encoded(clean, stored, age, status),
        Selected::Full => full(clean, stored),
        Selected::NotModified => bare(304, stored),
        Selected::Part { from, to } => {
            let body = stored.body.slice(from as usize..=to as usize);
            let mut response = bare(206, stored);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            headers.insert(header::CONTENT_RANGE, content_range(&format!("{from}-{to}"), length));
            *response.body_mut() = Body::full(body);
            response
        }
        Selected::Unsatisfiable => {
            let mut response = bare(416, stored);
            response.headers_mut().insert(header::CONTENT_RANGE, content_range("*", length));
            response
        }
    };
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
fn full(clean: &Clean<'_>, stored: &Stored) -> Response<Body> {
    let mut response = Response::new(whole(clean, stored).map_or(Body::Empty, Body::full));
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
