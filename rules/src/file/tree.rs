//! A thin view of the TOML tree that knows positions, collects faults and records which keys were
//! read, so that every other key is reported as unknown.

use super::faults::Faults;
use super::units;
use crate::nearest::nearest;
use crate::time::Millis;
use std::cell::RefCell;
use std::collections::BTreeSet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) struct Table<'a> {
    table: &'a DeTable<'a>,
    at: usize,
    path: String,
    faults: &'a Faults,
    asked: RefCell<BTreeSet<&'static str>>,
}

#[derive(Clone)]
pub(super) struct Value<'a> {
    value: &'a Spanned<DeValue<'a>>,
    pub(super) path: String,
    faults: &'a Faults,
}

impl<'a> Table<'a> {
    pub(super) fn root(table: &'a DeTable<'a>, faults: &'a Faults) -> Self {
        Self { table, at: 0, path: String::new(), faults, asked: RefCell::default() }
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, which counts as known from now on.
    pub(super) fn value(&self, key: &str) -> Option<Value<'a>> {
        let found = self.table.iter().find(|(own, _)| own.get_ref().as_ref() == key);
        // A key that is read under a run-time name is listed by `entries`, and is never unknown.
        if let Some(known) = KEYS.iter().find(|known| **known == key) {
            self.asked.borrow_mut().insert(known);
        }
        let (_, value) = found?;
        Some(Value { value, path: self.key_path(key), faults: self.faults })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(own, _)| own.get_ref().as_ref() == key)
    }

    /// Every key with its value, for tables whose keys are names.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, Value<'a>)> + '_ {
        self.table.iter().map(|(key, value)| {
            let path = self.key_path(key.get_ref());
            (key.get_ref().to_string(), Value { value, path, faults: self.faults })
        })
    }

    pub(super) fn table(&self, key: &str) -> Option<Table<'a>> {
        self.value(key)?.table()
    }

    /// The tables of an array (`[[route]]`).
    pub(super) fn tables(&self, key: &str) -> Vec<Table<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        value.items().iter().filter_map(Value::table).collect()
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.value(key)?.text().map(str::to_owned)
    }

    pub(super) fn required_text(&self, key: &str) -> String {
        if !self.has(key) {
            self.missing(key, "text");
        }
        self.text(key).unwrap_or_default()
    }

    pub(super) fn missing(&self, key: &str, kind: &str) {
        let reason = format!("`{key}` is missing");
        let remedy = format!("Add {key} = … ({kind}); see docs/rules.md.");
        self.faults.add(self.at, &self.path, "missing-key", reason, remedy);
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    pub(super) fn optional_flag(&self, key: &str) -> Option<bool> {
        self.value(key)?.flag()
    }

    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        Some(self.value(key)?.texts())
    }

    /// A duration such as "5s", in milliseconds.
    pub(super) fn duration(&self, key: &str) -> Option<Millis> {
        self.value(key)?.duration()
    }

    /// A size such as "64KiB", in bytes.
    pub(super) fn size(&self, key: &str) -> Option<u64> {
        let value = self.value(key)?;
        let text = value.text()?;
        let size = units::size(text);
        if size.is_none() {
            value.fault(
                "bad-size",
                format!("`{text}` is not a size"),
                "Write a whole number with B, KiB, MiB or GiB: \"64KiB\".",
            );
        }
        size
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, key: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.value(key)?;
        let number = value.integer().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            let reason = format!("not a whole number from {min} to {max}");
            value.fault(
                "bad-number",
                reason,
                &format!("Write {key} = N with {min} <= N <= {max}."),
            );
        }
        number
    }

    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.value(key)?.choice(choices)
    }

    pub(super) fn fault(&self, name: &'static str, reason: String, remedy: &str) {
        self.faults.add(self.at, &self.path, name, reason, remedy.to_owned());
    }

    pub(super) fn warn(&self, name: &'static str, reason: String, remedy: &str) {
        self.faults.warn(self.at, &self.path, name, reason, remedy.to_owned());
    }

    /// Reports every key that was not read.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table.iter() {
            let name = key.get_ref().as_ref();
            if asked.contains(name) {
                continue;
            }
            let known = asked.iter().copied().collect::<Vec<_>>().join(", ");
            let remedy = match nearest(name, asked.iter()) {
                Some(near) => format!("Did you mean `{near}`? Known here: {known}."),
                None => format!("Remove it. Known here: {known}."),
            };
            let reason = format!("unknown key `{name}`");
            self.faults.add(key.span().start, &self.key_path(name), "unknown-key", reason, remedy);
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn fault(&self, name: &'static str, reason: String, remedy: &str) {
        self.faults.add(self.value.span().start, &self.path, name, reason, remedy.to_owned());
    }

    fn wrong_type(&self, wanted: &str) {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date-time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.fault(
            "wrong-type",
            format!("{found} where {wanted} is wanted"),
            &format!("Write {wanted}."),
        );
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::String(_))
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Table(_))
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        if let DeValue::String(text) = self.value.get_ref() {
            return Some(text.as_ref());
        }
        self.wrong_type("text in quotes");
        None
    }

    /// Whether the value is this text; any other value is no fault yet.
    pub(super) fn is(&self, text: &str) -> bool {
        matches!(self.value.get_ref(), DeValue::String(own) if own.as_ref() == text)
    }

    fn flag(&self) -> Option<bool> {
        if let DeValue::Boolean(flag) = self.value.get_ref() {
            return Some(*flag);
        }
        self.wrong_type("true or false");
        None
    }

    /// The value as an integer; `None` without a fault for anything else, because the caller knows
    /// the bounds.
    pub(super) fn integer(&self) -> Option<i64> {
        let DeValue::Integer(integer) = self.value.get_ref() else { return None };
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// The text, integer or date-time as written: the literal of a shard key.
    pub(super) fn literal(&self) -> Option<String> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(_) => self.integer().map(|integer| integer.to_string()),
            DeValue::Datetime(time) => Some(time.to_string()),
            _ => {
                self.wrong_type("a key (integer, text or timestamp)");
                None
            }
        }
    }

    pub(super) fn duration(&self) -> Option<Millis> {
        let text = self.text()?;
        let duration = units::duration(text);
        if duration.is_none() {
            self.fault(
                "bad-duration",
                format!("`{text}` is not a duration"),
                "Write a whole number with ms, s, m, h or d: \"5s\".",
            );
        }
        duration
    }

    pub(super) fn table(&self) -> Option<Table<'a>> {
        if let DeValue::Table(table) = self.value.get_ref() {
            let at = self.value.span().start;
            let path = self.path.clone();
            return Some(Table { table, at, path, faults: self.faults, asked: RefCell::default() });
        }
        self.wrong_type("a table");
        None
    }

    pub(super) fn items(&self) -> Vec<Value<'a>> {
        let DeValue::Array(items) = self.value.get_ref() else {
            self.wrong_type("an array");
            return Vec::new();
        };
        let item = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| Value {
            value,
            path: format!("{}[{index}]", self.path),
            faults: self.faults,
        };
        items.iter().enumerate().map(item).collect()
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(Value::text).map(str::to_owned).collect()
    }

    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>();
            let remedy = format!("Write one of {}.", names.join(", "));
            self.fault("bad-choice", format!("`{text}` is not a choice"), &remedy);
        }
        found.map(|(_, choice)| *choice)
    }
}

