//! What only a build with a feature of cargo can do.

#[cfg(feature = "aws")]
mod idle;
#[cfg(feature = "otlp")]
mod otlp;
