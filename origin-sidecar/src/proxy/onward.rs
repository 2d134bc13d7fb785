//! The way of a request that may go on: to the queue, the cache or an upstream, and first, where a live shard map
//! says who owns its data, through what has to be settled.

use super::bypass::{Bypassing, past_the_cache};
use super::cached::{self, ForwardTarget};
use super::context::Worker;
use super::handled::Handled;
use super::resharded;
use crate::jobs::accept;
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::request::sanitized::SanitizedRequest;
use crate::shards::stream_end::{StreamUse, stream_end};
use crate::telemetry::spans::Span;
use crate::upstream::{hop, outgoing};
use http::Response;
use rules::Problem;
use rules::cache::Bypass;
use rules::document::Route;
use rules::offload::OffloadDecision;
use rules::shard::{self, Resolved};
use rules::sidecar::Proceed;
use std::sync::Arc;

/// The rest of the way for a request whose shard is known, once it is settled who owns it.
pub(super) fn route_on<'a>(
    worker: &'a Arc<Worker>,
    mut clean: Box<SanitizedRequest<'a>>,
    (route, span): (Option<&'a Route>, &'a Span),
    mut proceed: Proceed<'a>,
) -> Result<Handled<'a>, Refused> {
    // A job is not sent now: who runs it looks for the owner then.
    let is_queued = matches!(proceed.offload, OffloadDecision::Enqueue { .. });
    if let Some(resolved) = proceed.shard.resolved().filter(|it| it.range.is_live && !is_queued) {
        let resolved = resolved.clone();
        let is_unsettled = resharded::is_unsettled(&clean, route, &resolved);
        let destinations = &worker.jobs.context.destinations;
        let destination =
            destinations.find(clean.route_state.upstream.as_ref(), Some(&resolved))?;
        if is_unsettled || destination.may_be_stale() {
            return Ok(Handled::Pending(Box::pin(async move {
                if is_unsettled {
                    let resolved = resharded::settle(worker, &mut clean, route, resolved).await?;
                    proceed.shard = shard::Step::Resolved(Box::new(resolved));
                }
                to_live_shard(worker, clean, (route, span), proceed).await
            })));
        }
    }
    let resolved = proceed.shard.resolved().cloned();
    let handled = go_on(worker, clean, (route, span), proceed)?;
    Ok(match (handled, resolved.filter(|_| !is_queued)) {
        (Handled::Pending(later), Some(resolved)) => Handled::Pending(Box::pin(async move {
            // What writes in a live map has gone the other way.
            Ok(of_shard(worker, (resolved, span), later.await?, StreamUse::Reads))
        })),
        (handled, _) => handled,
    })
}

/// An answer of a shard: it is measured, and a stream of events ends once its data is elsewhere, or before.
fn of_shard(
    worker: &Worker,
    (resolved, span): (Resolved, &Span),
    response: Response<Body>,
    of: StreamUse,
) -> Response<Body> {
    let context = &worker.jobs.context;
    context.metrics.shards.meters.answered(&resolved, span.took());
    if !resolved.range.is_live {
        return response;
    }
    let (parts, body) = response.into_parts();
    let body = body.until(&parts.headers, || stream_end(&context.maps, resolved, of));
    Response::from_parts(parts, body)
}

/// A request for a live shard: if another sidecar refuses it by a newer map, it is sent once more.
async fn to_live_shard<'a>(
    worker: &'a Arc<Worker>,
    mut clean: Box<SanitizedRequest<'a>>,
    (route, span): (Option<&'a Route>, &'a Span),
    proceed: Proceed<'a>,
) -> Result<Response<Body>, Refused> {
    let (rules, route_state) = (clean.rules, clean.route_state);
    let destinations = &worker.jobs.context.destinations;
    let own = proceed.shard.resolved().cloned();
    // A client asks for a GET once more. The answer to a POST would only look as if it were whole.
    let may_end_at_fence = clean.write.is_some() && clean.method.is_safe();
    let kept = match proceed.shard.resolved() {
        Some(resolved)
            if destinations.find(route_state.upstream.as_ref(), Some(resolved))?.may_be_stale() =>
        {
            let why = proceed.cache.as_ref().err().copied().unwrap_or(Bypass::MapChanged);
            let from = (resolved, &worker.jobs.context.maps.kept_bodies);
            resharded::KeptRequest::of(&mut clean, proceed.target(), from, why).await?
        }
        _ => None,
    };
    let (answered, own) = match (go_on(worker, clean, (route, span), proceed)?.done().await, kept) {
        (Err(Refused { problem: Problem::MapBehind, .. }), Some(kept)) => {
            let (answered, newest) =
                kept.send_again(worker, rules, (route, span), route_state).await?;
            (answered, Some(newest))
        }
        (answered, _) => (answered?, own),
    };
    Ok(match own {
        Some(own) => {
            let holder = destinations.find(route_state.upstream.as_ref(), Some(&own));
            let of = match holder {
                _ if !may_end_at_fence => StreamUse::Reads,
                Ok(holder) if holder.may_be_stale() => StreamUse::WritesElsewhere,
                _ => StreamUse::Writes,
            };
            of_shard(worker, (own, span), answered, of)
        }
        None => answered,
    })
}

/// Queue, cache or upstream.
fn go_on<'a>(
    worker: &'a Arc<Worker>,
    mut clean: Box<SanitizedRequest<'a>>,
    (route, span): (Option<&'a Route>, &'a Span),
    mut proceed: Proceed<'a>,
) -> Result<Handled<'a>, Refused> {
    if let Some(route) = route.filter(|route| route.offload.is_some() && !clean.is_forwarded())
        && !matches!(proceed.offload, OffloadDecision::Inline(_))
    {
        clean.finalize_headers();
        span.pass_on(clean.headers);
        let (target, offload) = (proceed.take_target(), proceed.offload);
        return Ok(Handled::Pending(Box::pin(async move {
            let resolved = proceed.shard.resolved();
            accept::accept(&worker.jobs, *clean, route, target, resolved, offload).await
        })));
    }
    let resolved = proceed.shard.resolved();
    let destination = worker.jobs.context.destinations.direct(
        clean.headers,
        clean.route_state.upstream.as_ref(),
        resolved,
        clean.is_forwarded(),
    )?;
    let upstream = destination.upstream;
    let timeout = if outgoing::is_call(upstream, clean.headers) {
        // A call may be silent for minutes, on either side: what bounds it is that both answer pings.
        clean.body = clean.body.take().unpaced();
        outgoing::timeout_of_call(route)
    } else {
        outgoing::timeout(route)
    };
    let way = ForwardTarget { destination, timeout, route_state: clean.route_state, span };
    let is_far = hop::is_far(upstream, clean.headers);
    // A GET that writes is nobody else's, and is followed to its end.
    let is_write = clean.write.is_some();
    match proceed {
        Proceed { cache: Ok(mut plan), .. } if !clean.is_forwarded() && !is_far && !is_write => {
            if plan.has_token() {
                clean.decide(|head| plan.seal(&worker.context.token_key, head));
            }
            cached::answer(worker, clean, plan, way)
        }
        mut proceed => {
            let otherwise = if is_write { Bypass::Method } else { Bypass::Forwarded };
            let why = proceed.cache.as_ref().err().copied().unwrap_or(otherwise);
            let target = proceed.take_target();
            let mut added = clean.finalize_as_lines();
            span.pass_on_as_line(clean.headers, &mut added);
            let sent = Bypassing { target, added, why };
            let sent = past_the_cache(worker, clean, way, sent);
            Ok(Handled::Pending(Box::pin(sent)))
        }
    }
}
