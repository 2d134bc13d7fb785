//! A request on arrival: its client, and which of its fields are trusted.

use super::context::Worker;
use crate::jobs::visit::Visit;
use crate::message::fields::{Map, View};
use crate::message::refused::Refused;
use crate::request::inbound::{Inbound, Peer};
use crate::request::signed::{self, Looked};
use crate::telemetry::spans::Span;
use crate::upstream::hop;
use http::{HeaderMap, Method};
use http1::head::RequestHead;
use http1::server::Exchange;
use rules::document::Route;
use rules::offload::mark;
use rules::shard::protocol::Marker;
use rules::trust::{Removed, Trust};
use rules::{Rules, hygiene};
use std::sync::Arc;

/// The client of a request, and the way back to it besides the answer.
pub struct ClientSide<'a> {
    pub peer: &'a Peer,
    pub exchange: Option<Exchange>,
    pub span: &'a Span,
}

/// A request whose fields have been cleaned.
pub struct Arrived {
    pub inbound: Inbound,
    /// The result of verifying its signature, where signatures are verified.
    pub looked: Option<Looked>,
    /// What another sidecar says that sent the request on.
    pub marker: Option<Marker>,
    pub is_upgrade: bool,
}

/// Cleans a request before any rule looks at it.
///
/// # Errors
/// `bad-request` and `forwarded-conflict`, as for [`Inbound::read`].
pub fn arrive(
    worker: &Worker,
    head: &mut RequestHead,
    sender: &ClientSide<'_>,
    rules: &Rules,
) -> Result<Arrived, Refused> {
    let ClientSide { peer, span, .. } = sender;
    let marker = hop::take(&mut head.headers, worker.context.secrets.as_deref(), span.at);
    let is_recent = marker.as_ref().is_some_and(|marker| marker.is_recent);
    if marker.is_some() && !is_recent {
        worker.context.metrics.shards.stale.with_label_values(&["clock"]).inc();
    }
    let marks = signed::take(&mut head.headers);
    // Another sidecar of ours says truly for whom it forwards. An old marker may have been overheard.
    let trust = if is_recent { Trust::Named { by_forwarded: false } } else { peer.trust };
    let removed = &worker.context.metrics.http.removed;
    let is_upgrade =
        hygiene::on_arrival(head.method.as_str(), &mut Map(&mut head.headers), trust, &|why| {
            removed.with_label_values(&[why.as_str()]).inc()
        });
    let mut inbound = Inbound::read(head, Peer { trust, ..(*peer).clone() })?;
    // Without keys there is nothing to verify, and no view of the fields is needed.
    let signatures = worker.context.signatures.as_ref().filter(|own| own.has_keys());
    let looked = signatures.and_then(|signatures| {
        let view = View::of(&head.headers);
        let as_came = (&inbound, &inbound.head(&head.method, &view));
        let now = worker.context.clock.now();
        signatures.look(rules, as_came, &marks, is_recent, now)
    });
    // The result is counted even where no signature is required, so that one can see whether it
    // could be.
    if let Some(looked) = &looked {
        worker.context.metrics.http.signatures.with_label_values(&[looked.result()]).inc();
    }
    if let Some(visitor) = looked.as_ref().and_then(|looked| looked.visitor.as_ref()) {
        inbound.restore(visitor, &mut head.headers);
    }
    Ok(Arrived { inbound, looked, marker, is_upgrade })
}

/// Removes fields by which only the application may identify a caller: otherwise a client could
/// pass for anybody.
pub fn remove_claims(worker: &Worker, route: Option<&Route>, headers: &mut HeaderMap) {
    let Some(offload) = route.and_then(|route| route.offload.as_ref()) else { return };
    for name in offload.auth.said_by_check() {
        if headers.remove(name).is_some() {
            let removed = &worker.context.metrics.http.removed;
            removed.with_label_values(&[Removed::SaidByCheck.as_str()]).inc();
        }
    }
}

/// The visit of a request that names a job, if it may be a job of ours. Boxed, because most
/// requests name none.
pub fn marked(
    worker: &Arc<Worker>,
    rules: &Arc<Rules>,
    head: &RequestHead,
    inbound: &mut Inbound,
) -> Option<Box<Visit>> {
    let visit =
        Visit::of(&worker.jobs, rules, (&head.method, &head.headers), inbound).map(Box::new);
    if !matches!(head.method, Method::GET | Method::HEAD) {
        // A form without `action` on a result's page: the application expects its own URL.
        inbound.target = mark::without(&rules.document.jobs, &inbound.target);
    }
    visit
}
