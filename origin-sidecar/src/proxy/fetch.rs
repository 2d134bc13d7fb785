//! One fetch for the cache: what is asked, how it is sent, and what may come of it.

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

/// What a fetch brought.
pub(super) enum Fetched {
    /// In the store now.
    Stored(Arc<Stored>),
    /// What was stored, confirmed by a 304; whether the store took it again, and the `Set-Cookie` values for
    /// the one who asked.
    Confirmed(Arc<Stored>, Result<(), NotStored>, Vec<HeaderValue>),
    /// For the one who asked: the store did not take it.
    NotKept(Arc<Stored>, NotStored),
    /// Still coming in, and kept at its end unless there is a reason not to.
    Coming(Reader, Result<(), NotStored>),
    /// For the one who asked, streamed.
    Passed(Response<Body>, NotStored),
    Failed(Failure),
}

impl Fetched {
    /// For the rules, which say what follows.
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

/// Everything a fetch needs that outlives the request which started it.
#[derive(Clone)]
pub(super) struct FetchJob {
    pub worker: Arc<Worker>,
    pub inbound: Inbound,
    pub plan: Plan<'static>,
    pub upstream: Arc<Upstream>,
    pub timeout: Duration,
    pub route_state: Arc<RouteState>,
    pub headers: HeaderMap,
    pub config: Arc<str>,
    /// Of the client whose request started it.
    pub exchange: Option<Exchange>,
    /// Told when even the connection is slow.
    pub slow: Option<Slow>,
    /// How long an answer that nobody reads goes on coming in.
    pub unread_timeout: Duration,
}

/// Sends what the plan says.
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
        ..Outgoing::to(Arc::clone(&job.upstream), Method::GET, job.plan.target().to_owned())
    };
    forward::send(job.worker.client(), &mut outgoing).await
}

/// Stores an answer.
///
/// # Errors
/// `superseded` when it was fetched under other rules, or before a purge, and what the store says.
pub(super) fn keep(job: &FetchJob, stored: &Arc<Stored>, mark: Mark) -> Result<(), NotStored> {
    let app = &job.worker.context;
    if *app.active.rules().hash != *job.config {
        return Err(NotStored::Superseded);
    }
    app.store.insert(&job.plan.key, Arc::clone(stored), mark)
}

/// Lets go of what was stored where the fetch has ended that.
pub(super) fn forget_old(job: &FetchJob, outcome: Fetch, stored: Option<&Arc<Stored>>) {
    if let (Some(stored), OldEntry::Removed(_)) = (stored, outcome.old_entry(&job.plan)) {
        job.worker.context.store.forget(&job.plan.key, stored);
    }
}
