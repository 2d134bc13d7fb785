//! `[jobs]`: where the status of jobs is served, and how people see it.

use super::tree::Table;
use crate::document::{Jobs, Page};
use std::collections::BTreeMap;

/// The longest name of the query parameter, in characters.
const PARAMETER_CHARS_MAX: usize = 64;
/// The longest text of the page, in characters.
const TEXT_CHARS_MAX: usize = 500;

pub(super) fn read(root: &Table<'_>) -> Jobs {
    let usual = Jobs::default();
    let Some(table) = root.table("jobs") else { return usual };
    let jobs = Jobs {
        base: base(&table).unwrap_or(usual.base),
        parameter: parameter(&table).unwrap_or(usual.parameter),
        page: table.table("page").map_or_else(Page::default, |table| page(&table)),
    };
    table.finish();
    jobs
}

fn base(table: &Table<'_>) -> Option<String> {
    let value = table.value("base")?;
    let text = value.text()?;
    if !text.starts_with('/') || text.ends_with('/') || text.len() < 2 {
        let reason = format!("`{text}` is not a path prefix");
        let remedy = "Write a path that starts with / and does not end with it: \"/_spillway\".";
        value.fault("bad-prefix", reason, remedy);
    }
    Some(text.to_owned())
}

fn parameter(table: &Table<'_>) -> Option<String> {
    let value = table.value("parameter")?;
    let text = value.text()?;
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > PARAMETER_CHARS_MAX || !text.bytes().all(is_legal) {
        let reason = format!("`{text}` is not a name that a query can have as it is");
        value.fault("bad-parameter", reason, "Write letters, digits, -, _ and . only.");
    }
    Some(text.to_owned())
}

fn page(table: &Table<'_>) -> Page {
    let lang = table.value("lang").and_then(|value| {
        let text = value.text()?;
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if text.is_empty() || !text.bytes().all(is_legal) {
            let reason = format!("`{text}` is not a language tag");
            value.fault("bad-lang", reason, "Write one as HTML has it: \"en\", \"pt-BR\".");
        }
        Some(text.to_owned())
    });
    let css = table.value("css").and_then(|value| {
        let text = value.text()?;
        if !text.starts_with('/') || text.starts_with("//") || text.contains('\\') {
            let reason = format!("`{text}` is not a path of the own site");
            value.fault("bad-css", reason, "Write a path: \"/static/jobs.css\".");
        }
        Some(text.to_owned())
    });
    let texts = table.table("texts").map(|table| texts(&table)).unwrap_or_default();
    table.finish();
    Page { lang: lang.unwrap_or(Page::default().lang), css, texts }
}

fn texts(table: &Table<'_>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (place, value) in table.entries() {
        let Some(text) = value.text() else { continue };
        if !Page::TEXTS.iter().any(|(own, _)| *own == place) {
            let known: Vec<&str> = Page::TEXTS.iter().map(|(own, _)| *own).collect();
            let remedy = format!("Known here: {}.", known.join(", "));
            value.fault("unknown-key", format!("unknown key `{place}`"), &remedy);
        } else if text.chars().count() > TEXT_CHARS_MAX {
            let reason = format!("a text of the page has more than {TEXT_CHARS_MAX} characters");
            value.fault("text-too-long", reason, "Write a sentence.");
        }
        texts.insert(place, text.to_owned());
    }
    texts
}

#[cfg(test)]
mod tests {
    use crate::file::check;

    #[test]
    fn the_page_speaks_the_languages_of_the_rules() {
        let text = "[jobs]\nparameter = 'job'\n[jobs.page]\nlang = 'de'\ncss = '/static/jobs.css'\n\
                    [jobs.page.texts]\nworking = 'L\u{e4}uft'\n";
        let jobs = check(text).expect("good rules").document.jobs;
        assert_eq!((jobs.parameter.as_str(), jobs.page.lang.as_str()), ("job", "de"));
        assert_eq!((jobs.page.text("working"), jobs.page.text("done")), ("L\u{e4}uft", "Done"));
        for (text, wanted) in [
            ("parameter = 'a b'", "bad-parameter"),
            ("page = { lang = 'de\"' }", "bad-lang"),
            ("page = { css = '//evil.example/x.css' }", "bad-css"),
            ("page = { css = 'https://evil.example/x.css' }", "bad-css"),
            ("page = { texts = { wating = 'x' } }", "unknown-key"),
        ] {
            let faults = check(&format!("[jobs]\n{text}\n")).expect_err("a fault");
            assert_eq!(faults[0].name, wanted, "{text}");
        }
    }
}
