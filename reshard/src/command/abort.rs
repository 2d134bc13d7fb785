//! `reshard abort`: a move that was not switched is undone.

use super::arguments::AbortArguments;
use super::on_move::{Databases, open};
use super::report::Report;
use super::stop::Stop;
use crate::journal::{Entry, Journal};
use crate::steps::{CopyOptions, Mover};
use serde_json::json;

/// Undoes the move. It can be called again until it succeeds.
///
/// # Errors
/// When there is no move, or a server does not do what is asked.
pub async fn abort(own: &AbortArguments) -> Result<(), Stop> {
    let report = Report::new(own.on.json);
    let (mut entry, databases) = open(&own.on).await?;
    let moved = &entry.moved;
    let sentence = format!(
        "undoes move {} of {} from {} to {} (it is {})",
        moved.id,
        moved.range,
        moved.source,
        moved.target,
        entry.step.name()
    );
    report.event("plan", json!({ "move": moved.id.0, "step": entry.step.name() }), &sentence);
    report.confirm(own.consent.yes)?;
    let journal = Journal::open(&databases.source, own.consent.take_over).await;
    let journal = journal.map_err(Stop::run)?;
    undo(&journal, &databases, &mut entry, &report).await
}

async fn undo(
    journal: &Journal<'_>,
    databases: &Databases,
    entry: &mut Entry,
    report: &Report,
) -> Result<(), Stop> {
    let mover = Mover {
        journal,
        source: &databases.source,
        target: &databases.target,
        source_endpoint: &databases.source_endpoint,
        target_endpoint: &databases.target_endpoint,
        connection: String::new(),
        options: CopyOptions { jobs: 1, rate: None, removes_indexes: false },
        listener: report,
    };
    mover.undo(entry).await.map_err(Stop::run)
}
