//! From a request to its answer, in reading order: refuse, offload, cache, forward.

use super::arrival::{Arrived, ClientSide, arrive, marked, remove_claims};
use super::context::Worker;
use super::cross_origin::{set_fields, share};
use super::handled::{Handled, Total};
use super::in_body;
use super::onward::route_on;
use super::reserved::reserved;
use super::resharded::stale;
use super::upgraded::upgraded;
use crate::message::body::Body;
use crate::message::fields::{Map, View};
use crate::message::refused::Refused;
use crate::message::{grpc, reply};
use crate::request::active_rules::RulesSnapshot;
use crate::request::inbound::{Inbound, Peer};
use crate::request::sanitized::SanitizedRequest;
use crate::request::signed;
use crate::request::signed::Looked;
use crate::telemetry::in_flight::{Carried, Carrier};
use crate::telemetry::spans::{Span, SpanEnd};
use crate::upstream::route_state::RouteState;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use http1::head::RequestHead;
use http1::lines;
use http1::server::Exchange;
use rules::Problem;
use rules::document::Route;
use rules::hygiene;
use rules::offload::mark;
use rules::shard;
use rules::sidecar::{self, Proceed, SidecarAction};
use std::sync::Arc;
use std::time::Duration;

/// Answers one request. Never fails: what goes wrong becomes a problem answer.
pub async fn handle(
    worker: &Arc<Worker>,
    head: &mut RequestHead,
    body: Body,
    peer: &Peer,
    exchange: Option<Exchange>,
) -> Response<Body> {
    let (metrics, telemetry) = (&worker.context.metrics, &worker.context.telemetry);
    let span = telemetry.enter(&head.headers, &head.method, worker.context.clock.now());
    let mut in_flight = metrics.in_flight();
    let in_force = worker.context.active.in_force();
    // The one place that says what was asked for, and only to who wants to see everything.
    tracing::debug!(trace = span.id(), method = %span.method, path = head.target.path(), "request");
    let mut route_state = in_force.route_state(None);
    let origin = lines::first(&head.headers, &header::ORIGIN).and_then(|it| it.to_str().ok());
    let origin = origin.map(str::to_owned);
    let is_grpc = head.method == Method::POST && grpc::is_grpc(&head.headers);
    // Over HTTP/1.1 a connection carries one stream, and gRPC is none that lasts.
    let (is_alone, is_call) = (exchange.is_some(), exchange.is_none() && is_grpc);
    let sender = ClientSide { peer, exchange, span: &span };
    let answer = match admit(worker, (head, body), sender, &in_force, &mut route_state) {
        Ok(Handled::Ready(response)) => Ok(response),
        Ok(Handled::Pending(rest)) if is_call => in_flight.call(rest).await,
        Ok(Handled::Pending(rest)) => rest.await,
        Err(refused) => Err(refused),
    };
    let refusal = answer.as_ref().err().cloned();
    let mut response = answer.unwrap_or_else(|Refused { problem, detail }| {
        metrics.http.problems.with_label_values(&[&*route_state.name, problem.name()]).inc();
        let refusal = reply::problem(&in_force.rules.document.jobs.base, problem, &detail);
        if problem == Problem::StaleEpoch {
            return stale(&in_force, route_state, &detail);
        }
        if is_grpc {
            grpc::refusal(problem, refusal.into_parts().0.headers).map(|()| Body::empty())
        } else {
            refusal
        }
    });
    if let Some(origin) = &origin {
        share(&in_force, route_state, origin, &mut response);
    }
    if worker.context.drain.is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The next request of this client is for another pod.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(idle) = route_state.idle_timeout {
        response.extensions_mut().insert(IdleTimeout(idle));
    }
    let status = refusal.as_ref().map_or(response.status().as_u16(), |it| it.problem.status());
    route_state.meters.answered(status, span.took());
    let refusal = refusal.as_ref().map(|it| (it.problem, it.detail.as_str()));
    let cache = || reply::cache_result(&response);
    telemetry
        .answered(&span, &SpanEnd { route: &route_state.name, status, cache: &cache, refusal });
    let (head, mut body) = response.into_parts();
    body.count(&head.headers, &in_flight);
    if is_alone {
        body = body.carried(|| Carried::new(&Arc::new(Carrier::new(metrics))));
    }
    Response::from_parts(head, body)
}

/// An extension of an answer whose route says how long its reader may pause.
#[derive(Debug, Clone, Copy)]
pub struct IdleTimeout(pub Duration);

/// A job may be looked at under the path of its request; every other request goes on.
fn admit<'a>(
    worker: &'a Arc<Worker>,
    (head, body): (&'a mut RequestHead, Body),
    sender: ClientSide<'a>,
    in_force: &'a RulesSnapshot,
    route_state: &mut &'a Arc<RouteState>,
) -> Result<Handled<'a>, Refused> {
    let rules = &in_force.rules;
    let mut arrived = arrive(worker, head, &sender, rules)?;
    let named = mark::job(&rules.document.jobs, &arrived.inbound.target).map(|_| ());
    let visit = named.and_then(|()| marked(worker, rules, head, &mut arrived.inbound));
    let step = route(worker, (head, body), sender, arrived, (in_force, route_state));
    // What refuses the request refuses the visit, but that no route takes a GET there.
    let (Some(visit), Ok(_) | Err(Refused { problem: Problem::NoRoute, .. })) = (visit, &step)
    else {
        return step;
    };
    Ok(Handled::Pending(Box::pin(async move {
        match visit.answer().await {
            Some(answer) => answer,
            None => step?.done().await,
        }
    })))
}

