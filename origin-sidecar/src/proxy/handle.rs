//! From a request to its answer, in reading order: refuse, offload, cache, forward.

use super::cached::Way;
use super::clean::Clean;
use super::destination::direct;
use super::forward::{self, Failure, Outgoing};
use super::inbound::{Inbound, Peer};
use super::step::{Step, Total};
use super::{Worker, cached, hop, invalidate, signed, upgrade};
use crate::body::{Body, Collected, collect};
use crate::fields::{Map, View};
use crate::offload::accept;
use crate::telemetry::{Ended, Span};
use crate::{offload, reply};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http1::lines;
use http1::server::Exchange;
use rules::cache::{Bypass, CacheStatus, Tier};
use rules::document::Route;
use rules::offload::Decision;
use rules::shard::{self, Resolved};
use rules::sidecar::{self, Action, Proceed};
use rules::signature::Member;
use rules::{Problem, Rules, cors, hygiene};
use std::sync::Arc;

/// Metric label of jobs, results and problem pages.
const RESERVED: &str = "reserved";

/// A refusal with what was wrong this time.
pub type Refused = (Problem, String);

/// Answers one request. Never fails: what goes wrong becomes a problem answer.
pub async fn handle(
    worker: &Arc<Worker>,
    request: Request<Body>,
    peer: &Peer,
    exchange: Option<Exchange>,
) -> Response<Body> {
    let (metrics, telemetry) = (&worker.app.metrics, &worker.app.telemetry);
    let span = telemetry.enter(request.headers(), request.method(), worker.app.clock.now());
    let in_flight = metrics.in_flight();
    let rules = worker.app.rules();
    // The one place that says what was asked for, and only to who wants to see everything.
    tracing::debug!(trace = span.id(), method = %span.method, path = request.uri().path(), "asked");
    let mut route = "unmatched";
    let origin = lines::first(request.headers(), &header::ORIGIN).and_then(|it| it.to_str().ok());
    let origin = origin.map(str::to_owned);
    let sender = Sender { peer, exchange, span: &span };
    let answer = match admit(worker, request, sender, &rules, &mut route) {
        Ok(step) => step.done().await,
        Err(refused) => Err(refused),
    };
    let refusal = answer.as_ref().err().cloned();
    let mut response = answer.unwrap_or_else(|(problem, detail)| {
        metrics.http.problems.with_label_values(&[route, problem.name()]).inc();
        reply::problem(&rules.document.jobs.base, problem, &detail)
    });
    if let Some(origin) = &origin {
        share(&rules, route, origin, response.headers_mut());
    }
    let status = response.status().as_u16();
    metrics.answered(route, status, span.took());
    let ended = Ended { route, status, response: Some(&response), refusal: refusal.as_ref() };
    telemetry.answered(&span, &ended);
    // A streamed body is in flight until its end.
    response.map(|body| body.counted(in_flight))
}

/// Lets a page of another origin read the answer, where the route's `cors` says so and the app has
/// not spoken for itself.
fn share(rules: &Rules, route: &str, origin: &str, headers: &mut HeaderMap) {
    let rule = match route {
        RESERVED => cors::of_jobs(&rules.document.routes, origin),
        name => rules.route_by_name(name).and_then(|route| route.cors.as_ref()),
    };
    let Some(rule) = rule else { return };
    if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        set_fields(headers, cors::answer(rule, origin));
    }
}

fn set_fields(headers: &mut HeaderMap, fields: cors::FieldsToSet) {
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
}

/// Who sent a request, and the way back besides the answer.
struct Sender<'a> {
    peer: &'a Peer,
    exchange: Option<Exchange>,
    span: &'a Span,
}

