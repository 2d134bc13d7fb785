//! Seeded schedules of everything that can go wrong, run through the three traits the sidecar has:
//! `Queue`, `Results` and `Clock`. The code under test is the real one; only the world is made up.
//!
//! A schedule is one runtime with paused time, so hours take milliseconds and nothing but the seed
//! decides what happens. `SPILLWAY_SIM_SEED=n cargo test -p origin-sidecar simulation` shows one
//! schedule; `SPILLWAY_SIM_SCHEDULES=n` says how many are run.

mod absence;
mod adopters;
mod application;
mod chaos;
mod check;
mod client;
mod faults;
mod idle;
mod log;
mod mailbox;
mod moving;
mod operator;
mod process;
mod schedule;
mod store;
mod tests;
mod variants;
mod world;
