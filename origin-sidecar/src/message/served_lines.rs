//! The header lines that are added when a stored answer is served.

use rules::cache::{CacheStatus, Tier};
use rules::head::push_number;

/// Bytes of the lines that are usually added.
pub const ADDED_BYTES_USUAL: usize = 96;

/// The added lines; `Cache-Status` is the last one. `age` is in seconds.
pub fn added_lines(age: u64, status: CacheStatus) -> String {
    let mut added = String::with_capacity(ADDED_BYTES_USUAL);
    added.push_str("age: ");
    push_number(&mut added, age);
    added.push_str("\r\ncache-status: ");
    status.write(Tier::Sidecar, &mut added);
    added.push_str("\r\n");
    added
}

/// The value of `Cache-Status` among the added lines.
pub fn added_status(added: &str) -> Option<&str> {
    added.trim_end().rsplit_once(": ").map(|(_, member)| member)
}
