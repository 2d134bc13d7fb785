//! Reads `routes.toml` into a [`Document`], or reports every fault of the file at once.
//!
//! The text is parsed to a tree with positions, which is then walked by hand: serde's
//! `deny_unknown_fields` stops at the first fault, and a user should not need ten runs for ten
//! faults.

mod auth;
mod checks;
mod faults;
mod intervals;
mod jobs;
mod names;
mod offloads;
mod queues;
mod routes;
mod shards;
mod tree;
mod units;
mod values;

use crate::document::{Canonical, Document, Edge, FORMAT, Limit, Overload, Unmatched};
use crate::fault::Fault;
use crate::route::Router;
use faults::Faults;
use std::collections::BTreeMap;
use tree::Table;

/// A rules file larger than this is refused: 1 MiB is some 5,000 routes, and a ConfigMap's limit.
pub(crate) const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The highest concurrency limit that a file may set.
const CONCURRENCY_MAX: i64 = 100_000;

/// The result of checking a file without faults.
#[derive(Debug)]
pub struct Checked {
    /// The rules as data.
    pub document: Document,
    /// What is legal but probably not intended.
    pub warnings: Vec<Fault>,
}

/// Reads and checks a rules file.
///
/// # Errors
/// All faults and warnings, at least one of which is a fault.
pub fn check(text: &str) -> Result<Checked, Vec<Fault>> {
    let faults = Faults::default();
    let document = read(text, &faults);
    let found = faults.placed(text);
    match document {
        Some(document) if found.iter().all(|fault| fault.is_warning) => {
            Ok(Checked { document, warnings: found })
        }
        _ => Err(found),
    }
}

fn read(text: &str, faults: &Faults) -> Option<Document> {
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
        jobs: jobs::read(&root),
        overload: overload(&root),
        routes: root.tables("route").iter().map(routes::route).collect(),
        queues: named(&root, "queue", queues::queue),
        shard_maps: named(&root, "shard_map", shards::shard_map),
    };
    root.finish();
    checks::references(&document, &root);
    if faults.is_good()
        && let Err(reason) = Router::new(&document.routes)
    {
        let remedy =
            "Two templates can't be told apart, or too many overlap; rename or remove some.";
        faults.add(0, "", "not-indexable", reason, remedy.to_owned());
    }
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
        if from.iter().any(|from| bare_host(from) == bare_host(&to)) {
            let reason = format!("`{to}` is among `from`: it would redirect to itself for ever");
            canonical.fault("canonical-loop", reason, "Remove it from `from`.");
        }
        canonical.finish();
        Canonical { from, to }
    });
    let hosts: Vec<String> = table.texts("hosts").unwrap_or_default();
    let hosts: Vec<String> = hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect();
    for host in hosts.iter().filter(|host| !crate::forwarded::is_host(host)) {
        let reason = format!("`{host}` is not a host");
        table.fault("bad-host", reason, "Write a host as visitors type it: \"shop.example.com\".");
    }
    if origin.is_some() && hosts.is_empty() && canonical.is_none() {
        table.warn(
            "host-of-the-origin",
            "the app sees the host of `origin`, not the one that visitors use: its redirects and its checks of Origin depend on it".to_owned(),
            "Name the visitors' hosts: hosts = [\"shop.example.com\"] (the Worker and the sidecars then need SPILLWAY_EDGE_KEYS); or leave `origin` out.",
        );
    }
    let require_signature = table.flag("require_signature");
    table.finish();
    Edge { origin, canonical, hosts, require_signature }
}

