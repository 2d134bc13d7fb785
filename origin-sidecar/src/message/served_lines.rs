//! The lines that a serving adds to a stored answer.

use rules::cache::{CacheStatus, Tier};
use rules::head::push_number;

/// Room for what is usually added to a stored answer.
pub const ADDED_BYTES_USUAL: usize = 96;

/// The lines that a serving adds; `Cache-Status` is the last one.
pub fn added_lines(age: u64, status: CacheStatus) -> String {
    let mut added = String::with_capacity(ADDED_BYTES_USUAL);
    added.push_str("age: ");
    push_number(&mut added, age);
    added.push_str("\r\ncache-status: ");
    status.write(Tier::Sidecar, &mut added);
    added.push_str("\r\n");
    added
}

/// The value of `Cache-Status` among these lines.
pub fn added_status(added: &str) -> Option<&str> {
    added.trim_end().rsplit_once(": ").map(|(_, member)| member)
}
