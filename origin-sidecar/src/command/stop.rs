//! How a command ends that could not do its work.

use super::settings::{EXIT_CONFIG, EXIT_RUNTIME};
use std::io::Write;
use std::process::ExitCode;

/// Why a command ends early.
#[derive(Debug)]
pub struct Stop {
    pub code: u8,
    pub reason: String,
}

impl Stop {
    pub fn config(reason: impl Into<String>) -> Self {
        Self { code: EXIT_CONFIG, reason: reason.into() }
    }

    pub fn run(reason: impl ToString) -> Self {
        Self { code: EXIT_RUNTIME, reason: reason.to_string() }
    }

    /// Prints the reason and returns the exit code.
    pub fn exit(self) -> ExitCode {
        if !self.reason.is_empty() {
            // Nothing can be done when stderr is closed.
            let _ = writeln!(std::io::stderr(), "spillway: {}", self.reason);
        }
        ExitCode::from(self.code)
    }
}
