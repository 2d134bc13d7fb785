//! JSON Patch (RFC 6902), as much of it as an injection needs.

use serde_json::{Value, json};

/// One change of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Sets a field, or inserts before the index of a list (`-` is its end).
    Add(String, Value),
    /// Sets what is there.
    Replace(String, Value),
}

impl Operation {
    pub fn path(&self) -> &str {
        match self {
            Self::Add(path, _) | Self::Replace(path, _) => path,
        }
    }

    pub fn to_json(&self) -> Value {
        let (op, path, value) = match self {
            Self::Add(path, value) => ("add", path, value),
            Self::Replace(path, value) => ("replace", path, value),
        };
        json!({ "op": op, "path": path, "value": value })
    }
}

/// Changes the document. A path that leads nowhere changes nothing: the patches are ours, made
/// from this very document.
pub fn apply(document: &mut Value, patch: &[Operation]) {
    for operation in patch {
        match operation {
            Operation::Add(path, value) => add(document, path, value),
            Operation::Replace(path, value) => {
                if let Some(place) = document.pointer_mut(path) {
                    place.clone_from(value);
                }
            }
        }
    }
}

fn add(document: &mut Value, path: &str, value: &Value) {
    let Some((parent, last)) = path.rsplit_once('/') else { return };
    match document.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            let key = last.replace("~1", "/").replace("~0", "~");
            fields.insert(key, value.clone());
        }
        Some(Value::Array(items)) => {
            let at = last.parse().unwrap_or(items.len()).min(items.len());
            items.insert(at, value.clone());
        }
        _ => {}
    }
}
