//! Reports requests and jobs: as metrics, log lines, and spans for a collector.

pub mod in_flight;
pub mod meters;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
mod registered;
pub mod reporter;
pub mod shard_meters;
pub mod shards;
pub mod spans;
pub mod streams;