fn route<'a>(
    worker: &'a Arc<Worker>,
    (head, body): (&'a mut RequestHead, Body),
    sender: ClientSide<'a>,
    arrived: Arrived,
    (in_force, route_state): (&'a RulesSnapshot, &mut &'a Arc<RouteState>),
) -> Result<Handled<'a>, Refused> {
    let rules = &in_force.rules;
    let ClientSide { exchange, span, .. } = sender;
    let Arrived { inbound, looked, marker, is_upgrade } = arrived;
    let decision = decide(worker, in_force, (head, &inbound), looked.as_ref(), route_state)?;
    let matched = decision.route;
    remove_claims(worker, matched.filter(|_| marker.is_none()), &mut head.headers);
    let proceed = match decision.action {
        SidecarAction::Refuse(problem) => {
            return Err(Refused::new(problem, refusal(problem, &inbound)));
        }
        SidecarAction::Reserved { path } => {
            *route_state = in_force.reserved();
            span.pass_on(&mut head.headers);
            let asked = async move { reserved(worker, rules, head, body, &inbound, &path).await };
            return Ok(Handled::Pending(Box::pin(asked)));
        }
        SidecarAction::Preflight { fields } => {
            let mut response = reply::text(204, "");
            set_fields(response.headers_mut(), fields);
            return Ok(Handled::Ready(response));
        }
        SidecarAction::Proceed(proceed) => proceed,
    };
    let is_upgrade = is_upgrade && exchange.is_some();
    if is_upgrade {
        hygiene::before_sending(&mut Map(&mut head.headers), &inbound.sender());
    }
    let clean = |body, exchange| {
        Box::new(SanitizedRequest {
            inbound,
            method: std::mem::take(&mut head.method),
            headers: &mut head.headers,
            came: &mut head.came,
            is_rebuilt: is_upgrade,
            body,
            rules,
            route_state,
            marker,
            read_ahead: 0,
            write: None,
            exchange,
        })
    };
    if let Some(exchange) = exchange.as_ref().filter(|_| is_upgrade) {
        let (clean, exchange) = (clean(Body::empty(), None), exchange.clone());
        return Ok(Handled::Pending(Box::pin(async move {
            upgraded(worker, clean, (matched, span), proceed, &exchange).await
        })));
    }
    let mut body = limited(body, matched)?;
    if let Some(idle) = route_state.idle_timeout {
        body.set_idle_timeout(idle);
        if let Some(exchange) = &exchange {
            exchange.set_idle_timeout(idle);
        }
    }
    let clean = clean(body, exchange);
    let total = Total::of(worker, matched, span);
    if matches!(proceed.shard, shard::Step::NeedsBody { .. }) {
        let rest = Box::pin(route_by_body(worker, clean, (matched, span), proceed));
        return Ok(Handled::Pending(rest).within(total));
    }
    Ok(route_on(worker, clean, (matched, span), proceed)?.within(total))
}

/// The same, once the shard is found whose key lies in the body.
async fn route_by_body<'a>(
    worker: &'a Arc<Worker>,
    mut clean: Box<SanitizedRequest<'a>>,
    (route, span): (Option<&'a Route>, &'a Span),
    mut proceed: Proceed<'a>,
) -> Result<Response<Body>, Refused> {
    let body = clean.body.take();
    let (body, resolved) = in_body::find(worker, (clean.rules, route), &proceed, body).await?;
    clean.read_ahead = body.size_hint().lower();
    clean.body = body;
    proceed.shard = shard::Step::Resolved(Box::new(resolved));
    route_on(worker, clean, (route, span), proceed)?.done().await
}

/// What the rules say, once it is known that the request may be answered at all: what they refuse
/// tells about them.
fn decide<'r>(
    worker: &Worker,
    in_force: &'r RulesSnapshot,
    (head, inbound): (&RequestHead, &Inbound),
    looked: Option<&Looked>,
    route_state: &mut &'r Arc<RouteState>,
) -> Result<sidecar::SidecarDecision<'r>, Refused> {
    let rules = &in_force.rules;
    let view = View::of(&head.headers);
    let head = inbound.head(&head.method, &view);
    let decision = sidecar::decide(rules, &head);
    *route_state = in_force.route_state(decision.index);
    let is_required = rules.document.requires_signature(decision.route);
    if let SidecarAction::Refuse(Problem::RulesUnreadable) = decision.action {
        // No rules, nothing that a signature would open.
        return Ok(decision);
    }
    signed::admit(looked, is_required)?;
    for (rule, outcome) in &decision.observed {
        let labels = [&*route_state.name, rule, outcome];
        worker.context.metrics.http.observed.with_label_values(&labels).inc();
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

/// Refuses a body that is known to be too large, and cuts off one that turns out to be.
fn limited(body: Body, route: Option<&Route>) -> Result<Body, Refused> {
    use http_body_util::{BodyExt, Limited};
    if body.is_end_stream() {
        return Ok(Body::empty());
    }
    let Some(max) = route.and_then(|route| route.max_body) else { return Ok(body) };
    if body.size_hint().lower() > max {
        return Err(Refused::new(
            Problem::BodyTooLarge,
            format!("max_body: the route takes {max} bytes"),
        ));
    }
    // A length that was announced is kept by both protocols, and the body stays what it is.
    if body.size_hint().exact().is_some() {
        return Ok(body);
    }
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    Ok(Body::boxed(Limited::new(body, max).map_err(std::io::Error::other).boxed_unsync()))
}
