//! What only a build with a feature of cargo can do; and, with an allocator that counts, what answers weigh.

#[cfg(feature = "aws")]
mod idle;
#[cfg(feature = "otlp")]
mod otlp;
mod weight;
