//! Serves a request that may use the cache: hit, stale, revalidate or fetch, with one fetch per
//! key.

use super::cache_fields;
use super::coalescer::{self, FetchOutcome, FetchPermit, FetchRole};
use super::context::Worker;
use super::fetch::{FetchJob, Fetched};
use super::fetched::fetch_and_complete;
use super::handled::Handled;
use super::serving::{count, serve, serve_coming, serve_stale};
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::message::reply;
use crate::request::destination::Destination;
use crate::request::sanitized::SanitizedRequest;
use crate::telemetry::spans::Span;
use crate::upstream::forward;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::route_state::RouteState;
use http::{HeaderValue, Method, Response, header};
use memory_cache::fill::{Fill, Reader};
use memory_cache::store::Found;
use memory_cache::stored::Stored;
use memory_cache::uncacheable::Shown;
use rules::cache::status::Miss;
use rules::cache::{AtHand, Bypass, CacheStatus, Lookup, OriginFailure, Plan, Reply, Tier, fits};
use rules::{Problem, UnixMillis};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How many failed fetches of others a request waits for, one after the other, before it fetches
/// itself.
const FETCHES_AWAITED_MAX: usize = 3;
/// How long an answer that nobody reads is still received, unless the route has a `total_timeout`.
const UNREAD_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// Where a request is forwarded, and how it is reported.
#[derive(Clone, Copy)]
pub struct ForwardTarget<'a> {
    pub destination: Destination<'a>,
    pub timeout: Duration,
    pub route_state: &'a Arc<RouteState>,
    pub span: &'a Span,
}

pub fn answer<'a>(
    worker: &'a Arc<Worker>,
    mut clean: Box<SanitizedRequest<'a>>,
    plan: Box<Plan<'a>>,
    way: ForwardTarget<'a>,
) -> Result<Handled<'a>, Refused> {
    let now = way.span.at;
    let (stored, reason) = look_up(worker, &clean, &plan);
    let lookup = stored.as_ref().map(|stored| stored.entry.look_up(now));
    match (plan.at_hand(lookup), &stored) {
        (AtHand::Serve(status), Some(stored)) => {
            let hit = serve(worker, &clean, way.route_state, stored, (status, now));
            return Ok(Handled::Ready(hit));
        }
        (AtHand::ServeAndRenew(status), Some(stored)) => {
            if let FetchRole::Leader(permit) = worker.context.coalescer.join(&plan.key) {
                clean.finalize_headers();
                way.span.pass_on(clean.headers);
                let job = job(worker, &clean, &plan, way);
                tokio::spawn(fetch_and_complete(job, Some(Arc::clone(stored)), permit, None));
            }
            let hit = serve(worker, &clean, way.route_state, stored, (status, now));
            return Ok(Handled::Ready(hit));
        }
        (AtHand::OnlyIfCached, _) => {
            count(worker, way.route_state, CacheStatus::OnlyIfCached);
            let detail = "only-if-cached, and nothing fresh is stored".to_owned();
            return Err(Refused::new(Problem::UpstreamTimeout, detail));
        }
        _ => {}
    }
    clean.finalize_headers();
    way.span.pass_on(clean.headers);
    Ok(Handled::Pending(Box::pin(miss(worker, clean, plan, way, stored, reason))))
}

