//! The Kubernetes half of Spillway.

pub mod queue;
pub mod results;
