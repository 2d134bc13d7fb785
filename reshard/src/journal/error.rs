//! Why the journal can't be used.

use crate::server::{ServerError, Spot};
use std::fmt;

/// Why the journal can't be used.
#[derive(Debug, Clone)]
pub enum JournalError {
    Server(ServerError),
    /// Another tool works on this source: its session.
    Locked(String),
    /// The row is of a newer version of this tool, or was changed by hand.
    Unreadable(Spot, i32, String),
}

impl fmt::Display for JournalError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(why) => why.fmt(out),
            Self::Locked(who) => write!(
                out,
                "source-locked: another run works on this source: {who}; wait until it has ended, or end it with --take-over"
            ),
            Self::Unreadable(spot, id, why) => {
                write!(out, "{spot}: the journal's row of move {id} can't be read: {why}")
            }
        }
    }
}

impl std::error::Error for JournalError {}

impl From<ServerError> for JournalError {
    fn from(why: ServerError) -> Self {
        Self::Server(why)
    }
}
