//! `inject` and `uninject` on manifests as they are found, and every other front end on the same.

mod admission;
mod cases;
mod command;
#[path = "../../../inject/tests/properties/generator.rs"]
mod generator;
mod golden;
mod kustomize;
mod policy;
