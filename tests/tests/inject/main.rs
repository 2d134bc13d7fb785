//! `inject` and `uninject` on manifests as they are found, and every other front end on the same.

mod cases;
mod command;
mod golden;
mod kustomize;
mod policy;
