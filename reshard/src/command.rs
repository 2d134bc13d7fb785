//! The commands of `reshard`: what each is given, and what it says.

pub mod abort;
pub mod arguments;
pub mod given;
pub mod halt;
pub mod on_move;
pub mod open;
pub mod persist;
pub mod plan;
pub mod planned;
pub mod preflight;
pub mod report;
pub mod run;
pub mod statements;
pub mod status;
mod stop;
pub mod verify;

pub use stop::{EXIT_CONFIG, EXIT_RUNTIME, EXIT_USAGE, Stop};
