//! The 202 half: who may, a durable copy in the queue, then the answer.

use super::auth::{self, Allowed};
use super::context::JobWorker;
use super::id::{self, Kind};
use super::intake::NotRead;
use super::payload::Payload;
use super::pointer::{self, Pointed};
use super::receipt::{Receipt, is_page};
use super::record::{self, Adopted, Lease, Outcome, Terminal, lease_key, outcome_key};
use super::sending::send;
use super::{adopt, keyed, once, page, refused, repeat, status, synchronous};
use crate::message::body::Body;
use crate::message::fields::View;
use crate::message::refused::Refused;
use crate::request::clean::Clean;
use crate::secrets::Secrets;
use crate::soundness::is_definite;
use crate::upstream::lane::Lane;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::{forward, outgoing};
use http::{HeaderValue, Response, header};
use rules::document::{Auth, KeySource, Login, Offload, Route};
use rules::offload::{self, Decision, Reason, Wait};
use rules::shard::Resolved;
use rules::{Head, Problem};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stores::queue::Queue;
use stores::results::{Condition, Results, StoreError};

/// From the whole request to a durable message; after that the client is told to retry.
pub(super) const ENQUEUE_BUDGET: Duration = Duration::from_secs(3);

/// What an offload needs of the process; bound at start-up, so always there.
pub(super) struct Tools<'a> {
    pub queue: &'a Arc<dyn Queue>,
    pub results: &'a Arc<dyn Results>,
    pub secrets: &'a Secrets,
}

/// # Errors
/// `internal` when start-up let an unbound name pass.
pub(super) fn tools<'a>(worker: &'a JobWorker, rule: &Offload) -> Result<Tools<'a>, Refused> {
    let context = &worker.context;
    match (context.backends.queues.get(&rule.queue), &context.backends.results, &context.secrets) {
        (Some(queue), Some(results), Some(secrets)) => Ok(Tools { queue, results, secrets }),
        _ => Err(Refused::new(Problem::Internal, format!("queue {} is not bound", rule.queue))),
    }
}

/// A request on its way into a job.
pub(super) struct Offered<'a> {
    pub clean: Clean<'a>,
    pub body: Payload,
    /// What the rule's sources find in a body that is not in memory.
    pub pointed: Pointed,
    pub route: &'a Route,
    pub rule: &'a Offload,
    pub target: String,
    pub allowed: Allowed,
}

pub async fn accept(
    worker: &Arc<JobWorker>,
    clean: Clean<'_>,
    route: &Route,
    target: String,
    resolved: Option<&Resolved>,
    decision: Decision,
) -> Result<Response<Body>, Refused> {
    let Some(rule) = &route.offload else {
        return Err(Refused::new(Problem::Internal, "no offload rule"));
    };
    let is_cross_site = clean.decide(|head| {
        // A page knows the site by the host that it asked, whatever a proxy makes of that.
        let head = Head { host: clean.inbound.visitor_host(), ..*head };
        offload::is_cross_site(rule, route.cors.as_ref(), &head)
    });
    if is_cross_site && matches!(decision, Decision::Enqueue { .. }) {
        return Err(Refused::new(Problem::CrossSite, "nothing was queued"));
    }
    let mut allowed = match auth::check(worker, &clean, &rule.auth).await {
        Err(Refused { problem: Problem::OffloadUnauthorized, detail })
            if is_page(clean.headers) =>
        {
            return to_login(worker, clean.lane, &rule.auth, detail);
        }
        checked => checked?,
    };
    let cookies = std::mem::take(&mut allowed.cookies);
    let (lane, base) = (clean.lane, clean.rules.document.jobs.base.clone());
    let asked = Asked { route, rule, target, allowed, is_cross_site };
    let answered = allowed_in(worker, clean, asked, resolved, decision).await;
    cookies.with(worker, lane, &base, answered)
}

/// A request that may become a job.
struct Asked<'a> {
    route: &'a Route,
    rule: &'a Offload,
    target: String,
    allowed: Allowed,
    is_cross_site: bool,
}

async fn allowed_in(
    worker: &Arc<JobWorker>,
    mut clean: Clean<'_>,
    asked: Asked<'_>,
    resolved: Option<&Resolved>,
    decision: Decision,
) -> Result<Response<Body>, Refused> {
    let Asked { route, rule, target, allowed, is_cross_site } = asked;
    let body = std::mem::replace(&mut clean.body, Body::Empty);
    let (body, pointed) = read(worker, body, rule).await.map_err(|why| {
        if let (NotRead::NoRoom(name), Some(reason)) = (&why, decision.reason()) {
            worker.context.metrics.jobs.offered(&route.name, name, reason);
        }
        why.refused("offload.max_body", rule.max_body)
    })?;
    let offered = Offered { clean, body, pointed, route, rule, target, allowed };
    let class = offered.class();
    let context = &worker.context;
    let mut load = context.latencies.load(&route.name, &class, context.clock.now(), rule.after);
    let limit = offered.clean.rules.document.overload.concurrency;
    load.is_cross_site = is_cross_site;
    let lane = offered.clean.lane;
    let destination = context.destinations.find(lane.upstream.as_ref(), resolved)?;
    load.is_full = context.limits.is_full(limit, destination.upstream.slot);
    match offload::under_load(decision, rule, load) {
        Decision::Adopt { reason, after, wait } => {
            let (after, may_queue) = (Duration::from_millis(after), !is_cross_site);
            let wanted = adopt::Wanted { reason, after, may_queue, wait, class };
            once::run(worker, offered, resolved, wanted).await
        }
        Decision::Enqueue { reason, wait } => {
            enqueue(worker, offered, resolved, reason, wait).await
        }
        Decision::Inline(_) => inline(worker, offered, resolved).await,
    }
}

