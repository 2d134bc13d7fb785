//! The Kubernetes half of Spillway.
