//! A request whose shard's key lies in its body.

use super::Worker;
use super::clean::Clean;
use super::handle::{Refused, route_on};
use crate::body::{Body, Collected, collect};
use crate::telemetry::Span;
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
    let (body, resolved) = find(clean.rules, route, &proceed, body).await?;
    clean.body = body;
    proceed.shard = shard::Step::Resolved(Box::new(resolved));
    route_on(worker, clean, (route, span), proceed)?.done().await
}

async fn find(
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
