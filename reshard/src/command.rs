//! The commands of `reshard`: what each is given, and what it says.

pub mod arguments;
pub mod open;
pub mod preflight;
mod stop;

pub use stop::{EXIT_CONFIG, EXIT_RUNTIME, EXIT_USAGE, Stop};
