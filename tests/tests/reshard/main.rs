//! `reshard` on real PostgreSQL servers.

mod kills;
mod moves;
mod preflight;
mod sessions;
mod world;
