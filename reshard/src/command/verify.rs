//! `reshard verify`: both databases are compared while the target follows.

use super::arguments::OnMove;
use super::on_move::open;
use super::report::Report;
use super::stop::Stop;
use crate::journal::Step;
use crate::steps::verify_tables;

/// Compares all tables of the move; nothing is changed but the marker.
///
/// # Errors
/// When rows differ, or the target does not follow yet.
pub async fn verify(own: &OnMove) -> Result<(), Stop> {
    let report = Report::new(own.json);
    let (entry, databases) = open(own).await?;
    if !matches!(entry.step, Step::Following | Step::Verified) {
        return Err(Stop::run(format!(
            "not-following: move {} is {}: the target does not follow the source",
            entry.moved.id,
            entry.step.name()
        )));
    }
    let (source, target) = (&databases.source, &databases.target);
    verify_tables(source, target, &entry.moved, &report).await.map_err(Stop::run)
}
