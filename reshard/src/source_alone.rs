//! An abort without the target, which is away for good: the source as it was, and what to run at the target in case it
//! comes back.

use crate::copy::indexes;
use crate::gate::{self, GateState};
use crate::journal::{Entry, Journal, Step};
use crate::map::Spillway;
use crate::move_error::MoveError;
use crate::moved::Move;
use crate::mover::Listener;
use crate::replication::{publication, subscription};
use crate::server::Session;
use crate::sql::RowSide;
use crate::switch::leg::Leg;
use crate::undo::{is_past_return, remove_gate};

/// Undoes a move that was not switched, at the source and in the map alone.
///
/// # Errors
/// When the map has passed the point of no return: then the target owns the range, or nobody does. When the source or
/// the map's store is gone. It can be called again.
pub async fn undo(
    journal: &Journal<'_>,
    (source, spillway): (&Session, &Spillway),
    entry: &mut Entry,
    listener: &dyn Listener,
) -> Result<(), MoveError> {
    let (moved, id) = (entry.moved.clone(), entry.moved.id);
    let late = "the range belongs to the target, or can only come to belong to it";
    // Its taker is not asked for anything.
    let leg = Leg::there(&moved, source, source);
    let is_in_map = matches!(entry.step, Step::Announced | Step::Fencing);
    if is_past_return(entry.step) || (is_in_map && leg.map_is_past_return(spillway).await?) {
        return Err(MoveError::WrongStep(entry.step, late));
    }
    if gate::other(source, &moved).await?.is_some() {
        // Another move has its number here: this one has come no further than its gate at the target.
        journal.to(entry, Step::Aborted).await?;
        listener.step(Step::Aborted);
        return Ok(());
    }
    if gate::exists(source, id).await? {
        gate::set(source, id, GateState::Open).await?;
    }
    if is_in_map && !leg.abort(spillway).await? {
        gate::set(source, id, GateState::Closed).await?;
        return Err(MoveError::WrongStep(entry.step, late));
    }
    journal.to(entry, Step::Aborting).await?;
    listener.step(Step::Aborting);
    subscription::remove(source, id.back()).await?;
    publication::remove_slot(source, id.forward()).await?;
    source.batch("remove the publication", &publication::remove(id.forward())).await?;
    remove_gate(source, &moved, &|_| Vec::new(), &|sentence| listener.say(sentence)).await?;
    listener.say(format!(
        "if shard `{}` comes back, run there:\n    {}",
        moved.target,
        at_the_target(&moved, entry).join("\n    ")
    ));
    journal.to(entry, Step::Aborted).await?;
    listener.step(Step::Aborted);
    Ok(())
}

/// What removes the move from a target that has come back.
fn at_the_target(moved: &Move, entry: &Entry) -> Vec<String> {
    let mut found: Vec<String> =
        subscription::removal(moved.id.forward()).iter().map(|sql| format!("{sql};")).collect();
    found.extend([
        publication::remove(moved.id.back()) + ";",
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'spillway_back_%' AND database = current_database();".to_owned(),
        "SET session_replication_role = replica;".to_owned(),
    ]);
    if entry.removed.is_some() {
        found.extend(moved.tables.iter().map(|table| {
            let condition = moved.range.condition(&table.key, RowSide::Row);
            format!("DELETE FROM {} WHERE {condition};", table.name)
        }));
    }
    found.push("DROP SCHEMA spillway CASCADE;".to_owned());
    let removed = entry.removed.as_deref().unwrap_or_default();
    found.extend(indexes::restoration(removed).into_iter().map(|sql| sql + ";"));
    found
}
