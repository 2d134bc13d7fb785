//! What several parts of a route say in the same way.

use serde::{Deserialize, Serialize};

/// `off` is as if absent; `observe` too, but reports what it would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    On,
    Observe,
    Off,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeySource {
    Path(String),
    Query(String),
    Header(String),
    Cookie(String),
    /// A JSON pointer (RFC 6901).
    Body(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    Int,
    Text,
    Uuid,
    Timestamp,
}

impl KeyType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Text => "text",
            Self::Uuid => "uuid",
            Self::Timestamp => "timestamp",
        }
    }
}
