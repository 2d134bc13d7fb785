//! One fetch for the cache: its request, how it is sent, and its possible results.

use super::cache_fields;
use super::context::Worker;
use crate::message::body::Body;
use crate::request::inbound::Inbound;
use crate::upstream::outgoing::{Failure, Outgoing, Slow};
use crate::upstream::route_state::RouteState;
use crate::upstream::server::Upstream;
use crate::upstream::{forward, hop};
use http::{HeaderMap, HeaderValue, Method, Response};
use http1::server::Exchange;
use memory_cache::fill::Reader;
use memory_cache::purge::Mark;
use memory_cache::stored::Stored;
use rules::cache::{Fetch, NotStored, OldEntry, Plan};
use std::sync::Arc;
use std::time::Duration;

/// The result of a fetch.
pub(super) enum Fetched {
    /// The answer is in the store now.
    Stored(Arc<Stored>),
    /// A 304 confirmed the stored answer. Contains whether the store accepted it again, and the
    /// `Set-Cookie` values for the client that asked.
    Confirmed(Arc<Stored>, Result<(), NotStored>, Vec<HeaderValue>),
    /// The answer is only for the client that asked: the store did not accept it.
    NotKept(Arc<Stored>, NotStored),
    /// The answer is still being received, and stored at its end unless there is a reason not to.
    Coming(Reader, Result<(), NotStored>),
    /// The answer is streamed, only to the client that asked.
    Passed(Response<Body>, NotStored),
    Failed(Failure),
}

impl Fetched {
    /// The result in the form that the cache rules need.
    pub(super) fn outcome(&self) -> Fetch {
        match self {
            Self::Stored(stored) => Fetch::Answered { status: stored.status, stored: Ok(()) },
            Self::Confirmed(_, kept, _) => Fetch::Confirmed(*kept),
            Self::NotKept(stored, why) => {
                Fetch::Answered { status: stored.status, stored: Err(*why) }
            }
            Self::Coming(reader, kept) => {
                Fetch::Answered { status: reader.fill().head.status, stored: *kept }
            }
            Self::Passed(response, why) => {
                Fetch::Answered { status: response.status().as_u16(), stored: Err(*why) }
            }
            Self::Failed(_) => Fetch::Unanswered,
        }
    }
}

/// Everything that a fetch needs beyond the life of the request that started it.
#[derive(Clone)]
pub(super) struct FetchJob {
    pub worker: Arc<Worker>,
    pub inbound: Inbound,
    pub plan: Plan<'static>,
    pub upstream: Arc<Upstream>,
    /// Whether that is another sidecar, which may follow a newer shard map.
    pub may_be_stale: bool,
    pub timeout: Duration,
    pub route_state: Arc<RouteState>,
    pub headers: HeaderMap,
    pub config: Arc<str>,
    /// The exchange with the client whose request started the fetch.
    pub exchange: Option<Exchange>,
    /// Called when even the connection is slow.
    pub slow: Option<Slow>,
    /// How long an answer that nobody reads is still received.
    pub unread_timeout: Duration,
}

/// Sends the request of the plan.
pub(super) async fn send(
    job: &FetchJob,
    stored: Option<&Stored>,
) -> Result<Response<Body>, Failure> {
    let headers = cache_fields::to_origin(&job.headers, &job.inbound, &job.plan, stored);
    send_with(job, headers).await
}

/// Sends a request for the plan's target with these fields.
pub(super) async fn send_with(
    job: &FetchJob,
    headers: HeaderMap,
) -> Result<Response<Body>, Failure> {
    let mut added = String::new();
    hop::carry(&job.upstream, &job.headers, &mut added);
    let mut outgoing = Outgoing {
        headers,
        added,
        timeout: job.timeout,
        exchange: job.exchange.clone(),
        route_state: Some(Arc::clone(&job.route_state)),
        slow: job.slow.clone(),
        may_be_stale: job.may_be_stale,
        ..Outgoing::to(Arc::clone(&job.upstream), Method::GET, job.plan.target().to_owned())
    };
    forward::send(job.worker.client(), &mut outgoing).await
}

/// Stores an answer.
///
/// # Errors
/// `superseded` when it was fetched under other rules or before a purge; otherwise the store's
/// reason.
pub(super) fn keep(job: &FetchJob, stored: &Arc<Stored>, mark: Mark) -> Result<(), NotStored> {
    let app = &job.worker.context;
    if *app.active.rules().hash != *job.config {
        return Err(NotStored::Superseded);
    }
    app.store.insert(&job.plan.key, Arc::clone(stored), mark)
}

/// Removes the stored answer where the result of the fetch demands it.
pub(super) fn forget_old(job: &FetchJob, outcome: Fetch, stored: Option<&Arc<Stored>>) {
    if let (Some(stored), OldEntry::Removed(_)) = (stored, outcome.old_entry(&job.plan)) {
        job.worker.context.store.forget(&job.plan.key, stored);
    }
}
