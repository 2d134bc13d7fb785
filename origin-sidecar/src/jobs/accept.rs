//! Accepts a job: checks that the caller is allowed, puts a durable copy into the queue, then
//! answers with 202.

use super::auth::{self, Authorized};
use super::context::JobWorker;
use super::enqueue::enqueue;
use super::intake::NotRead;
use super::offered::{OffloadCandidate, inline};
use super::payload::Payload;
use super::pointer::{self, Pointed};
use super::receipt::is_page;
use super::{adopt, execute_once, page, state};
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::request::sanitized::SanitizedRequest;
use crate::upstream::route_state::RouteState;
use http::Response;
use rules::document::{Auth, Login, Offload, Route};
use rules::offload::{self, OffloadDecision};
use rules::shard::Resolved;
use rules::{Head, Problem};
use std::sync::Arc;
use std::time::Duration;

pub async fn accept(
    worker: &Arc<JobWorker>,
    clean: SanitizedRequest<'_>,
    route: &Route,
    target: String,
    resolved: Option<&Resolved>,
    decision: OffloadDecision,
) -> Result<Response<Body>, Refused> {
    let Some(rule) = &route.offload else {
        return Err(Refused::new(Problem::Internal, "no offload rule"));
    };
    let is_cross_site = clean.decide(|head| {
        // A page knows its site by the host that the browser asked for, whatever a proxy changed.
        let head = Head { host: clean.inbound.visitor_host(), ..*head };
        offload::is_cross_site(rule, route.cors.as_ref(), &head)
    });
    if is_cross_site && matches!(decision, OffloadDecision::Enqueue { .. }) {
        return Err(Refused::new(Problem::CrossSite, "nothing was queued"));
    }
    let mut allowed = match auth::check(worker, &clean, &rule.auth).await {
        Err(Refused { problem: Problem::OffloadUnauthorized, detail })
            if is_page(clean.headers) =>
        {
            return to_login(worker, clean.route_state, &rule.auth, detail);
        }
        checked => checked?,
    };
    let cookies = std::mem::take(&mut allowed.cookies);
    let (route_state, base) = (clean.route_state, clean.rules.document.jobs.base.clone());
    let asked = OffloadRequest { route, rule, target, allowed, is_cross_site };
    let answered = allowed_in(worker, clean, asked, resolved, decision).await;
    cookies.with(worker, route_state, &base, answered)
}

/// A request that may become a job.
struct OffloadRequest<'a> {
    route: &'a Route,
    rule: &'a Offload,
    target: String,
    allowed: Authorized,
    is_cross_site: bool,
}

async fn allowed_in(
    worker: &Arc<JobWorker>,
    mut clean: SanitizedRequest<'_>,
    asked: OffloadRequest<'_>,
    resolved: Option<&Resolved>,
    decision: OffloadDecision,
) -> Result<Response<Body>, Refused> {
    let OffloadRequest { route, rule, target, allowed, is_cross_site } = asked;
    let body = clean.body.take();
    let (body, pointed) = read(worker, body, rule).await.map_err(|why| {
        if let (NotRead::NoRoom(name), Some(reason)) = (&why, decision.reason()) {
            worker.context.metrics.jobs.offered(&route.name, name, reason);
        }
        why.refused("offload.max_body", rule.max_body)
    })?;
    let offered = OffloadCandidate { clean, body, pointed, route, rule, target, allowed };
    let class = offered.class();
    let context = &worker.context;
    let mut load = context.latencies.load(&route.name, &class, context.clock.now(), rule.after);
    let limit = offered.clean.rules.document.overload.concurrency;
    load.is_cross_site = is_cross_site;
    let route_state = offered.clean.route_state;
    let destination = context.destinations.find(route_state.upstream.as_ref(), resolved)?;
    load.is_full = context.limits.is_full(limit, destination.upstream.slot);
    match offload::under_load(decision, rule, load) {
        OffloadDecision::Adopt { reason, after, wait } => {
            let (after, may_queue) = (Duration::from(after), !is_cross_site);
            let wanted = adopt::AdoptOptions { reason, after, may_queue, wait, class };
            execute_once::run(worker, offered, resolved, wanted).await
        }
        OffloadDecision::Enqueue { reason, wait } => {
            enqueue(worker, offered, resolved, reason, wait).await
        }
        OffloadDecision::Inline(_) => inline(worker, offered, resolved).await,
    }
}

/// Redirects a person to the page to which the application redirects unknown users.
fn to_login(
    worker: &JobWorker,
    route_state: &RouteState,
    auth: &Auth,
    detail: String,
) -> Result<Response<Body>, Refused> {
    let problem = Problem::OffloadUnauthorized;
    let Auth::Caller { login: Some(Login::Path(login)), .. } = auth else {
        return Err(Refused::new(problem, detail));
    };
    state::note_instead(worker, route_state, problem, &detail);
    Ok(page::see(login))
}

/// Reads the body, and the values of the rule's sources in it.
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