/// Handles a request without a fresh stored answer: waits for another's fetch, or fetches.
async fn miss(
    worker: &Arc<Worker>,
    clean: Box<SanitizedRequest<'_>>,
    plan: Box<Plan<'_>>,
    way: ForwardTarget<'_>,
    stored: Option<Arc<Stored>>,
    reason: Miss,
) -> Result<Response<Body>, Refused> {
    let now = worker.context.clock.now();
    if stored.is_none()
        && let Some(shown) = worker.context.store.shown_uncached(&plan, now)
    {
        let status = CacheStatus::Bypass(Bypass::Uncacheable);
        return pass(worker, clean, plan, way, (status, shown)).await;
    }
    let stale =
        stored.as_ref().filter(|it| it.entry.serves_on_error(OriginFailure::Unreachable, now));
    let permit = match join(worker, &clean, &plan, (now, stale)).await {
        CoalesceResult::Served(fresh) => {
            let status = CacheStatus::Miss { reason, stored: Ok(()), collapsed: true };
            return Ok(serve(
                worker,
                &clean,
                way.route_state,
                &fresh,
                (status, worker.context.clock.now()),
            ));
        }
        CoalesceResult::Joined(reader) => {
            let status = CacheStatus::Miss { reason, stored: Ok(()), collapsed: true };
            let now = worker.context.clock.now();
            return Ok(serve_coming(worker, &clean, way.route_state, reader, (status, now)));
        }
        CoalesceResult::Stale(stale) => {
            return Ok(serve_stale(worker, &clean, way.route_state, &stale));
        }
        CoalesceResult::Fetch(permit) => permit,
    };
    let mut job = job(worker, &clean, &plan, way);
    let mut progress = permit.watch();
    if stale.is_some() {
        job.slow = Some(Arc::new(permit.slowness()));
    }
    // The fetch continues when this client disconnects or is served a stale answer: others may wait
    // for it.
    let (tell, mut told) = oneshot::channel();
    tokio::spawn(fetch_and_complete(job, stored.clone(), permit, Some(tell)));
    let fetched = match stale {
        None => told.await,
        Some(stale) => tokio::select! {
            biased;
            fetched = &mut told => fetched,
            Ok(_) = progress.wait_for(|progress| progress.is_slow) => {
                return Ok(serve_stale(worker, &clean, way.route_state, stale));
            }
        },
    };
    let fetched = fetched.map_err(|_| Refused::new(Problem::Internal, "the fetch has failed"))?;
    let entry = stored.as_ref().map(|stored| &stored.entry);
    let now = worker.context.clock.now();
    let reply = clean.decide(|head| fetched.outcome().reply(head, (entry, reason), now));
    if let (Reply::OwnRange(status), Fetched::Passed(..)) = (reply, &fetched) {
        drop(fetched);
        return pass(worker, clean, plan, way, (status, Shown::Planned)).await;
    }
    finish(worker, &clean, &way, (stored, fetched), (reply, now))
}

fn job(
    worker: &Arc<Worker>,
    clean: &SanitizedRequest<'_>,
    plan: &Plan<'_>,
    way: ForwardTarget<'_>,
) -> FetchJob {
    FetchJob {
        worker: Arc::clone(worker),
        inbound: clean.inbound.clone(),
        plan: plan.clone().into_owned(),
        upstream: Arc::clone(way.destination.upstream),
        may_be_stale: way.destination.may_be_stale(),
        timeout: way.timeout,
        route_state: Arc::clone(way.route_state),
        headers: clean.headers.clone(),
        config: clean.rules.hash.as_str().into(),
        exchange: clean.exchange.clone(),
        slow: None,
        unread_timeout: unread_timeout(clean, way.route_state),
    }
}

fn unread_timeout(clean: &SanitizedRequest<'_>, route_state: &RouteState) -> Duration {
    let route = route_state.route(clean.rules);
    let total = route.and_then(|route| route.total_timeout).map(Duration::from);
    total.unwrap_or(UNREAD_TIMEOUT_DEFAULT)
}

/// The result of waiting for another's fetch.
enum CoalesceResult {
    Served(Arc<Stored>),
    /// The answer is still being received.
    Joined(Reader),
    /// The other fetch can't even connect, and the stale answer may be served meanwhile.
    Stale(Arc<Stored>),
    /// This request fetches, perhaps for others too.
    Fetch(FetchPermit),
}

