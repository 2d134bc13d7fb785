//! `reshard` on real PostgreSQL servers.

mod away;
mod clients;
mod command;
mod crashes;
mod cutover;
mod cuts;
mod indexes;
mod interrupts;
mod kills;
mod market;
mod moves;
mod plans;
mod preflight;
mod reach;
mod sessions;
mod switching;
mod transactions;
mod types;
mod visitors;
mod world;