/// A host as browsers send it: in lower case, without the default port of the scheme.
fn bare_host(text: &str) -> String {
    let host = text.to_ascii_lowercase();
    let host = host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(&host);
    host.strip_suffix('.').unwrap_or(host).to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn a_canonical_host_is_not_redirected_to_itself() {
        let fault = |from: &str, to: &str| {
            let text = format!(
                "[edge]\ncanonical = {{ from = [\"a.example\", \"{from}\"], to = \"{to}\" }}\n"
            );
            check(&text).err().map(|faults| faults[0].name)
        };
        assert_eq!(fault("www.shop.example", "shop.example"), None);
        for (from, to) in [
            ("shop.example", "shop.example"),
            ("Shop.Example", "shop.example"),
            ("shop.example", "shop.example:443"),
            ("shop.example:80", "SHOP.example."),
        ] {
            assert_eq!(fault(from, to), Some("canonical-loop"), "{from} {to}");
        }
    }

    #[test]
    fn a_fault_has_its_line_and_column_wherever_it_is_and_in_the_texts_order() {
        let mut text = String::new();
        for number in 0..100 {
            let _ = writeln!(
                text,
                "[[route]] # é\nname = \"r{number}\"\nmatch = {{ path = \"/r{number}\" }}"
            );
            text.push_str("a = \"ä\"\nb = 1\n");
        }
        let faults = check(&text).expect_err("unknown keys");
        assert_eq!(faults.len(), 200);
        let places: Vec<_> = faults.iter().map(|fault| (fault.line, fault.column)).collect();
        let wanted = (0..100).flat_map(|number| [(5 * number + 4, 1), (5 * number + 5, 1)]);
        assert_eq!(places, wanted.collect::<Vec<_>>());
        let one_line = check("route = [{ name = \"é\", x = 1 }, { y = 2 }]").expect_err("faults");
        let place = |path: &str| {
            let fault =
                one_line.iter().find(|fault| fault.path == path && fault.name == "unknown-key");
            fault.map(|fault| (fault.line, fault.column))
        };
        assert_eq!((place("route[0].x"), place("route[1].y")), (Some((1, 24)), Some((1, 35))));
    }

    #[test]
    fn what_can_hardly_be_meant_is_a_warning() {
        let route = |path: &str, more: &str| {
            format!("[[route]]\nname = \"r\"\nmatch = {{ path = \"{path}\"{more}")
        };
        let cached = " }\ncache = { sidecar = \"1s\" }\n";
        let form = "\n[queue.q]\n";
        let form = format!(
            ", methods = [\"POST\"] }}\noffload = {{ queue = \"q\", when = \"always\", \
             forward_headers = [\"Cookie\"], auth = {{ identity = \"cookie:session\" }} }}{form}"
        );
        for (text, wanted) in [
            (route("/api/*", cached), Some("other-template-syntax")),
            (route("/static/**", cached), Some("other-template-syntax")),
            (route("/:id", cached), Some("other-template-syntax")),
            (route("/x/<int:id>", cached), Some("other-template-syntax")),
            (route("/a?page=1", cached), Some("other-template-syntax")),
            (route("/v1/things:batch", cached), None),
            (route("/api/{*rest}", cached), None),
            (
                route("/a", ", methods = [\"POST\"] }\ncache = { sidecar = \"1s\" }"),
                Some("cache-without-get"),
            ),
            (route("/a", &form), Some("form-that-redirects")),
            (route("/a", &form.replace("cookie:session", "header:Authorization")), None),
            ("[edge]\norigin = \"https://o.example\"\n".to_owned(), Some("host-of-the-origin")),
            ("[edge]\norigin = \"https://o.example\"\nhosts = [\"a.example\"]\n".to_owned(), None),
            (
                route("/a", " }\ncache = { sidecar = \"1s\", headers = [\"Authorization\"] }"),
                Some("withdrawn-token"),
            ),
            (
                route("/u/{id}/{*file}", " }\ncache = { versioned = \"all\" }"),
                Some("versioned-by-parameter"),
            ),
        ] {
            let checked = check(&text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
            let names: Vec<_> = checked.warnings.iter().map(|fault| fault.name).collect();
            assert_eq!(names, Vec::from_iter(wanted), "{text}");
        }
    }

    #[test]
    fn too_many_routes_that_overlap_are_a_fault() {
        let mut text = String::new();
        for number in 0..1100 {
            let _ = writeln!(
                text,
                "[[route]]\nname = \"a{number}\"\nmatch = {{ path = \"/a{number}/{{x}}\" }}"
            );
            let _ = writeln!(
                text,
                "[[route]]\nname = \"b{number}\"\nmatch = {{ path = \"/{{x}}/b{number}\" }}"
            );
        }
        let faults = check(&text).expect_err("1100 x 1100 pairs");
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].name, "not-indexable");
    }
}
