//! The commands of the program, their settings, and the wiring of what they run.

pub mod bindings;
pub mod explain;
pub mod hook;
pub mod inject;
mod opening;
pub mod pods;
pub mod purge;
pub mod run;
pub mod settings;
pub mod shards;
pub mod stop;
pub mod tools;
pub mod webhook;
