//! Everything that would stop a move, before anything is touched: [`gather`] asks both servers in sessions of
//! which nothing stays, and [`judge`] decides without them.

mod evidence;
mod fault;
mod gather;
mod identity;
mod key;
mod links;
mod map;
mod map_facts;
mod questions;
mod reach;
mod rights;
mod row_facts;
mod rows;
mod schema;
mod server;

#[cfg(test)]
mod samples;

pub use evidence::{Evidence, SideFacts};
pub use fault::{Fault, FaultKind};
pub use gather::{Reachable, gather};
pub use map_facts::MapFacts;
pub use row_facts::RowFacts;

use crate::moved::Move;

/// Every fault that the evidence shows, those of the map first, then by shard and subject.
pub fn judge(moved: &Move, evidence: &Evidence) -> Vec<Fault> {
    let mut found = map::faults(moved, evidence);
    found.extend(server::faults(moved, evidence));
    found.extend(reach::faults(moved, evidence));
    found.extend(rights::faults(moved, evidence));
    found.extend(key::faults(moved, evidence));
    found.extend(identity::faults(moved, evidence));
    found.extend(schema::faults(moved, evidence));
    found.extend(links::faults(moved, evidence));
    found.extend(rows::faults(moved, evidence));
    found
}
