//! Answering conditional and range requests from a stored 200 (RFC 9110 sections 13 and 14).

use super::freshness::Entry;
use crate::head::{Head, first, joined};

/// How a stored answer answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selected {
    /// All of it, under its own status.
    Full,
    /// 304.
    NotModified,
    /// 206 with the bytes `from..=to`.
    Part {
        /// The first byte, from 0.
        from: u64,
        /// The last byte, included.
        to: u64,
    },
    /// 416.
    Unsatisfiable,
}

/// Which part of a stored answer the request asks for. `status` is the answer's own: conditions and
/// ranges apply to a 200 only (RFC 9110 sections 13.2.1 and 14.2). `length` is the length of the
/// stored body in bytes. It is none while the body is still being received; then ranges are
/// answered in full.
pub fn select(request: &Head<'_>, entry: &Entry, status: u16, length: Option<u64>) -> Selected {
    if status != 200 {
        return Selected::Full;
    }
    if is_not_modified(request, entry) {
        return Selected::NotModified;
    }
    let Some(length) = length else { return Selected::Full };
    if request.method != "GET" {
        return Selected::Full;
    }
    let Some(range) = joined(request.fields, "range") else { return Selected::Full };
    if !range_applies(request, entry) {
        return Selected::Full;
    }
    part(&range, length)
}

impl Selected {
    /// Whether this field (lower-case name) of the stored answer is left out: it describes a body
    /// that is not sent, or not sent as a whole.
    pub fn leaves_out(self, name: &str) -> bool {
        match self {
            Self::Full => false,
            Self::Part { .. } => name == "content-length",
            Self::NotModified | Self::Unsatisfiable => {
                matches!(name, "content-length" | "content-encoding")
            }
        }
    }

    /// The status code to answer with, where `stored` is that of the stored answer.
    pub fn status(self, stored: u16) -> u16 {
        match self {
            Self::Full => stored,
            Self::NotModified => 304,
            Self::Part { .. } => 206,
            Self::Unsatisfiable => 416,
        }
    }
}

/// If-None-Match decides when it is there, If-Modified-Since otherwise (section 13.2.2).
fn is_not_modified(request: &Head<'_>, entry: &Entry) -> bool {
    if let Some(tags) = joined(request.fields, "if-none-match") {
        let Some(own) = &entry.etag else { return tags.trim() == "*" };
        return tags.trim() == "*" || entity_tags(&tags).any(|tag| weak(tag) == weak(own));
    }
    let date = super::date::parse;
    let Some(since) = first(request.fields, "if-modified-since") else { return false };
    let since = date(&since);
    let modified = entry.last_modified.as_deref().and_then(date);
    matches!((since, modified), (Some(since), Some(modified)) if modified <= since)
}

/// The entity tags of a list. Commas inside quotes belong to the tag.
fn entity_tags(list: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    list.split(move |letter| {
        if letter == '"' {
            is_quoted = !is_quoted;
        }
        letter == ',' && !is_quoted
    })
    .map(str::trim)
}

fn weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Whether `If-Range` lets the range apply: it needs a strong match or the exact date (section
/// 13.1.5).
fn range_applies(request: &Head<'_>, entry: &Entry) -> bool {
    let Some(condition) = first(request.fields, "if-range") else { return true };
    if condition.starts_with("W/") {
        return false;
    }
    let is = |own: &Option<String>| own.as_deref() == Some(condition.as_str());
    if condition.starts_with('"') { is(&entry.etag) } else { is(&entry.last_modified) }
}

/// Parses one byte range. Several ranges are answered in full, which section 14.2 allows.
fn part(range: &str, length: u64) -> Selected {
    let Some(spec) = range.strip_prefix("bytes=") else { return Selected::Full };
    let Some((first, last)) = spec.trim().split_once('-') else { return Selected::Full };
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { text.parse().ok() } else { None }
    };
    match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => {
            if suffix == 0 || length == 0 {
                return Selected::Unsatisfiable;
            }
            Selected::Part { from: length.saturating_sub(suffix), to: length - 1 }
        }
        (Some(from), _) if from >= length => Selected::Unsatisfiable,
        (Some(from), None) if last.is_empty() => Selected::Part { from, to: length - 1 },
        (Some(from), Some(to)) if from <= to => Selected::Part { from, to: to.min(length - 1) },
        _ => Selected::Full,
    }
}
