//! `reshard abort`, `rollback` and `finish`: the three ends of a move.

use super::arguments::{AbortArguments, EndArguments};
use super::on_move::{SESSION, entry, open_to_end};
use super::open::{addresses, endpoint};
use super::persist::Attempts;
use super::report::Report;
use super::stop::Stop;
use crate::journal::{Entry, Journal, MayEnd};
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
    end(own, "finishes", async |mover, entry| mover.finish(entry, !own.without_comparison).await)
        .await
}

async fn abort_at_the_source(own: &EndArguments) -> Result<(), Stop> {
    let report = Report::new(own.on.json);
    let addresses = addresses(&own.on.connections)?;
    let source = endpoint(&addresses, &own.on.source)?.session(SESSION).await?;
    let meant = entry(&source, own.on.number).await?;
    let moved = &meant.moved;
    let sentence = format!(
        "undoes move {} of {} at {} alone, without {}",
        moved.id, moved.range, moved.source, moved.target
    );
    report.event("move", json!({ "move": moved.id.0, "step": meant.step.name() }), &sentence);
    report.confirm(own.consent.yes)?;
    let may_end = if own.consent.take_over { MayEnd::Anybody } else { MayEnd::Nobody };
    let journal = Journal::open(&source, may_end).await?;
    let mut meant = entry(&source, Some(meant.moved.id.0)).await?;
    let spillway = own.spillway.spillway();
    Ok(source_alone::undo(&journal, (&source, &spillway), &mut meant, &report).await?)
}

async fn end(
    own: &EndArguments,
    what: &str,
    mut act: impl AsyncFnMut(&Mover<'_>, &mut Entry) -> Result<(), MoveError>,
) -> Result<(), Stop> {
    let report = Report::new(own.on.json);
    let (meant, parts) = open_to_end(own).await?;
    say(&report, what, &meant);
    report.confirm(own.consent.yes)?;
    let id = meant.moved.id;
    let attempts = Attempts::new(&report, own.consent.take_over)?;
    let mut opened = Some(parts);
    attempts
        .persist(async || {
            // The sessions of an earlier try are lost.
            let parts = match opened.take() {
                Some(parts) => parts,
                None => open_to_end(&own.of(id)).await?.1,
            };
            let source = &parts.databases.source;
            let journal = attempts.journal(source).await?;
            // Another tool may have gone on with it until this one got the lock.
            let mut meant = entry(source, Some(id.0)).await?;
            if meant.step.is_over() && attempts.has_lost_a_server() {
                // It was ended by the try before, and the answer was lost.
                return Ok(());
            }
            let mover = parts.mover(&journal, &report, &attempts.interrupt);
            let done = act(&mover, &mut meant).await;
            done.map_err(|why| Stop::at(meant.step, why))
        })
        .await
}

fn say(report: &Report, what: &str, meant: &Entry) {
    let (moved, step) = (&meant.moved, meant.step.name());
    let sentence = format!(
        "{what} move {} of {} from {} to {} (it is {step})",
        moved.id, moved.range, moved.source, moved.target,
    );
    report.event("move", json!({ "move": moved.id.0, "step": step }), &sentence);
}
