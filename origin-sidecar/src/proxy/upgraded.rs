//! Connections that change protocols (WebSocket).

use super::context::Worker;
use super::resharded;
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::request::sanitized::SanitizedRequest;
use crate::shards::stream_end::{StreamUse, stream_end};
use crate::telemetry::spans::Span;
use crate::upstream::outgoing::{self, Outgoing};
use crate::upstream::upgrade;
use http::Response;
use http1::server::Exchange;
use rules::Problem;
use rules::document::Route;
use rules::shard;
use rules::sidecar::Proceed;
use std::sync::Arc;

/// Joins a connection that changes protocols to the holder of its data.
pub(super) async fn upgraded(
    worker: &Arc<Worker>,
    mut clean: Box<SanitizedRequest<'_>>,
    (route, span): (Option<&Route>, &Span),
    mut proceed: Proceed<'_>,
    exchange: &Exchange,
) -> Result<Response<Body>, Refused> {
    if matches!(proceed.shard, shard::Step::NeedsBody { .. }) {
        let detail = "an upgrade has no body to find the key in".to_owned();
        return Err(Refused::new(Problem::KeyMissing, detail));
    }
    if let Some(resolved) = proceed.shard.resolved().cloned()
        && resharded::is_unsettled(&clean, route, &resolved)
    {
        let resolved = resharded::settle(worker, &mut clean, route, resolved).await?;
        proceed.shard = shard::Step::Resolved(Box::new(resolved));
    }
    let is_write = resharded::is_write(route, &clean.method);
    let of = if is_write { StreamUse::Writes } else { StreamUse::Reads };
    let live = proceed.shard.resolved().filter(|resolved| resolved.range.is_live).cloned();
    let maps = &worker.jobs.context.maps;
    let end = live.map(|resolved| stream_end(maps, resolved, of));
    let mut headers = std::mem::take(clean.headers);
    span.pass_on(&mut headers);
    let destination = worker.jobs.context.destinations.direct(
        &mut headers,
        clean.route_state.upstream.as_ref(),
        proceed.shard.resolved(),
        clean.is_forwarded(),
    )?;
    let upstream = destination.upstream;
    let outgoing = Outgoing {
        headers,
        came: std::mem::take(clean.came),
        timeout: outgoing::timeout(route),
        route_state: Some(Arc::clone(clean.route_state)),
        write: clean.write,
        may_be_stale: destination.may_be_stale(),
        ..Outgoing::to(Arc::clone(upstream), clean.method, proceed.take_target())
    };
    upgrade::pass(worker.client(), outgoing, exchange, end)
        .await
        .map_err(|failure| failure.refused(false))
}