fn admit<'a>(
    worker: &'a Arc<Worker>,
    request: Request<Body>,
    sender: Sender<'a>,
    rules: &'a Arc<Rules>,
    route: &mut &'a str,
) -> Result<Step<'a>, Refused> {
    let (mut parts, body) = request.into_parts();
    let Sender { peer, exchange, span } = sender;
    let is_forwarded = hop::take(&mut parts.headers, worker.app.secrets.as_ref(), span.at);
    let signature = signed::take(&mut parts.headers);
    let is_upgrade = hygiene::on_arrival(parts.method.as_str(), &mut Map(&mut parts.headers));
    // Another sidecar of ours says truly for whom it forwards.
    let peer = Peer { is_trusted: peer.is_trusted || is_forwarded, ..peer.clone() };
    let inbound =
        Inbound::read(&parts, peer).map_err(|(problem, why)| (problem, why.to_owned()))?;
    let decision = decide(worker, rules, &parts, &inbound, (&signature, is_forwarded), route)?;
    let matched = decision.route;
    let proceed = match decision.action {
        Action::Refuse(problem) => return Err((problem, refusal(problem, &inbound))),
        Action::Reserved { path } => {
            *route = RESERVED;
            span.pass_on(&mut parts.headers);
            let asked = async move { reserved(worker, rules, &parts, body, &inbound, &path).await };
            return Ok(Step::Later(Box::pin(asked)));
        }
        Action::Preflight { fields } => {
            let mut response = reply::text(204, "");
            set_fields(response.headers_mut(), fields);
            return Ok(Step::Answered(response));
        }
        Action::Proceed(proceed) => *proceed,
    };
    if let Some(exchange) = exchange.as_ref().filter(|_| is_upgrade) {
        hygiene::before_sending(&mut Map(&mut parts.headers), &inbound.sender());
        let outgoing = joined(worker, (parts, span), matched, &proceed, is_forwarded)?;
        let exchange = exchange.clone();
        return Ok(Step::Later(Box::pin(async move {
            upgrade::pass(worker, outgoing, &exchange).await.map_err(failed)
        })));
    }
    let clean = Clean {
        inbound,
        method: parts.method,
        headers: parts.headers,
        is_rebuilt: false,
        body: limited(body, matched)?,
        rules: Arc::clone(rules),
        is_forwarded,
        exchange,
    };
    let total = Total::of(worker, matched, span);
    if matches!(proceed.shard, shard::Step::NeedsBody { .. }) {
        let rest = Step::Later(Box::pin(with_body(worker, clean, (matched, span), proceed)));
        return Ok(rest.within(total));
    }
    let resolved = proceed.shard.resolved().cloned();
    Ok(route_on(worker, clean, (matched, span), proceed, resolved)?.within(total))
}

/// What the rules say, once it is known that the request may be answered at all: what they refuse
/// tells about them.
fn decide<'r>(
    worker: &Worker,
    rules: &'r Rules,
    parts: &http::request::Parts,
    inbound: &Inbound,
    (signature, is_forwarded): (&Member, bool),
    route: &mut &'r str,
) -> Result<sidecar::Decision<'r>, Refused> {
    let view = View(&parts.headers);
    let head = inbound.head(&parts.method, &view);
    let decision = sidecar::decide(rules, &head);
    *route = decision.route_name();
    let is_required = rules.document.requires_signature(decision.route);
    signed::admit(&worker.app, (inbound, &head), signature, is_forwarded, is_required)?;
    for (rule, outcome) in &decision.observed {
        worker.app.metrics.http.observed.with_label_values(&[*route, rule, outcome]).inc();
    }
    Ok(decision)
}

fn refusal(problem: Problem, inbound: &Inbound) -> String {
    match problem {
        Problem::KeyUnmapped => "no range of the shard map holds this key".to_owned(),
        Problem::PathAmbiguous => match rules::path::normalize(&inbound.target) {
            Err(ambiguous) => ambiguous.as_str().to_owned(),
            Ok(_) => String::new(),
        },
        other => other.title().to_owned(),
    }
}