/// Waits for the fetch of the key in flight, if there is one. When it fails, one of the followers
/// fetches for the others: they neither fail with it nor all go to the origin at once.
async fn join(
    worker: &Worker,
    clean: &SanitizedRequest<'_>,
    plan: &Plan<'_>,
    (now, stale): (UnixMillis, Option<&Arc<Stored>>),
) -> CoalesceResult {
    // Cookies are either part of the key or not sent to the application.
    if plan.has_authorization && !plan.is_sealed {
        return CoalesceResult::Fetch(FetchPermit::alone());
    }
    let mut part = worker.context.coalescer.join(&plan.key);
    for _ in 0..FETCHES_AWAITED_MAX {
        let mut waiters = match part {
            FetchRole::Leader(permit) => {
                // Another request's fetch may have completed since the lookup.
                return match usable(worker, clean, plan, now) {
                    Some(fresh) => {
                        permit.complete(FetchOutcome::Stored);
                        CoalesceResult::Served(fresh)
                    }
                    None => CoalesceResult::Fetch(permit),
                };
            }
            FetchRole::Follower(waiters) => waiters,
        };
        let Some(progress) = coalescer::follow(&mut waiters, stale.is_some()).await else { break };
        part = match (progress.outcome, progress.fill, stale) {
            // A stale answer that would be served after a failure of our own fetch is served after
            // this one: the origin is spared.
            (Some(FetchOutcome::Failed), _, Some(stale))
                if stale.entry.serves_on_error(OriginFailure::Status, now) =>
            {
                return CoalesceResult::Stale(Arc::clone(stale));
            }
            (Some(FetchOutcome::Failed), ..) => worker.context.coalescer.join(&plan.key),
            (Some(FetchOutcome::Stored), ..) => {
                return usable(worker, clean, plan, now).map_or_else(
                    || CoalesceResult::Fetch(FetchPermit::alone()),
                    CoalesceResult::Served,
                );
            }
            (None, Some(fill), _) => match look_at(worker, clean, &fill) {
                Fit::Joined(reader) => return CoalesceResult::Joined(reader),
                Fit::Outdated => worker.context.coalescer.join_other(&plan.key, &waiters),
                Fit::Other => break,
            },
            (None, None, Some(stale)) => return CoalesceResult::Stale(Arc::clone(stale)),
            (Some(FetchOutcome::NotStored) | None, ..) => break,
        };
    }
    CoalesceResult::Fetch(FetchPermit::alone())
}

/// Whether an answer being received fits this request.
enum Fit {
    Joined(Reader),
    /// It did, but no longer does: its lifetime is over, or it was purged.
    Outdated,
    Other,
}

fn look_at(worker: &Worker, clean: &SanitizedRequest<'_>, fill: &Arc<Fill>) -> Fit {
    let is_usable =
        |now: UnixMillis| !matches!(fill.head.entry.look_up(now), Lookup::Expired { .. });
    if !is_usable(fill.head.entry.received) || !clean.decide(|head| fits(&fill.head.entry, head)) {
        return Fit::Other;
    }
    let is_of_these_rules = *fill.config == *clean.rules.hash.as_str();
    let is_purged = worker.context.store.has_purged(&fill.head, fill.mark);
    if !is_of_these_rules || is_purged || !is_usable(worker.context.clock.now()) {
        return Fit::Outdated;
    }
    fill.join().map_or(Fit::Other, Fit::Joined)
}

/// The stored answer, if it need not be revalidated.
fn usable(
    worker: &Worker,
    clean: &SanitizedRequest<'_>,
    plan: &Plan<'_>,
    now: UnixMillis,
) -> Option<Arc<Stored>> {
    let (stored, _) = look_up(worker, clean, plan);
    stored.filter(|it| !matches!(it.entry.look_up(now), Lookup::Expired { .. }))
}

