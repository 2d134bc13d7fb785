//! `reshard verify`: both databases are compared while the target follows.

use super::arguments::OnMove;
use super::on_move::open;
use super::report::Report;
use super::stop::Stop;
use crate::journal::Step;
use crate::steps::verify_tables;
use crate::verify::memory::Memory;

/// Compares all tables of the move; nothing is changed but the marker.
///
/// # Errors
/// When rows differ, or the target does not follow yet.
pub async fn verify(own: &OnMove) -> Result<(), Stop> {
    let report = Report::new(own.json);
    let (entry, databases) = open(own).await?;
    let id = entry.moved.id;
    let (source, target) = (&databases.source, &databases.target);
    let (sides, channel) = match entry.step {
        Step::Following | Step::Verified | Step::Prepared => ([source, target], id.forward()),
        Step::Switched => ([target, source], id.back()),
        step => {
            return Err(Stop::run(format!(
                "not-following: move {id} is {}: neither database follows the other",
                step.name()
            )));
        }
    };
    verify_tables(sides, (&entry.moved, channel), &Memory::none(), &report)
        .await
        .map_err(Stop::from)
}
