//! The text that is signed (RFC 9421 section 2.5).

use crate::head::{Head, joined};
use std::fmt::Write;

/// The signature base: one line for each component, then the parameters as they are sent. `None`
/// when a component is unknown, absent or named twice.
pub(super) fn base(head: &Head<'_>, names: &[&str], parameters: &str) -> Option<String> {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        if names.iter().take(at).any(|earlier| earlier == name) {
            return None;
        }
        let value = component(head, name)?;
        // Writing to a String can't fail, neither here nor below.
        let _ = writeln!(text, "\"{name}\": {value}");
    }
    let _ = write!(text, "\"@signature-params\": {parameters}");
    Some(text)
}

/// The value of a derived component (section 2.2) or a field (section 2.1), both without
/// parameters.
fn component(head: &Head<'_>, name: &str) -> Option<String> {
    let (path, query) = match head.target.split_once('?') {
        Some((path, query)) => (path, query),
        None => (head.target, ""),
    };
    match name {
        "@method" => Some(head.method.to_owned()),
        "@scheme" => Some(head.scheme.to_owned()),
        "@authority" => Some(authority(head)),
        "@target-uri" => Some(format!("{}://{}{}", head.scheme, authority(head), head.target)),
        "@request-target" => Some(head.target.to_owned()),
        "@path" if path.is_empty() => Some("/".to_owned()),
        "@path" => Some(path.to_owned()),
        // The question mark is part of it, even where there is no query.
        "@query" => Some(format!("?{query}")),
        derived if derived.starts_with('@') => None,
        field => joined(head.fields, field),
    }
}

/// The authority in lower case, without the default port of the scheme.
fn authority(head: &Head<'_>) -> String {
    let host = head.host.to_ascii_lowercase();
    let port = if head.scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(port).map(str::to_owned).unwrap_or(host)
}
