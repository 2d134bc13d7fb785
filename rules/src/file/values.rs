//! Values that occur in several tables of the file.

use super::tree::Value;
use crate::document::{KeySource, Mode};

pub(super) const MODES: &[(&str, Mode)] =
    &[("on", Mode::On), ("observe", Mode::Observe), ("off", Mode::Off)];

pub(super) fn lower(names: Vec<String>) -> Vec<String> {
    names.into_iter().map(|name| name.to_ascii_lowercase()).collect()
}

/// Reads `path:id`, `query:id`, `header:X-Id`, `cookie:id` or `body:/json/pointer`.
pub(super) fn key_source(value: &Value<'_>) -> Option<KeySource> {
    let text = value.text()?;
    let source = match text.split_once(':') {
        Some((_, "")) | None => None,
        Some(("path", name)) => Some(KeySource::Path(name.to_owned())),
        Some(("query", name)) => Some(KeySource::Query(name.to_owned())),
        Some(("header", name)) => Some(KeySource::Header(name.to_ascii_lowercase())),
        Some(("cookie", name)) => Some(KeySource::Cookie(name.to_owned())),
        Some(("body", pointer)) if pointer.starts_with('/') => {
            Some(KeySource::Body(pointer.to_owned()))
        }
        Some(_) => None,
    };
    if source.is_none() {
        let reason = format!("`{text}` does not say where the value is");
        value.fault(
            "bad-source",
            reason,
            "Write path:NAME, query:NAME, header:NAME, cookie:NAME or body:/json/pointer.",
        );
    }
    source
}
