//! Parts of a message: its body, its fields, and the answers that Spillway writes itself.

pub mod answered;
pub mod body;
pub mod coming;
pub mod fields;
pub mod grpc;
pub mod permit;
pub mod readers;
pub mod refused;
pub mod reply;
pub mod served_lines;
