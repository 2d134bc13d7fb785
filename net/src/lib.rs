//! What all programs need to call out with: the https client, TLS at both ends, and blocks of addresses.
//!
//! This crate knows nothing of the rules file, of queues or of the proxy.

pub mod boxed;
pub mod cidr;
pub mod https;
pub mod tls;
