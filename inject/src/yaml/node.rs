//! A document as it is read, and written.

use serde_json::Value;

/// A document with the order of its keys, which JSON values do not keep.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub fn to_json(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(fields) => {
                let fields = fields.iter().map(|(key, node)| (key.clone(), node.to_json()));
                Value::Object(fields.collect())
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(fields) = self else { return None };
        fields.iter().find(|(own, _)| own == key).map(|(_, node)| node)
    }
}
