//! Vary (RFC 9111 section 4.1).

use super::freshness::Entry;
use super::plan::{AUTHORIZATION, Cookies, Plan};
use super::reason::NotStored;
use crate::document::Versioned;
use crate::head::{Head, ResponseHead, has, joined};
use crate::hex::hex;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

const ORIGIN: &str = "origin";
/// Fields that one answer may vary by at most; a cache is of no use with more.
const FIELDS_MAX: usize = 8;
/// A weight of 1, in thousandths.
const WEIGHT_MAX: u16 = 1000;
/// Marks a weight in a normalised list. No field value contains this character, so no client can
/// forge one.
const WEIGHT: char = '\u{1}';

/// The fields that the answer varies by. An answer for pages of all origins does not vary by
/// `Origin`.
pub(super) fn names(plan: &Plan<'_>, response: &ResponseHead<'_>) -> Vec<String> {
    let vary = joined(response.fields, "vary").unwrap_or_default();
    let names = vary.split(',').map(|name| name.trim().to_ascii_lowercase());
    let is_none = |name: &str| name.is_empty() || plan.is_for_all_origins && name == ORIGIN;
    names.filter(|name| !is_none(name)).collect()
}

/// The request's values of the fields that the answer varies by: those in its `Vary`, and those
/// that were sent because another answer of the route named them.
pub(super) fn selected(
    plan: &Plan<'_>,
    request: &Head<'_>,
    response: &ResponseHead<'_>,
) -> Result<Vec<(String, Option<String>)>, NotStored> {
    let mut names: BTreeSet<String> = names(plan, response).into_iter().collect();
    if names.contains("*") || names.len() > FIELDS_MAX {
        return Err(NotStored::VaryStar);
    }
    names.extend(plan.learned.iter().cloned());
    if plan.is_versioned && has(response.fields, "content-encoding") {
        names.insert("accept-encoding".to_owned());
    }
    // An answer for a page of one origin serves that origin only, even where `Vary` does not say
    // so.
    let is_asset = plan.rule.versioned != Versioned::No && !plan.is_for_all_origins;
    if is_asset && plan.sends(ORIGIN, request) {
        names.insert(ORIGIN.to_owned());
    }
    // The application got no cookies, or only those in the key. Frameworks with sessions put
    // `Cookie` into every `Vary`.
    if plan.cookies != Cookies::Untouched {
        names.remove("cookie");
    }
    if plan.is_sealed {
        names.remove(AUTHORIZATION);
    }
    Ok(names
        .into_iter()
        .map(|name| {
            let value = value(request, &name);
            (name, value)
        })
        .collect())
}

/// Whether the stored answer was selected by the same values, or is in the one language that the
/// request prefers (RFC 9111 section 4.1 allows a cache to know what a field means). A request with
/// credentials gets a public answer only where the origin allows it.
pub fn fits(entry: &Entry, request: &Head<'_>) -> bool {
    if !entry.is_shared && has(request.fields, AUTHORIZATION) {
        return false;
    }
    entry.vary.iter().all(|(name, stored)| {
        let own = value(request, name);
        own == *stored
            || name == "accept-language"
                && entry.language.is_some()
                && own.as_deref().and_then(preferred_language) == entry.language.as_deref()
    })
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

/// A field's value in the form in which it is compared: without whitespace around commas, and with
/// lists of preferences in lower case and in order.
fn value(request: &Head<'_>, name: &str) -> Option<String> {
    let joined = joined(request.fields, name)?;
    match name {
        "accept-language" | "accept-encoding" => Some(preferences(&joined)),
        // Tokens are hashed: none is stored.
        AUTHORIZATION => Some(hex(&Sha256::digest(joined.as_bytes()))),
        _ => Some(joined.split(',').map(str::trim).collect::<Vec<_>>().join(",")),
    }
}

/// Normalises a list of preferences: the most preferred first, equal ones by name, weights in
/// thousandths (RFC 9110 section 12.4.2). An element with an invalid weight stays as it is.
fn preferences(list: &str) -> String {
    let mut members: Vec<(u16, String)> = list
        .split(',')
        .map(|member| member.trim().to_ascii_lowercase())
        .filter(|member| !member.is_empty())
        .map(|member| match member.split_once(';') {
            Some((name, weight)) => match thousandths(weight) {
                Some(weight) => (weight, name.trim_end().to_owned()),
                None => (WEIGHT_MAX, member),
            },
            None => (WEIGHT_MAX, member),
        })
        .collect();
    members.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    members.dedup();
    let written = members.into_iter().map(|(weight, name)| match weight {
        WEIGHT_MAX => name,
        weight => format!("{name}{WEIGHT}{weight}"),
    });
    written.collect::<Vec<_>>().join(",")
}

/// Parses a weight: `q=0.5` is 500.
fn thousandths(weight: &str) -> Option<u16> {
    let text = weight.trim().strip_prefix("q=")?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(WEIGHT_MAX),
        _ => None,
    }
}

/// The language with the highest preference, in a list as [`preferences`] writes it.
fn preferred_language(list: &str) -> Option<&str> {
    let mut members = list.split(',');
    let (first, second) = (members.next()?, members.next());
    let weight = |member: &str| member.split_once(WEIGHT).map(|(_, weight)| weight.to_owned());
    let is_alone = second.is_none_or(|second| weight(second) != weight(first));
    let name = first.split(WEIGHT).next()?;
    (is_alone && name != "*" && weight(first).as_deref() != Some("0")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::NoFields;

    #[test]
    fn preferences_are_the_same_in_any_order_and_case() {
        for same in ["en, de;q=0.5", "EN,de;q=0.50", "de;q=0.5 , en;q=1", "en,en,de;q=.5,de;q=0.5"]
        {
            let expected =
                if same.contains("q=.5") { "de;q=.5,en,de\u{1}500" } else { "en,de\u{1}500" };
            assert_eq!(preferences(same), expected, "{same}");
        }
        assert_ne!(preferences("en;q=0.5, de"), preferences("en, de;q=0.5"));
        assert_ne!(preferences("de;q=500"), preferences("de;q=0.5"));
    }

    #[test]
    fn only_a_language_that_is_preferred_to_all_others_chooses_by_itself() {
        let preferred = |list: &str| preferred_language(&preferences(list)).map(str::to_owned);
        assert_eq!(preferred("fr;q=0.5, de;q=1.0").as_deref(), Some("de"));
        assert_eq!(preferred("fr, de"), None);
        assert_eq!(preferred("*"), None);
        assert_eq!(preferred("de;q=0"), None);
    }

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
