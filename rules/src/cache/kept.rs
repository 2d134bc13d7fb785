//! Which fields of an answer are stored with it (RFC 9111 section 3.1).

use super::judge::Judgement;
use crate::hygiene::is_of_connection;

/// Said of one exchange or one connection: what `Age` says is part of the entry, a stored answer has no
/// trailers, and a proxy's challenge was for whoever asked it.
const NOT_KEPT: [&str; 3] = ["age", "proxy-authentication-info", "trailer"];

impl Judgement {
    /// Whether the answer's field of this name (lower case) is stored and given to others. `named` is what
    /// [`named_by_connection`](crate::hygiene::named_by_connection) says of the answer. What replaces or adds to
    /// these fields is in [`edits`](Self::edits).
    pub fn keeps(&self, name: &str, named: &[String]) -> bool {
        !NOT_KEPT.contains(&name)
            && !self.remove.iter().any(|own| own == name)
            && !is_of_connection(name.as_bytes(), named)
    }
}
