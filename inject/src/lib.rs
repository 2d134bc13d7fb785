//! Puts the Spillway sidecar into Kubernetes pods.
//!
//! - [`inject`], [`update`], [`uninject`]: the one function and its inverse, on JSON values
//! - [`options`], [`wishes`]: what it is to be like; what the pod's annotations say
//! - [`target`], [`handlers`], [`record`], [`sidecar`], [`resources`]: what is looked for and what is
//!   added
//! - [`manifest`], [`yaml`]: files of workloads, changed as text; [`bypass`]: Services that go around
//! - [`policy`], [`component`]: the same for the API server itself, and for kustomize
//! - [`refusal`]: every reason and every warning, by name

pub mod bypass;
mod cel;
pub mod component;
pub mod form;
pub mod handlers;
pub mod manifest;
pub mod names;
pub mod options;
pub mod patch;
mod pod;
pub mod policy;
pub mod record;
pub mod refusal;
pub mod resources;
pub mod sidecar;
pub mod target;
pub mod wishes;
pub mod yaml;

pub use options::{Mode, Options};
pub use pod::{Answer, Outcome, inject, uninject, update};
