//! YAML and JSON as Kubernetes reads them: `on` is true, 0644 is octal, `<<` merges. What is written
//! says the same to that reader and to one of YAML 1.2.

mod json;
mod node;
mod parse;
mod scalar;
mod write;

pub use json::documents as json_documents;
pub use node::Node;
pub use parse::{Fault, parse};
pub use write::write;
