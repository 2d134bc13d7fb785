//! The Kubernetes half of Spillway.

pub mod https;
pub mod queue;
pub mod results;
