//! `reshard pause` and `resume`: a copy stands still, or goes on.

use super::arguments::OnMove;
use super::on_move::{SESSION, entry};
use super::open::{addresses, endpoint};
use super::report::Report;
use super::stop::Stop;
use crate::copy::halt::ask;
use crate::journal::Step;
use serde_json::json;

/// Notes it in the journal, where the run finds it within a second; a run that begins later does, too.
///
/// # Errors
/// When there is no move, or all its rows are copied.
pub async fn halt(own: &OnMove, is_paused: bool) -> Result<(), Stop> {
    let report = Report::new(own.json);
    let addresses = addresses(&own.connections)?;
    let source = endpoint(&addresses, &own.source)?.session(SESSION).await?;
    let entry = entry(&source, own.number).await?;
    let id = entry.moved.id;
    if is_paused && !matches!(entry.step, Step::Planned | Step::Gated | Step::Copying) {
        return Err(Stop::run(format!(
            "wrong-step: move {id} is {}: only a copy can stand still",
            entry.step.name()
        )));
    }
    ask(&source, id, is_paused).await?;
    let (event, what) = match is_paused {
        true => ("paused", "stands still after the chunks that are on their way"),
        false => ("resumed", "goes on"),
    };
    report.event(event, json!({ "move": id.0 }), &format!("the copy of move {id} {what}"));
    Ok(())
}
