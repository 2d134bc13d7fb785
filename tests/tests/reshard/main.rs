//! `reshard` on real PostgreSQL servers.

mod kills;
mod moves;
mod sessions;
mod world;
