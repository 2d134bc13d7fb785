//! Forwards a request that bypasses the cache.

use super::cached::ForwardTarget;
use super::context::Worker;
use super::{cache_fields, invalidate};
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::message::reply;
use crate::request::sanitized::SanitizedRequest;
use crate::upstream::forward;
use crate::upstream::outgoing::Outgoing;
use http::{Method, Response};
use rules::cache::{Bypass, CacheStatus, Tier};
use std::sync::Arc;

/// A request that bypasses the cache.
pub(super) struct Bypassing {
    /// The target: path and query.
    pub target: String,
    /// Additional field lines.
    pub added: String,
    pub why: Bypass,
}

pub(super) async fn past_the_cache(
    worker: &Worker,
    clean: Box<SanitizedRequest<'_>>,
    way: ForwardTarget<'_>,
    sent: Bypassing,
) -> Result<Response<Body>, Refused> {
    let Bypassing { target, added, why } = sent;
    let is_safe = clean.decide(|head| head.is_safe());
    let is_read = matches!(clean.method, Method::GET | Method::HEAD);
    let may_pass = clean.may_pass() && way.route_state.assets.is_none();
    let mut outgoing = Outgoing {
        headers: std::mem::take(clean.headers),
        came: std::mem::take(clean.came),
        added,
        body: clean.body,
        timeout: way.timeout,
        exchange: clean.exchange,
        may_pass,
        route_state: Some(Arc::clone(way.route_state)),
        write: clean.write,
        may_be_stale: way.destination.may_be_stale(),
        ..Outgoing::to(Arc::clone(way.destination.upstream), clean.method, target)
    };
    let sent = forward::send(worker.client(), &mut outgoing).await;
    // The connection's next request is read into the same memory.
    *clean.headers = outgoing.headers;
    *clean.came = outgoing.came;
    let mut response = sent.map_err(|failure| failure.refused(way.destination.is_sharded()))?;
    if is_read {
        let (status, headers) = (response.status(), response.headers_mut());
        cache_fields::edited(way.route_state, &outgoing.target, status, headers);
    }
    if !is_safe {
        invalidate::stored(worker, clean.rules, (&clean.inbound, &outgoing.method), &response);
    }
    let status = CacheStatus::Bypass(why);
    way.route_state.meters.cached(status.label());
    if why != Bypass::NoRule {
        reply::add_cache_status(response.headers_mut(), status.member(Tier::Sidecar));
    }
    Ok(response)
}
