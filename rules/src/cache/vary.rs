//! Vary (RFC 9111 section 4.1).

use super::judge::NotStored;
use crate::head::{Head, ResponseHead, joined};

/// Fields an answer may depend on; more is no use for a cache.
const VARY_FIELDS_MAX: usize = 8;

/// The request's values of the fields the answer varies by.
pub(super) fn selected(
    request: &Head<'_>,
    response: &ResponseHead<'_>,
) -> Result<Vec<(String, Option<String>)>, NotStored> {
    let Some(vary) = joined(response.fields, "vary") else { return Ok(Vec::new()) };
    let mut names: Vec<String> = vary
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names.dedup();
    if names.iter().any(|name| name == "*") || names.len() > VARY_FIELDS_MAX {
        return Err(NotStored::VaryStar);
    }
    Ok(names
        .into_iter()
        .map(|name| {
            let value = value(request, &name);
            (name, value)
        })
        .collect())
}

/// Whether a stored answer was selected by the same values.
pub fn fits(vary: &[(String, Option<String>)], request: &Head<'_>) -> bool {
    vary.iter().all(|(name, stored)| value(request, name) == *stored)
}

/// The secondary key of a request for a list of field names: equal for requests that select the
/// same variant.
pub fn secondary<'a>(names: impl Iterator<Item = &'a str>, request: &Head<'_>) -> String {
    let mut key = String::new();
    for name in names {
        key.push_str(&format!("{}:{name}", name.len()));
        match value(request, name) {
            Some(value) => key.push_str(&format!("{}:{value}", value.len())),
            None => key.push_str("-:"),
        }
    }
    key
}

/// Whitespace around commas does not make another value.
fn value(request: &Head<'_>, name: &str) -> Option<String> {
    let joined = joined(request.fields, name)?;
    Some(joined.split(',').map(str::trim).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::NoFields;

    #[test]
    fn an_absent_field_is_another_variant_than_any_value() {
        let key = |fields: &dyn crate::Fields| {
            let head = Head { method: "GET", scheme: "http", host: "h", target: "/", fields };
            secondary(["accept"].into_iter(), &head)
        };
        for value in ["", "-", "-:"] {
            let fields = vec![("accept".to_owned(), value.to_owned())];
            assert_ne!(key(&fields), key(&NoFields), "{value:?}");
        }
    }
}