/// A person is sent where the application sends whom it does not know.
fn to_login(
    worker: &JobWorker,
    lane: &Lane,
    auth: &Auth,
    detail: String,
) -> Result<Response<Body>, Refused> {
    let problem = Problem::OffloadUnauthorized;
    let Auth::Caller { login: Some(Login::Path(login)), .. } = auth else {
        return Err(Refused::new(problem, detail));
    };
    status::note_instead(worker, lane, problem, &detail);
    Ok(page::see(login))
}

impl Offered<'_> {
    /// What requests are alike in how long they take; empty where the rule names nothing.
    fn class(&self) -> String {
        self.rule.class.as_ref().and_then(|source| self.value(source)).unwrap_or_default()
    }

    /// What a lease says of its execution, and a notification of its end.
    pub(super) fn about(&self) -> Adopted {
        let user = self.allowed.keep.first().and_then(|(_, value)| value.to_str().ok());
        let (route, queue) = (self.route.name.clone(), self.rule.queue.clone());
        Adopted { until: 0, route, queue, user: user.map(str::to_owned) }
    }

    /// The value of a source of the request.
    pub(super) fn value(&self, source: &KeySource) -> Option<String> {
        let view = View::of(self.clean.headers);
        let head =
            Head { target: &self.target, ..self.clean.inbound.head(&self.clean.method, &view) };
        let rules = &self.clean.rules;
        let path = self.target.split('?').next().unwrap_or_default();
        let parameters = rules.parameters(&head, path);
        match (&self.body, source) {
            (Payload::Spooled(_), KeySource::Body(pointer)) => self.pointed.get(pointer).cloned(),
            (Payload::Spooled(_), _) => offload::value(source, &head, &parameters, &[]),
            (Payload::Memory(body), _) => offload::value(source, &head, &parameters, body),
        }
    }
}

/// The body, and what the rule's sources find in it.
async fn read(
    worker: &JobWorker,
    body: Body,
    rule: &Offload,
) -> Result<(Payload, Pointed), NotRead> {
    let (intake, spool) = (&worker.context.intake, &worker.context.spool);
    let body = intake.read(spool, body, rule.max_body).await?;
    let pointed = pointer::pointed(intake, &body, [&rule.class, &rule.tenant]).await?;
    Ok((body, pointed))
}

pub(super) async fn enqueue(
    worker: &Arc<JobWorker>,
    offered: Offered<'_>,
    resolved: Option<&Resolved>,
    reason: Reason,
    wait: Wait,
) -> Result<Response<Body>, Refused> {
    let metrics = &worker.context.metrics.jobs;
    let (route, queue) = (offered.route.name.clone(), offered.rule.queue.clone());
    let tools = tools(worker, offered.rule)?;
    if let Some(refusal) = worker.context.backends.soundness.of_new_jobs(&queue) {
        return refused::without_queue(worker, offered, resolved, reason, &refusal).await;
    }
    let started = Instant::now();
    // One budget for everything: two calls of 3 s and a retry would add up to 9.
    let (id, key) = choose_id(worker, &offered, &tools)?;
    let put = tokio::time::timeout(ENQUEUE_BUDGET, async {
        if key.is_some() {
            return keyed::put(worker, &offered, &tools, &id).await;
        }
        send(worker, &offered, &tools, &id).await.map(|()| None)
    });
    let put = put.await.unwrap_or_else(|_| {
        Err(NotQueued::Unavailable("timeout", "the queue took too long".to_owned()))
    });
    match put {
        Ok(None) => {}
        Ok(Some(found)) => {
            let known = repeat::Known { id: &id, found, reason, wait };
            let answer = repeat::answer(worker, &offered, &tools, known).await?;
            return Ok(keyed::marked(answer, key.as_ref()));
        }
        Err(NotQueued::Refused(refused)) => return Err(refused),
        Err(NotQueued::Unavailable(name, detail)) => {
            metrics.offered(&route, name, reason);
            tracing::warn!(route, queue, reason = name, detail, "job not queued");
            // A retry with the key is the same job: nothing needs to be taken back.
            let is_withdrawn = key.is_none() && withdrawn(worker, &tools, &id).await;
            // What was refused was not done.
            let is_unstarted = is_withdrawn || key.is_none() && is_definite(name);
            if is_unstarted && refused::may_be_inline(offered.rule, is_definite(name)) {
                return inline(worker, offered, resolved).await;
            }
            let started = if is_unstarted { "nothing is started" } else { MAY_BE_STARTED };
            // What the queue said is for the log: it may name accounts and addresses.
            return Err(Refused::new(Problem::OffloadUnavailable, format!("{name}; {started}")));
        }
    }
    metrics.offered(&route, "queued", reason);
    let seconds = started.elapsed().as_secs_f64();
    metrics.enqueue_seconds.with_label_values(&[route.as_str()]).observe(seconds);
    tracing::info!(route, queue, job = id, reason = reason.as_str(), "job queued");
    if let Some(answer) = synchronous::outcome(worker, tools.results, &offered, &id, wait).await {
        return answer.map(|answer| keyed::marked(answer, key.as_ref()));
    }
    let receipt = Receipt::of(&offered.clean, offered.rule).answer(&id, "queued", reason);
    Ok(keyed::marked(receipt, key.as_ref()))
}

