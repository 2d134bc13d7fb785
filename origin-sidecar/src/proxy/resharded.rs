//! Requests for a live shard map: what has to be settled before one goes on, and a second try for one that
//! another sidecar refused because its map is newer.

use super::bypass::{Bypassing, past_the_cache};
use super::cached::ForwardTarget;
use super::context::Worker;
use crate::message::body::{Body, Collected, collect};
use crate::message::refused::Refused;
use crate::message::reply;
use crate::request::active_rules::RulesSnapshot;
use crate::request::inbound::Inbound;
use crate::request::sanitized::SanitizedRequest;
use crate::room::ByteBudget;
use crate::shards::admission::{PendingWrite, SendingSidecar};
use crate::telemetry::spans::Span;
use crate::upstream::route_state::RouteState;
use crate::upstream::{hop, outgoing};
use crate::writes::WriteKind;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Body as _;
use http1::received::Received;
use http1::server::Exchange;
use rules::cache::Bypass;
use rules::document::Route;
use rules::shard::Resolved;
use rules::{Problem, Rules};
use std::sync::Arc;

/// Bytes of a body that are kept until another sidecar has taken the request. A larger one that meets a newer
/// map is answered 503: most clients repeat that.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Whether a request of a live map, or one that another sidecar sent, has to settle something first.
pub(super) fn is_unsettled(
    clean: &SanitizedRequest<'_>,
    route: Option<&Route>,
    resolved: &Resolved,
) -> bool {
    resolved.range.is_live
        && clean.write.is_none()
        && (clean.marker.is_some() || is_write(route, &clean.method))
}

pub(super) fn is_write(route: Option<&Route>, method: &Method) -> bool {
    let rule = route.and_then(|route| route.shard.as_ref());
    rule.is_some_and(|rule| rule.is_write(method.as_str()))
}

/// The owner of a request's keys, once that is settled; a write is entered then. May wait.
///
/// # Errors
/// `range-fenced`, `stale-epoch`, `map-behind`, and what a newer map says of the keys.
pub(super) async fn settle(
    worker: &Worker,
    clean: &mut SanitizedRequest<'_>,
    route: Option<&Route>,
    resolved: Resolved,
) -> Result<Resolved, Refused> {
    let context = &worker.jobs.context;
    let destinations = &context.destinations;
    let of_route = clean.route_state.upstream.as_ref();
    let is_here = |resolved: &Resolved| {
        let found = destinations.find(of_route, Some(resolved));
        found.is_ok_and(|destination| destination.upstream.is_app())
    };
    let own_shard = destinations.shard.as_deref();
    let sender =
        clean.marker.as_ref().map(|marker| SendingSidecar { marker, is_here: &is_here, own_shard });
    let (name, method) = (&clean.route_state.name, &clean.method);
    let what = || WriteKind::Request { route: name.as_ref().into(), method: method.clone() };
    let rule = route.and_then(|route| route.shard.as_ref());
    let rule = rule.filter(|_| is_write(route, method));
    let entry = rule.map(|rule| PendingWrite { rule, read_ahead: clean.read_ahead, what: &what });
    let gate = (&*context.holds, &*context.drain);
    let admitted = context.maps.admit(gate, sender.as_ref(), resolved, entry.as_ref()).await;
    let (resolved, write) = admitted?;
    clean.write = write;
    Ok(resolved)
}

/// The refusal of a request from another sidecar, with the epoch that it does not follow yet.
pub(super) fn stale(
    in_force: &RulesSnapshot,
    route_state: &RouteState,
    detail: &str,
) -> Response<Body> {
    let rules = &in_force.rules;
    let mut refusal = reply::problem(&rules.document.jobs.base, Problem::StaleEpoch, detail);
    let route = route_state.index.and_then(|index| rules.route(index));
    let rule = route.and_then(|route| route.shard.as_ref());
    let epoch = rule.and_then(|rule| rules.shard_maps.get(&rule.map)).map_or(0, |map| map.epoch());
    refusal.headers_mut().insert(hop::EPOCH_NAME, HeaderValue::from(epoch));
    refusal
}

/// A request as it was before it was sent to another sidecar.
pub(super) struct KeptRequest {
    method: Method,
    headers: HeaderMap,
    came: Received,
    inbound: Inbound,
    body: Body,
    target: String,
    resolved: Resolved,
    why: Bypass,
    exchange: Option<Exchange>,
}

impl KeptRequest {
    /// Keeps the request, if its body is small enough to be sent twice.
    ///
    /// # Errors
    /// `bad-request` when the client breaks its body off.
    pub(super) async fn of(
        clean: &mut SanitizedRequest<'_>,
        target: &str,
        (resolved, room): (&Resolved, &ByteBudget),
        why: Bypass,
    ) -> Result<Option<Self>, Refused> {
        let body = clean.body.take();
        let length = body.size_hint().exact().filter(|length| *length <= KEPT_BYTES_MAX as u64);
        let permit = length.filter(|_| body.again().is_none()).and_then(|it| room.try_take(it));
        if let Some(permit) = permit {
            let failed = |error: std::io::Error| {
                Refused::new(Problem::BadRequest, format!("the body could not be read: {error}"))
            };
            clean.body = match collect(body, KEPT_BYTES_MAX).await.map_err(failed)? {
                Collected::Whole(bytes) => Body::full(permit.around(bytes)),
                Collected::TooLarge(body) => body,
            };
        } else {
            clean.body = body;
        }
        let Some(body) = clean.body.again() else { return Ok(None) };
        Ok(Some(Self {
            method: clean.method.clone(),
            headers: clean.headers.clone(),
            came: clean.came.clone(),
            inbound: clean.inbound.clone(),
            body,
            target: target.to_owned(),
            resolved: resolved.clone(),
            why,
            exchange: clean.exchange.clone(),
        }))
    }

    /// Sends the request once more, by a newer map; the answer, and who owns the keys by that map.
    ///
    /// # Errors
    /// As any request; `map-behind` when there is no newer map to be found.
    pub(super) async fn send_again(
        mut self,
        worker: &Worker,
        rules: &Arc<Rules>,
        (route, span): (Option<&Route>, &Span),
        route_state: &Arc<RouteState>,
    ) -> Result<(Response<Body>, Resolved), Refused> {
        let context = &worker.jobs.context;
        context.metrics.shards.stale.with_label_values(&["sender"]).inc();
        context.maps.refresh(self.resolved.map(), self.resolved.epoch()).await;
        let newest = context.maps.newest(&self.resolved)?;
        if newest.epoch() == self.resolved.epoch() {
            return Err(Refused::from(Problem::MapBehind));
        }
        let mut clean = Box::new(SanitizedRequest {
            inbound: self.inbound,
            method: self.method,
            headers: &mut self.headers,
            came: &mut self.came,
            is_rebuilt: false,
            body: self.body,
            rules,
            route_state,
            marker: None,
            read_ahead: 0,
            write: None,
            exchange: self.exchange,
        });
        let resolved = settle(worker, &mut clean, route, newest).await?;
        let destination = context.destinations.direct(
            clean.headers,
            route_state.upstream.as_ref(),
            Some(&resolved),
            false,
        )?;
        let way =
            ForwardTarget { destination, timeout: outgoing::timeout(route), route_state, span };
        let mut added = clean.finalize_as_lines();
        span.pass_on_as_line(clean.headers, &mut added);
        let sent = Bypassing { target: self.target, added, why: self.why };
        Ok((past_the_cache(worker, clean, way, sent).await?, resolved))
    }
}
