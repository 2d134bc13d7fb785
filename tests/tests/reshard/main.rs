//! `reshard` on real PostgreSQL servers.

mod command;
mod kills;
mod market;
mod moves;
mod preflight;
mod sessions;
mod switching;
mod world;
