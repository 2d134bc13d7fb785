//! How a command ends that could not do its work.

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
}

impl Stop {
    /// A setting is wrong.
    pub fn config(reason: impl ToString) -> Self {
        Self { code: EXIT_CONFIG, reason: reason.to_string() }
    }

    /// Something did not work.
    pub fn run(reason: impl ToString) -> Self {
        Self { code: EXIT_RUNTIME, reason: reason.to_string() }
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
