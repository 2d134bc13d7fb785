//! `reshard` on real PostgreSQL servers.

mod away;
mod clients;
mod command;
mod crashes;
mod kills;
mod market;
mod moves;
mod preflight;
mod sessions;
mod switching;
mod types;
mod world;
