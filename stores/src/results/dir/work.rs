//! What the writer thread does for the results.

use super::rows::{self, Place, Written};
use crate::local::group;
use crate::results::Condition;
use rusqlite::{Connection, Result};

/// What to do. A body's file is durable before its order is given.
pub(super) enum ResultsCommand {
    Put { key: String, length: u64, place: Place, condition: Condition },
    Delete { key: String },
}

/// What came of it.
pub(super) enum ResultsReply {
    Put(Written),
    /// The file of the body that is gone.
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

    /// The task that gave the order waits to the end, whoever asked for it.
    fn outlives_caller(_: &ResultsCommand) -> bool {
        true
    }
}