/// Every key of the file format.
#[rustfmt::skip]
const KEYS: &[&str] = &[
    "after", "ambiguous_path", "app", "auth", "base", "body_limit", "browser", "bypass_cookies", "bytes", "cache", "canonical",
    "check", "class", "concurrency", "cookies", "cors", "credentials", "deadline", "default",
    "edge", "fallback", "flash", "foreign_consumers", "forward_headers", "from", "header", "headers", "hold", "hosts", "identity", "idle_timeout",
    "ignore_cookies", "css", "job_timeout", "jobs", "keep", "key_type", "lang", "live", "login", "map", "match", "max_age",
    "max_attempts", "max_body", "max_staleness", "message", "method", "methods", "mode", "name",
    "negative", "notify", "offload", "origin", "origins", "outside", "overload", "override", "owner", "page", "parameter", "path", "private", "query",
    "query_rest", "queue", "ranges", "replay_as", "replay_ttl", "requests", "require_signature", "result", "result_ttl", "retry", "route", "settle", "shard", "shard_map",
    "shards", "sidecar", "spill_over", "stale_if_error", "stale_while_revalidate", "strict_slash",
    "strip_cookies", "tags", "targeted", "texts", "tenant", "tenant_concurrency", "time", "timeout", "to", "total_timeout", "unkeyed_headers", "until", "upstream",
    "urls", "user", "versioned", "visibility", "wait", "wait_ends", "wait_for_app", "when", "writes",
];