/// Why there is no job.
pub(super) enum NotQueued {
    Refused(Refused),
    Unavailable(&'static str, String),
}

impl NotQueued {
    /// `started` says what may have come of the request.
    pub(super) fn refused(self, started: &str) -> Refused {
        match self {
            Self::Refused(refused) => refused,
            Self::Unavailable(name, detail) => {
                tracing::warn!(reason = name, detail, "no job");
                Refused::new(Problem::OffloadUnavailable, format!("{name}; {started}"))
            }
        }
    }
}

/// The id of the job to be, and the `Idempotency-Key` from which it comes.
fn choose_id(
    worker: &JobWorker,
    offered: &Offered<'_>,
    tools: &Tools<'_>,
) -> Result<(String, Option<HeaderValue>), Refused> {
    let (caller, route) = (&offered.allowed.caller, &offered.route.name);
    if let Some(key) = keyed::of(offered)? {
        return Ok((id::keyed(tools.secrets, route, caller, &keyed::text(&key)), Some(key)));
    }
    let id = id::fresh(tools.secrets, Kind::Queued, route, caller, worker.context.clock.now());
    Ok((id.map_err(|error| Refused::new(Problem::OffloadUnavailable, error.to_string()))?, None))
}

/// What a client is told when its message may be in the queue after all.
const MAY_BE_STARTED: &str = "the job may be run all the same; retry with the same Idempotency-Key";

/// A request whose send failed may be in the queue after all. The job is cancelled, so that a
/// message that arrives late is not run besides the client's retry, or the execution inline. The
/// lease comes first: a message that arrived early is being run.
async fn withdrawn(worker: &JobWorker, tools: &Tools<'_>, id: &str) -> bool {
    const BUDGET: Duration = Duration::from_secs(1);
    /// Longer than the budget and the difference of two clocks.
    const LEASE_MS: u64 = 15_000;
    let (now, results) = (worker.context.clock.now(), tools.results.as_ref());
    let until = now.saturating_add(LEASE_MS);
    let lease = Lease { holder: "withdrawn".to_owned(), until, ..Lease::default() };
    let outcome = Outcome::without_answer(id, Terminal::Cancelled, "withdrawn", now);
    let written = async {
        record::write(results, &lease_key(id), &lease, Condition::IfAbsent).await?;
        record::write(results, &outcome_key(id), &outcome, Condition::IfAbsent).await
    };
    matches!(tokio::time::timeout(BUDGET, written).await, Ok(Ok(_)))
}

pub(super) fn store_failed(error: StoreError) -> NotQueued {
    NotQueued::Unavailable(error.name, error.detail)
}

/// `fallback = "inline"`: the queue is down, so the client waits for the app.
pub(super) async fn inline(
    worker: &Arc<JobWorker>,
    offered: Offered<'_>,
    resolved: Option<&Resolved>,
) -> Result<Response<Body>, Refused> {
    let mut outgoing = outgoing(worker, offered, resolved)?;
    forward::send(&worker.client, &mut outgoing).await.map_err(|failure| failure.refused(false))
}

/// The request as it would have gone on.
pub(super) fn outgoing(
    worker: &JobWorker,
    offered: Offered<'_>,
    resolved: Option<&Resolved>,
) -> Result<Outgoing, Refused> {
    let mut headers = std::mem::take(offered.clean.headers);
    let destination = worker.context.destinations.direct(
        &mut headers,
        offered.clean.lane.upstream.as_ref(),
        resolved,
        offered.clean.is_forwarded,
    )?;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(offered.body.length()));
    let body = offered.body.body().map_err(|error| NotRead::unreadable(&error).refused("", 0))?;
    let timeout = outgoing::timeout(Some(offered.route));
    Ok(Outgoing {
        headers,
        body,
        timeout,
        exchange: offered.clean.exchange,
        lane: Some(Arc::clone(offered.clean.lane)),
        ..Outgoing::to(Arc::clone(destination.upstream), offered.clean.method, offered.target)
    })
}
