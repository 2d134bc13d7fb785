//! `routes.toml` → [`Document`], or every fault of the file at once.
//!
//! The text is parsed to a tree that knows its positions and is then walked by hand: serde's
//! `deny_unknown_fields` stops at the first fault, and a user who mends ten faults in ten runs
//! has a bad evening.

mod checks;
mod names;
mod offloads;
mod queues;
mod routes;
mod shards;
mod tree;
mod units;

use crate::document::{Canonical, Document, Edge, FORMAT, Jobs, Limit, Overload, Unmatched};
use crate::fault::{Fault, position};
use std::cell::RefCell;
use std::collections::BTreeMap;
use tree::Table;

/// A rules file larger than this is refused: 1 MiB is some 5,000 routes, and a ConfigMap's limit.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Requests at once that a limit may allow; more is none.
const CONCURRENCY_MAX: i64 = 100_000;

/// The document and the warnings of a good file.
#[derive(Debug)]
pub struct Checked {
    pub document: Document,
    pub warnings: Vec<Fault>,
}

/// Collects faults while the tree is walked.
struct Faults<'a> {
    text: &'a str,
    found: RefCell<Vec<Fault>>,
}

impl Faults<'_> {
    fn add(&self, at: usize, path: &str, name: &'static str, reason: String, remedy: String) {
        let (line, column) = position(self.text, at);
        let path = path.to_owned();
        let fault = Fault { line, column, path, name, reason, remedy, is_warning: false };
        self.found.borrow_mut().push(fault);
    }

    fn warn(&self, at: usize, path: &str, name: &'static str, reason: String, remedy: String) {
        self.add(at, path, name, reason, remedy);
        if let Some(fault) = self.found.borrow_mut().last_mut() {
            fault.is_warning = true;
        }
    }
}

/// Reads and checks a rules file. `Err` holds at least one fault that is not a warning.
pub fn check(text: &str) -> Result<Checked, Vec<Fault>> {
    let faults = Faults { text, found: RefCell::new(Vec::new()) };
    let document = read(text, &faults);
    let mut found = faults.found.into_inner();
    found.sort_by_key(|fault| (fault.line, fault.column));
    found.dedup();
    match document {
        Some(document) if found.iter().all(|fault| fault.is_warning) => {
            Ok(Checked { document, warnings: found })
        }
        _ => Err(found),
    }
}

fn read(text: &str, faults: &Faults<'_>) -> Option<Document> {
    if text.len() > FILE_BYTES_MAX {
        let reason = format!("the file has {} bytes, more than {FILE_BYTES_MAX}", text.len());
        faults.add(0, "", "file-too-large", reason, "Split the rules over two services.".into());
        return None;
    }
    let (root, errors) = toml::de::DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let remedy = "See https://toml.io for the syntax.".into();
        faults.add(at, "", "syntax", error.message().trim().to_owned(), remedy);
    }
    if !errors.is_empty() {
        return None;
    }
    let root = Table::root(root.get_ref(), faults);
    if let Some(maps) = root.table("shard_map") {
        names::of_entries(&maps, "a shard map");
    }
    let document = Document {
        format: FORMAT,
        edge: root.table("edge").map_or_else(Edge::default, |table| edge(&table)),
        unmatched: root
            .choice("default", &[("pass", Unmatched::Pass), ("refuse", Unmatched::Refuse)])
            .unwrap_or(Unmatched::Pass),
        jobs: jobs(&root),
        overload: overload(&root),
        routes: root.tables("route").iter().map(routes::route).collect(),
        queues: named(&root, "queue", queues::queue),
        shard_maps: named(&root, "shard_map", shards::shard_map),
    };
    root.finish();
    checks::references(&document, &root);
    Some(document)
}

fn edge(table: &Table<'_>) -> Edge {
    let origin = table.value("origin").and_then(|value| {
        let text = value.text()?;
        let is_url = text.starts_with("http://") || text.starts_with("https://");
        if !is_url || text.ends_with('/') {
            let reason = format!("`{text}` is not an origin");
            value.fault(
                "bad-origin",
                reason,
                "Write scheme and host only: \"https://origin.example.com\".",
            );
        }
        Some(text.to_owned())
    });
    let canonical = table.table("canonical").map(|canonical| {
        let from = canonical.texts("from").unwrap_or_default();
        let to = canonical.required_text("to");
        canonical.finish();
        Canonical { from, to }
    });
    let require_signature = table.flag("require_signature");
    table.finish();
    Edge { origin, canonical, require_signature }
}

fn jobs(root: &Table<'_>) -> Jobs {
    let base = root.table("jobs").and_then(|table| {
        let value = table.value("base");
        table.finish();
        let value = value?;
        let text = value.text()?;
        if !text.starts_with('/') || text.ends_with('/') || text.len() < 2 {
            let reason = format!("`{text}` is not a path prefix");
            value.fault(
                "bad-prefix",
                reason,
                "Write a path that starts with / and does not end with it: \"/_spillway\".",
            );
        }
        Some(text.to_owned())
    });
    Jobs { base: base.unwrap_or_else(|| "/_spillway".to_owned()) }
}

fn overload(root: &Table<'_>) -> Overload {
    let Some(table) = root.table("overload") else { return Overload::default() };
    let concurrency = table.value("concurrency").map(|value| match value.integer() {
        Some(most) if (1..=CONCURRENCY_MAX).contains(&most) => Limit::Fixed(most.unsigned_abs()),
        None if value.is("adaptive") => Limit::Adaptive,
        _ => {
            value.fault(
                "bad-concurrency",
                "this is neither \"adaptive\" nor a number".to_owned(),
                "Write \"adaptive\", or how many requests may wait for the app at once, 1 to 100000.",
            );
            Limit::None
        }
    });
    table.finish();
    Overload { concurrency: concurrency.unwrap_or_default() }
}

fn named<T>(root: &Table<'_>, key: &str, read: fn(&Table<'_>) -> T) -> BTreeMap<String, T> {
    let mut found = BTreeMap::new();
    let Some(table) = root.table(key) else { return found };
    for (name, value) in table.entries() {
        if let Some(table) = value.table() {
            found.insert(name, read(&table));
        }
    }
    found
}
