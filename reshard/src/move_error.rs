//! Why a move does not go on.

use crate::columns::{self, DifferentColumn};
use crate::journal::Step;
use crate::map::SpillwayError;
use crate::moved::MovedTable;
use crate::server::{ServerError, ServerErrorKind};
use crate::verify::{Compared, VerifyError};
use std::fmt;

/// Why a move did not go on.
#[derive(Debug, Clone)]
pub enum MoveError {
    Server(ServerError),
    Verify(VerifyError),
    /// A table is on one side only.
    NoTable(MovedTable, String),
    /// The target had rows of the range before the copy: the first such table, and the shard.
    RowsAtTarget(MovedTable, String),
    /// Both sides have caught up and still differ.
    Different(Vec<(MovedTable, Compared)>),
    /// The move is at a step from which it does not go on so; what to do instead.
    WrongStep(Step, &'static str),
    /// `spillway shards` did not do it.
    Spillway(SpillwayError),
    /// Transactions that wrote in the range did not end in time: which.
    Undrained(String),
    /// A table was changed on one side.
    ColumnsDiffer(Vec<DifferentColumn>),
    /// The switch took longer than writes are held: what it waited for.
    PauseTooLong(String),
    /// The copy has begun again already, and its slot was lost once more.
    SlotLostAgain(ServerError),
    /// Somebody wanted the tool to end.
    Interrupted,
}

impl MoveError {
    fn of_server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(why) | Self::Verify(VerifyError::Server(why)) => Some(why),
            _ => None,
        }
    }

    /// Whether a server could not be reached, or has ended the session: it may be back soon.
    pub fn is_of_a_lost_server(&self) -> bool {
        self.of_server().is_some_and(|why| why.kind == ServerErrorKind::Gone)
    }

    /// Why a slot is lost, if that is it: the copy must begin again.
    pub fn lost_slot(&self) -> Option<&ServerError> {
        self.of_server().filter(|why| why.kind == ServerErrorKind::SlotLost)
    }

    /// Whether another try of the switch may succeed.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Undrained(_) | Self::PauseTooLong(_) | Self::ColumnsDiffer(_))
    }
}

impl fmt::Display for MoveError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(why) => why.fmt(out),
            Self::Verify(why) => why.fmt(out),
            Self::NoTable(table, shard) => write!(
                out,
                "no-table: shard `{shard}` has no table {}: create it as the other shard has it",
                table.name.shown()
            ),
            Self::RowsAtTarget(table, shard) => write!(
                out,
                "rows-in-range: shard `{shard}` has rows of the range in {} that this move did not bring: \
                 look what they are, remove them, and run again",
                table.name.shown()
            ),
            Self::Different(found) => {
                out.write_str(
                    "different: both databases were compared and do not have the same rows",
                )?;
                for (table, own) in found {
                    write!(out, "\n  {}: {} rows differ", table.name.shown(), own.different_count)?;
                    for row in &own.different {
                        let side = |text: &Option<String>| {
                            text.clone().unwrap_or_else(|| "no row".to_owned())
                        };
                        write!(out, "\n    {}", row.key)?;
                        write!(out, "\n      source: {}", side(&row.at_source))?;
                        write!(out, "\n      target: {}", side(&row.at_target))?;
                    }
                }
                Ok(())
            }
            Self::WrongStep(step, what) => {
                write!(out, "wrong-step: the move is {}: {what}", step.name())
            }
            Self::Spillway(why) => why.fmt(out),
            Self::Undrained(who) => write!(
                out,
                "undrained: transactions that wrote in the range did not end in time: {who}"
            ),
            Self::ColumnsDiffer(found) => out.write_str(&columns::shown(found)),
            Self::SlotLostAgain(why) => write!(
                out,
                "{why}; the copy has begun again once: mend that first, then `reshard run --copy-again`, or `reshard abort`"
            ),
            Self::Interrupted => {
                out.write_str("interrupted: the move can be gone on with, or aborted")
            }
            Self::PauseTooLong(what) => {
                write!(out, "pause-too-long: writes would wait longer than they are held: {what}")
            }
        }
    }
}

impl std::error::Error for MoveError {}

impl From<ServerError> for MoveError {
    fn from(why: ServerError) -> Self {
        Self::Server(why)
    }
}

impl From<SpillwayError> for MoveError {
    fn from(why: SpillwayError) -> Self {
        Self::Spillway(why)
    }
}

impl From<VerifyError> for MoveError {
    fn from(why: VerifyError) -> Self {
        Self::Verify(why)
    }
}