/// Jobs, results and problem pages.
async fn reserved(
    worker: &Arc<Worker>,
    rules: &Arc<Rules>,
    parts: &http::request::Parts,
    body: Body,
    inbound: &Inbound,
    path: &str,
) -> Result<Response<Body>, Refused> {
    let base = &rules.document.jobs.base;
    let rest = path.strip_prefix(base.as_str()).unwrap_or_default().trim_start_matches('/');
    if let Some(name) = rest.strip_prefix("problems/") {
        return reply::problem_page(name)
            .ok_or((Problem::NoRoute, "there is no such problem".to_owned()));
    }
    match rest.strip_prefix("jobs/") {
        Some(job) => {
            let asked = offload::status::Asked {
                method: &parts.method,
                headers: &parts.headers,
                inbound,
                job,
            };
            offload::status::answer(&worker.app, rules, asked, body).await
        }
        None => Err((Problem::NoRoute, format!("nothing is served under {base}/{rest}"))),
    }
}

/// Where a connection that changes protocols leads.
fn joined(
    worker: &Arc<Worker>,
    (parts, span): (http::request::Parts, &Span),
    route: Option<&Route>,
    proceed: &Proceed<'_>,
    is_forwarded: bool,
) -> Result<Outgoing, Refused> {
    if matches!(proceed.shard, shard::Step::NeedsBody { .. }) {
        let detail = "an upgrade has no body to find the key in".to_owned();
        return Err((Problem::KeyMissing, detail));
    }
    let mut headers = parts.headers;
    span.pass_on(&mut headers);
    let upstream = direct(worker, &mut headers, route, proceed.shard.resolved(), is_forwarded)?;
    Ok(Outgoing {
        upstream: upstream.clone(),
        method: parts.method,
        target: proceed.target.clone(),
        headers,
        added: String::new(),
        body: Body::Empty,
        timeout: forward::timeout(route),
        exchange: None,
        may_pass: false,
        route: Some(route.map_or("unmatched", |route| &route.name).to_owned()),
    })
}

/// Refuses a body that is known to be too large, and cuts off one that turns out to be.
fn limited(body: Body, route: Option<&Route>) -> Result<Body, Refused> {
    use http_body::Body as _;
    use http_body_util::{BodyExt, Limited};
    if body.is_end_stream() {
        return Ok(Body::Empty);
    }
    let Some(max) = route.and_then(|route| route.max_body) else { return Ok(body) };
    if body.size_hint().lower() > max {
        return Err((Problem::BodyTooLarge, format!("the route takes {max} bytes")));
    }
    // A length that was announced is kept by both protocols, and the body stays what it is.
    if body.size_hint().exact().is_some() {
        return Ok(body);
    }
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    Ok(Body::boxed(Limited::new(body, max).map_err(std::io::Error::other).boxed_unsync()))
}

/// Goes on when the shard is found, whose key lies in the body, which is read for that.
async fn with_body<'a>(
    worker: &'a Arc<Worker>,
    mut clean: Clean,
    (route, span): (Option<&'a Route>, &'a Span),
    proceed: Proceed<'a>,
) -> Result<Response<Body>, Refused> {
    let body = std::mem::replace(&mut clean.body, Body::Empty);
    let (body, resolved) = resolve(&clean.rules, route, &proceed, body).await?;
    clean.body = body;
    route_on(worker, clean, (route, span), proceed, Some(resolved))?.done().await
}

async fn resolve(
    rules: &Rules,
    route: Option<&Route>,
    proceed: &Proceed<'_>,
    body: Body,
) -> Result<(Body, Resolved), Refused> {
    let rule = route.and_then(|route| route.shard.as_ref());
    let map = rule.and_then(|rule| rules.shard_maps.get(&rule.map));
    let (shard::Step::NeedsBody { limit }, Some(rule), Some(map)) = (&proceed.shard, rule, map)
    else {
        return Err((Problem::Internal, "shard rule without a map".to_owned()));
    };
    let read = collect(body, usize::try_from(*limit).unwrap_or(usize::MAX)).await;
    match read.map_err(|error| (Problem::BadRequest, error.to_string()))? {
        Collected::Whole(bytes) => {
            let resolved = shard::in_body(rule, map, &bytes)
                .map_err(|problem| (problem, problem.title().to_owned()))?;
            Ok((Body::full(bytes), resolved))
        }
        Collected::TooLarge(_) => Err((
            Problem::BodyTooLarge,
            format!("the shard key is looked for in the first {limit} bytes (shard.body_limit)"),
        )),
    }
}

