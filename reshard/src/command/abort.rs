//! `reshard abort`, `rollback` and `finish`: the three ends of a move.

use super::arguments::{AbortArguments, EndArguments};
use super::on_move::{SESSION, entry, open_to_end};
use super::open::{addresses, endpoint};
use super::report::Report;
use super::stop::Stop;
use crate::journal::{Entry, Journal};
use crate::move_error::MoveError;
use crate::mover::Mover;
use crate::source_alone;
use serde_json::json;

/// Undoes a move that was not switched. It can be called again until it succeeds, as can the other two.
///
/// # Errors
/// When there is no move, or a server does not do what is asked.
pub async fn abort(own: &AbortArguments) -> Result<(), Stop> {
    if own.without_target {
        return abort_at_the_source(&own.end).await;
    }
    let own = &own.end;
    end(own, "undoes", async |mover, entry| mover.undo(entry).await).await
}

/// Gives the range of a move that was switched back to its first owner.
///
/// # Errors
/// As [`abort`].
pub async fn rollback(own: &EndArguments) -> Result<(), Stop> {
    end(own, "rolls back", async |mover, entry| mover.roll_back(entry).await).await
}

/// Closes the way back of a move that was switched, and removes the source's rows.
///
/// # Errors
/// As [`abort`].
pub async fn finish(own: &EndArguments) -> Result<(), Stop> {
    end(own, "finishes", async |mover, entry| mover.finish(entry).await).await
}

async fn abort_at_the_source(own: &EndArguments) -> Result<(), Stop> {
    let report = Report::new(own.on.json);
    let addresses = addresses(&own.on.connections)?;
    let source = endpoint(&addresses, &own.on.source)?.session(SESSION).await;
    let source = source.map_err(Stop::run)?;
    let meant = entry(&source, own.on.number).await?;
    let moved = &meant.moved;
    let sentence = format!(
        "undoes move {} of {} at {} alone, without {}",
        moved.id, moved.range, moved.source, moved.target
    );
    report.event("plan", json!({ "move": moved.id.0, "step": meant.step.name() }), &sentence);
    report.confirm(own.consent.yes)?;
    let journal = Journal::open(&source, own.consent.take_over).await.map_err(Stop::run)?;
    let mut meant = entry(&source, Some(meant.moved.id.0)).await?;
    let spillway = own.spillway.spillway();
    source_alone::undo(&journal, (&source, &spillway), &mut meant, &report).await.map_err(Stop::run)
}

async fn end(
    own: &EndArguments,
    what: &str,
    act: impl AsyncFnOnce(&Mover<'_>, &mut Entry) -> Result<(), MoveError>,
) -> Result<(), Stop> {
    let report = Report::new(own.on.json);
    let (meant, parts) = open_to_end(own).await?;
    let moved = &meant.moved;
    let sentence = format!(
        "{what} move {} of {} from {} to {} (it is {})",
        moved.id,
        moved.range,
        moved.source,
        moved.target,
        meant.step.name()
    );
    report.event("plan", json!({ "move": moved.id.0, "step": meant.step.name() }), &sentence);
    report.confirm(own.consent.yes)?;
    let journal = Journal::open(&parts.databases.source, own.consent.take_over).await;
    let journal = journal.map_err(Stop::run)?;
    // Another tool may have gone on with it until this one got the lock.
    let mut meant = entry(&parts.databases.source, Some(meant.moved.id.0)).await?;
    let mover = parts.mover(&journal, &report);
    act(&mover, &mut meant).await.map_err(Stop::run)
}
