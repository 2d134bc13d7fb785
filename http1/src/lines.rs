//! Looking for a field among few.
//!
//! A message has a dozen fields, and of most that are asked for it has none. To go through them costs
//! less than a look-up in the map, which hashes the name first: a tenth of a cached answer's
//! instructions went into that.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The lines of a field, in order.
pub fn of<'a>(
    headers: &'a HeaderMap,
    name: &'a HeaderName,
) -> impl Iterator<Item = &'a HeaderValue> {
    headers.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value)
}

/// The first line of a field.
pub fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
}

/// Whether there is a line of that name.
pub fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.keys().any(|own| own == name)
}

/// Takes a field out; its first line.
pub fn take(headers: &mut HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    if has(headers, name) { headers.remove(name) } else { None }
}

/// Adds a line with its end. The value must come from one of a field, or be made of such: no line may end in it.
pub fn push(lines: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        lines.push_str(part);
    }
}
