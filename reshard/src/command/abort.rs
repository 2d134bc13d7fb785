//! `reshard abort`, `rollback` and `finish`: the three ends of a move.

use super::arguments::EndArguments;
use super::on_move::open_to_end;
use super::report::Report;
use super::stop::Stop;
use crate::journal::{Entry, Journal};
use crate::move_error::MoveError;
use crate::mover::Mover;
use serde_json::json;

/// Undoes a move that was not switched. It can be called again until it succeeds, as can the other two.
///
/// # Errors
/// When there is no move, or a server does not do what is asked.
pub async fn abort(own: &EndArguments) -> Result<(), Stop> {
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

async fn end(
    own: &EndArguments,
    what: &str,
    act: impl AsyncFnOnce(&Mover<'_>, &mut Entry) -> Result<(), MoveError>,
) -> Result<(), Stop> {
    let report = Report::new(own.on.json);
    let (mut entry, parts) = open_to_end(own).await?;
    let moved = &entry.moved;
    let sentence = format!(
        "{what} move {} of {} from {} to {} (it is {})",
        moved.id,
        moved.range,
        moved.source,
        moved.target,
        entry.step.name()
    );
    report.event("plan", json!({ "move": moved.id.0, "step": entry.step.name() }), &sentence);
    report.confirm(own.consent.yes)?;
    let journal = Journal::open(&parts.databases.source, own.consent.take_over).await;
    let journal = journal.map_err(Stop::run)?;
    // Another tool may have gone on with it until this one got the lock.
    entry = super::on_move::entry(&parts.databases.source, Some(entry.moved.id.0)).await?;
    let mover = parts.mover(&journal, &report);
    act(&mover, &mut entry).await.map_err(Stop::run)
}
