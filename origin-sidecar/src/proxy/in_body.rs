//! Finds the shard of a request whose key is in its body.

use super::context::Worker;
use crate::jobs::intake::NotRead;
use crate::message::body::Body;
use crate::message::refused::Refused;
use rules::document::Route;
use rules::shard::{self, Resolved};
use rules::sidecar::Proceed;
use rules::{Problem, Rules};

/// Reads the body to find the key in it. The body can be read again.
///
/// # Errors
/// The problem of a missing or invalid key; `no-room` and `body-too-large`.
pub(super) async fn find(
    worker: &Worker,
    (rules, route): (&Rules, Option<&Route>),
    proceed: &Proceed<'_>,
    body: Body,
) -> Result<(Body, Resolved), Refused> {
    let shard::Step::NeedsBody { limit } = &proceed.shard else {
        return Err(Refused::new(Problem::Internal, "the shard is known without the body"));
    };
    let intake = &worker.jobs.context.intake;
    let refused = |why: NotRead| why.refused("shard.body_limit", *limit);
    let read = intake.read(&worker.jobs.context.spool, body, *limit).await.map_err(refused)?;
    let resolved = {
        let (bytes, _room) = intake.open(&read).await.map_err(refused)?;
        rules.shard_in_body(route, &bytes)
    };
    let resolved = resolved.map_err(Refused::from)?;
    let body = read.body().map_err(|error| refused(NotRead::unreadable(&error)))?;
    Ok((body, resolved))
}
