//! What of a comparison is known already: whoever goes on after the tool was killed does not begin anew.
//!
//! Rows that were the same stay the same: the one side takes every change of the other, and waits for its disk with
//! each. Before `finish` everything is compared once more, without this.

use crate::journal::Journal;
use crate::moved::{MoveId, MovedTable};
use crate::server::ServerError;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// How much of a table was the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// The rows whose keys lie below this one.
    Below(String),
    Whole,
}

/// Keeps what was compared, in the journal.
#[derive(Debug)]
pub struct Memory<'m> {
    journal: Option<(&'m Journal<'m>, MoveId)>,
    known: RefCell<BTreeMap<String, Known>>,
}

impl<'m> Memory<'m> {
    /// Nothing is known, and nothing is kept.
    pub fn none() -> Self {
        Self { journal: None, known: RefCell::default() }
    }

    /// Takes what an earlier run has kept.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn of(journal: &'m Journal<'m>, id: MoveId) -> Result<Self, ServerError> {
        // What another version has kept is compared again.
        let known = serde_json::from_str(&journal.compared(id).await?).unwrap_or_default();
        Ok(Self { journal: Some((journal, id)), known: RefCell::new(known) })
    }

    /// What is known of a table.
    pub(super) fn of_table(&self, table: &MovedTable) -> Option<Known> {
        self.known.borrow().get(&table.name.to_string()).cloned()
    }

    /// # Errors
    /// When the server does not take it.
    pub(super) async fn note(&self, table: &MovedTable, known: Known) -> Result<(), ServerError> {
        let Some((journal, id)) = self.journal else { return Ok(()) };
        self.known.borrow_mut().insert(table.name.to_string(), known);
        let json = serde_json::to_string(&*self.known.borrow()).unwrap_or_default();
        journal.keep_compared(id, &json).await
    }
}