/// Forwards a request whose answer is known not to be stored: its own conditions and range apply,
/// and nothing waits for its end.
async fn pass(
    worker: &Worker,
    clean: Box<SanitizedRequest<'_>>,
    mut plan: Box<Plan<'_>>,
    way: ForwardTarget<'_>,
    (status, shown): (CacheStatus, Shown),
) -> Result<Response<Body>, Refused> {
    plan.learned = worker.context.varies.of(&way.route_state.name);
    let may_pass = clean.may_pass() && way.route_state.assets.is_none();
    let mut outgoing = Outgoing {
        headers: match shown {
            Shown::Planned => cache_fields::passing(clean.headers, &clean.inbound, &plan),
            Shown::Whole => std::mem::take(clean.headers),
        },
        timeout: way.timeout,
        exchange: clean.exchange,
        may_pass,
        route_state: Some(Arc::clone(way.route_state)),
        may_be_stale: way.destination.may_be_stale(),
        ..Outgoing::to(Arc::clone(way.destination.upstream), clean.method, plan.target().to_owned())
    };
    let sent = forward::send(worker.client(), &mut outgoing).await;
    let mut response = sent.map_err(|failure| failure.refused(way.destination.is_sharded()))?;
    let (code, headers) = (response.status(), response.headers_mut());
    cache_fields::edited(way.route_state, plan.target(), code, headers);
    count(worker, way.route_state, status);
    reply::add_cache_status(response.headers_mut(), status.member(Tier::Sidecar));
    Ok(response)
}

fn look_up(
    worker: &Worker,
    clean: &SanitizedRequest<'_>,
    plan: &Plan<'_>,
) -> (Option<Arc<Stored>>, Miss) {
    match clean.decide(|head| worker.context.store.look_up(plan, head)) {
        Found::Answer(stored) => (Some(stored), Miss::Stale),
        Found::Miss(reason) => (None, reason),
    }
}

/// Adds the cookies of a 304 to the stored answer.
fn with_cookies(mut response: Response<Body>, cookies: Vec<HeaderValue>) -> Response<Body> {
    let lines = cookies.into_iter().map(|value| (header::SET_COOKIE, value));
    response.headers_mut().extend(lines);
    response
}

fn finish(
    worker: &Worker,
    clean: &SanitizedRequest<'_>,
    way: &ForwardTarget<'_>,
    (stale, fetched): (Option<Arc<Stored>>, Fetched),
    (reply, now): (Reply, UnixMillis),
) -> Result<Response<Body>, Refused> {
    let route_state = way.route_state;
    let status = match (reply, stale) {
        (Reply::Stale(status), Some(stored)) => {
            return Ok(serve(worker, clean, route_state, &stored, (status, now)));
        }
        // A requested range is cut from the stored answer.
        (Reply::Stale(status) | Reply::Fetched(status) | Reply::OwnRange(status), _) => {
            Some(status)
        }
        (Reply::Problem, _) => None,
    };
    match (fetched, status) {
        (Fetched::Confirmed(stored, _, cookies), Some(status)) => {
            Ok(with_cookies(serve(worker, clean, route_state, &stored, (status, now)), cookies))
        }
        (Fetched::Stored(stored) | Fetched::NotKept(stored, _), Some(status)) => {
            Ok(serve(worker, clean, route_state, &stored, (status, now)))
        }
        (Fetched::Coming(reader, _), Some(status)) => {
            Ok(serve_coming(worker, clean, route_state, reader, (status, now)))
        }
        (Fetched::Passed(mut response, _), Some(status)) => {
            count(worker, route_state, status);
            reply::add_cache_status(response.headers_mut(), status.member(Tier::Sidecar));
            Ok(if clean.method == Method::HEAD {
                response.map(|_| Body::empty())
            } else {
                response
            })
        }
        (Fetched::Failed(failure), _) => Err(failure.refused(way.destination.is_sharded())),
        (_, None) => Err(Refused::new(Problem::Internal, "the fetch has brought nothing")),
    }
}
