//! `reshard` moves a range of keys from one PostgreSQL to another while clients write.
//!
//! The folders look downwards only: `sql` makes text out of names and values, `server` holds the sessions,
//! `catalog` reads what a server and its tables are, and the rest decides and acts on what these say. The map
//! that says who owns which keys is changed by `spillway shards` alone, which runs as a process of its own
//! ([`map`]).

pub mod catalog;
pub mod columns;
pub mod command;
pub mod copy;
pub mod gate;
pub mod interrupt;
pub mod journal;
pub mod limits;
pub mod map;
pub mod move_error;
pub mod moved;
pub mod mover;
pub mod owner_check;
pub mod preflight;
pub mod replication;
pub mod server;
pub mod source_alone;
pub mod sql;
pub mod steps;
pub mod switch;
pub mod undo;
pub mod verify;
