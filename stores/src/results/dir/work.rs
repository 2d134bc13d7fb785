//! What the writer thread does for the results.

use super::rows::{self, Place, Written};
use crate::local::group;
use crate::results::Condition;
use rusqlite::{Connection, Result};

/// An order to the writer thread. The file of a body is durable before its order is given.
pub(super) enum ResultsCommand {
    Put { key: String, length: u64, place: Place, condition: Condition },
    Delete { key: String },
}

/// The outcome of an order.
pub(super) enum ResultsReply {
    Put(Written),
    /// The file of the body that no row names any more.
    Deleted(Option<String>),
}

pub(super) struct ResultsWork;

impl group::StoreWork for ResultsWork {
    type Command = ResultsCommand;
    type Reply = ResultsReply;

    fn execute(&mut self, db: &Connection, order: &ResultsCommand) -> Result<ResultsReply> {
        Ok(match order {
            ResultsCommand::Put { key, length, place, condition } => {
                ResultsReply::Put(rows::put(db, key, *length, place, condition)?)
            }
            ResultsCommand::Delete { key } => ResultsReply::Deleted(rows::delete(db, key)?),
        })
    }

    /// The task that gave the order waits to the end, even if its own caller has left.
    fn outlives_caller(_: &ResultsCommand) -> bool {
        true
    }
}
