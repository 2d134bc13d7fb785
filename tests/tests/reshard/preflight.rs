//! `reshard preflight`: two databases between which a range may move give no fault, and each change that would
//! stop the move gives just the fault of its name.

mod pair;
mod rights;
mod rows;
mod servers;
mod tables;