/// The rest of the way for a request whose shard is known: queue, cache or upstream.
fn route_on<'a>(
    worker: &'a Arc<Worker>,
    mut clean: Clean,
    (route, span): (Option<&'a Route>, &'a Span),
    proceed: Proceed<'a>,
    resolved: Option<Resolved>,
) -> Result<Step<'a>, Refused> {
    let Proceed { target, offload, cache, .. } = proceed;
    if let Some(route) = route.filter(|route| route.offload.is_some() && !clean.is_forwarded)
        && !matches!(offload, Decision::Inline(_))
    {
        clean.rebuild();
        span.pass_on(&mut clean.headers);
        return Ok(Step::Later(Box::pin(async move {
            accept::accept(worker, clean, route, target, resolved.as_ref(), offload).await
        })));
    }
    let upstream =
        direct(worker, &mut clean.headers, route, resolved.as_ref(), clean.is_forwarded)?;
    let name = route.map_or("unmatched", |route| &route.name);
    let way = Way { upstream, timeout: forward::timeout(route), route: name, span };
    let cache = if clean.is_forwarded { Err(Bypass::Forwarded) } else { cache };
    match cache {
        Ok(plan) => cached::answer(worker, clean, plan, way),
        Err(why) => {
            let mut added = clean.rebuild_as_lines();
            span.pass_on_as_line(&mut clean.headers, &mut added);
            let sent = Bypassing { target, added, why, is_sharded: resolved.is_some() };
            let sent = past_the_cache(worker, clean, way, sent);
            Ok(Step::Later(Box::pin(sent)))
        }
    }
}

/// A request that does not ask the cache.
struct Bypassing {
    /// Path and query.
    target: String,
    /// Fields besides those of the request, as lines.
    added: String,
    why: Bypass,
    is_sharded: bool,
}

async fn past_the_cache(
    worker: &Worker,
    clean: Clean,
    way: Way<'_>,
    sent: Bypassing,
) -> Result<Response<Body>, Refused> {
    let Bypassing { target, added, why, is_sharded } = sent;
    let is_safe = clean.method.is_safe();
    let may_pass = clean.may_pass();
    let outgoing = Outgoing {
        upstream: way.upstream.clone(),
        method: clean.method,
        target,
        headers: clean.headers,
        added,
        body: clean.body,
        timeout: way.timeout,
        exchange: clean.exchange,
        may_pass,
        route: Some(way.route.to_owned()),
    };
    let sent = forward::send(worker, outgoing).await;
    let mut response = sent.map_err(|failure| shard_failed(failure, is_sharded))?;
    if !is_safe && response.status().as_u16() < 400 {
        invalidate::stored(worker, &clean.rules, &clean.inbound, &response);
    }
    worker.app.metrics.cache.requests.with_label_values(&[way.route, "bypass"]).inc();
    if why != Bypass::NoRule {
        let member = CacheStatus::Bypass(why).member(Tier::Sidecar);
        reply::add_cache_status(response.headers_mut(), member);
    }
    Ok(response)
}

pub fn failed(failure: Failure) -> Refused {
    (failure.problem, failure.detail)
}

/// An unreachable shard is not a broken gateway: other keys are still served.
pub fn shard_failed(failure: Failure, is_sharded: bool) -> Refused {
    match failure.problem {
        Problem::UpstreamUnreachable if is_sharded => (Problem::ShardUnavailable, failure.detail),
        problem => (problem, failure.detail),
    }
}
