//! Parts of a message: its body, its fields, and the answers that Spillway writes itself.

pub mod body;
pub mod fields;
pub mod grpc;
pub mod readers;
pub mod reply;
