//! What the writer thread does for the results.

use super::rows::{self, Place, Written};
use crate::local::group;
use crate::results::Condition;
use rusqlite::{Connection, Result};

/// What to do. A body's file is durable before its order is given.
pub(super) enum Order {
    Put { key: String, length: u64, place: Place, condition: Condition },
    Delete { key: String },
}

/// What came of it.
pub(super) enum Outcome {
    Put(Written),
    /// The file of the body that is gone.
    Deleted(Option<String>),
}

pub(super) struct Work;

impl group::Work for Work {
    type Order = Order;
    type Outcome = Outcome;

    fn execute(&mut self, db: &Connection, order: &Order) -> Result<Outcome> {
        Ok(match order {
            Order::Put { key, length, place, condition } => {
                Outcome::Put(rows::put(db, key, *length, place, condition)?)
            }
            Order::Delete { key } => Outcome::Deleted(rows::delete(db, key)?),
        })
    }

    /// The task that gave the order waits to the end, whoever asked for it.
    fn outlives_caller(_: &Order) -> bool {
        true
    }
}
