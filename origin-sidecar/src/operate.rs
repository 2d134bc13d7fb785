//! Operating a running process: the admin port, purges, reloads, depths of queues.

pub mod admin;
pub mod bound;
pub mod depths;
pub mod process;
pub mod purge;
pub mod reload;
mod shards;
