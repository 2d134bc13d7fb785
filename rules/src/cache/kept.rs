//! Which fields of an answer are stored with it (RFC 9111 section 3.1).

use super::judge::Judgement;
use crate::hygiene::is_of_connection;

/// Fields of one exchange or one connection. `Age` is part of the entry, a stored answer has no
/// trailers, and a proxy's challenge is for one client.
const NOT_KEPT: [&str; 3] = ["age", "proxy-authentication-info", "trailer"];

impl Judgement {
    /// Whether this field (lower-case name) of the answer is stored and sent to other clients.
    /// `named` is the result of [`named_by_connection`](crate::hygiene::named_by_connection) for
    /// the answer. [`edits`](Self::edits) replaces or adds fields afterwards.
    pub fn keeps(&self, name: &str, named: &[String]) -> bool {
        !NOT_KEPT.contains(&name)
            && !self.remove.iter().any(|own| own == name)
            && !is_of_connection(name.as_bytes(), named)
    }
}
