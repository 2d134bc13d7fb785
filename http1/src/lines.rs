//! Looking for a field among few.
//!
//! A message has a dozen fields, and lacks most of those that are looked for. A scan costs less than a
//! look-up in the map, which hashes the name first: a tenth of a cached answer's instructions were spent on
//! that.

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

/// Removes a field, and returns its first line.
pub fn take(headers: &mut HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    if has(headers, name) { headers.remove(name) } else { None }
}

/// Adds a line with its end. The value must come from a field, or be made of such values, so that it contains
/// no line end.
pub fn push(lines: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        lines.push_str(part);
    }
}
