//! Live shard maps: several sidecars follow one map, and a range moves to another shard under load.

mod cutover;
mod faults;
mod holding;
mod jobs;
mod load;
mod meters;
mod owners;
mod protocols;
mod search;
mod starting;
mod streams;
mod world;
