//! How a command ends that could not do its work.

use crate::interrupt::EXIT_INTERRUPTED;
use crate::journal::{JournalError, Step};
use crate::map::SpillwayError;
use crate::move_error::MoveError;
use crate::server::ServerError;
use std::io::Write;
use std::process::ExitCode;

/// Exit codes, the same as those of `spillway` (sysexits.h where there is one).
pub const EXIT_USAGE: u8 = 64;
pub const EXIT_CONFIG: u8 = 78;
pub const EXIT_RUNTIME: u8 = 1;

/// Why a command ends early.
#[derive(Debug)]
pub struct Stop {
    pub code: u8,
    pub reason: String,
    /// Whether the same may succeed when it is done again a little later: a server is away.
    pub may_pass: bool,
}

impl Stop {
    /// A setting is wrong.
    pub fn config(reason: impl ToString) -> Self {
        Self { code: EXIT_CONFIG, reason: reason.to_string(), may_pass: false }
    }

    /// Something did not work.
    pub fn run(reason: impl ToString) -> Self {
        Self { code: EXIT_RUNTIME, reason: reason.to_string(), may_pass: false }
    }

    /// Somebody wanted it to end.
    pub fn interrupted() -> Self {
        let reason = MoveError::Interrupted.to_string();
        Self { code: EXIT_INTERRUPTED, reason, may_pass: false }
    }

    /// Why a move does not go on from this step. While its writes wait, a store of maps that is away is waited for, too.
    pub fn at(step: Step, why: MoveError) -> Self {
        let is_store = matches!(why, MoveError::Spillway(_));
        let writes_wait = matches!(step, Step::Fencing | Step::BackFencing);
        let own = Self::from(why);
        Self { may_pass: own.may_pass || (is_store && writes_wait), ..own }
    }

    /// Prints the reason and returns the exit code.
    pub fn exit(self) -> ExitCode {
        if !self.reason.is_empty() {
            // Nothing can be done when stderr is closed.
            let _ = writeln!(std::io::stderr(), "reshard: {}", self.reason);
        }
        ExitCode::from(self.code)
    }
}

impl From<ServerError> for Stop {
    fn from(why: ServerError) -> Self {
        MoveError::Server(why).into()
    }
}

impl From<JournalError> for Stop {
    fn from(why: JournalError) -> Self {
        match why {
            JournalError::Server(why) => why.into(),
            why => Self::run(why),
        }
    }
}

impl From<SpillwayError> for Stop {
    fn from(why: SpillwayError) -> Self {
        MoveError::Spillway(why).into()
    }
}

impl From<MoveError> for Stop {
    fn from(why: MoveError) -> Self {
        match why {
            MoveError::Interrupted => Self::interrupted(),
            why => Self { may_pass: why.is_of_a_lost_server(), ..Self::run(why) },
        }
    }
}
