//! A request whose shard's key lies in its body.

use super::context::Worker;
use super::handle::route_on;
use crate::jobs::intake::NotRead;
use crate::message::body::Body;
use crate::message::refused::Refused;
use crate::request::clean::Clean;
use crate::telemetry::spans::Span;
use http::Response;
use rules::document::Route;
use rules::shard::{self, Resolved};
use rules::sidecar::Proceed;
use rules::{Problem, Rules};
use std::sync::Arc;

/// Goes on when the shard is found, whose key lies in the body, which is read for that.
pub(super) async fn resolve<'a>(
    worker: &'a Arc<Worker>,
    mut clean: Box<Clean<'a>>,
    (route, span): (Option<&'a Route>, &'a Span),
    mut proceed: Proceed<'a>,
) -> Result<Response<Body>, Refused> {
    let body = std::mem::replace(&mut clean.body, Body::Empty);
    let (body, resolved) = find(worker, (clean.rules, route), &proceed, body).await?;
    clean.body = body;
    proceed.shard = shard::Step::Resolved(Box::new(resolved));
    route_on(worker, clean, (route, span), proceed)?.done().await
}

async fn find(
    worker: &Worker,
    (rules, route): (&Rules, Option<&Route>),
    proceed: &Proceed<'_>,
    body: Body,
) -> Result<(Body, Resolved), Refused> {
    let rule = route.and_then(|route| route.shard.as_ref());
    let map = rule.and_then(|rule| rules.shard_maps.get(&rule.map));
    let (shard::Step::NeedsBody { limit }, Some(rule), Some(map)) = (&proceed.shard, rule, map)
    else {
        return Err(Refused::new(Problem::Internal, "shard rule without a map"));
    };
    let intake = &worker.jobs.context.intake;
    let refused = |why: NotRead| why.refused("shard.body_limit", *limit);
    let read = intake.read(&worker.jobs.context.spool, body, *limit).await.map_err(refused)?;
    let resolved = {
        let (bytes, _room) = intake.open(&read).await.map_err(refused)?;
        shard::in_body(rule, map, &bytes)
    };
    let resolved = resolved.map_err(|problem| Refused::from(problem))?;
    let body = read.body().map_err(|error| refused(NotRead::unreadable(&error)))?;
    Ok((body, resolved))
}
