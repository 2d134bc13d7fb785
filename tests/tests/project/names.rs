//! One name, one type: a reader who meets a type's name in a crate knows which type it is.

use super::tidy::{code, files, shown};
use std::collections::BTreeMap;

/// The crates of the product.
const CRATES: [&str; 10] = [
    "rules",
    "http1",
    "net",
    "inject",
    "memory-cache",
    "stores",
    "edge-worker",
    "origin-sidecar",
    "reshard",
    "xtask",
];

/// Names that several types of one crate share: the crate, the name, and the reason.
const SHARED: [(&str, &str, &str); 0] = [];

/// The simulation is a test: its model of the product has the product's words.
const SIMULATION: &str = "/jobs/simulation/";

/// The name of the type or trait that a line defines. Associated types belong to their trait, so an
/// indented `type` is none.
fn defined(line: &str) -> Option<&str> {
    let text = line.trim_start();
    let text = match text.strip_prefix("pub(") {
        Some(rest) => rest.split_once(") ")?.1,
        None => text.strip_prefix("pub ").unwrap_or(text),
    };
    let text = text.strip_prefix("unsafe ").unwrap_or(text);
    let (kind, rest) = text.split_once(' ')?;
    let is_type = match kind {
        "struct" | "enum" | "trait" | "union" => true,
        "type" => !line.starts_with(' '),
        _ => false,
    };
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    is_type.then(|| &rest[..end])
}

#[test]
fn a_type_shares_its_name_with_no_other_type_of_its_crate() {
    let mut shared = Vec::new();
    let mut count = 0;
    for own in CRATES {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in files(&format!("{own}/src"), ".rs") {
            let file = shown(&path);
            if file.contains(SIMULATION) {
                continue;
            }
            for name in code(&path).lines().filter_map(defined) {
                places.entry(name.to_owned()).or_default().push(file.clone());
                count += 1;
            }
        }
        let is_allowed = |name: &str| SHARED.iter().any(|(of, at, _)| (*of, *at) == (own, name));
        for (name, places) in places {
            if places.len() > 1 && !is_allowed(&name) {
                shared.push(format!("{own}: {name} in {}", places.join(", ")));
            }
        }
    }
    assert!(count > 400, "only {count} types were found");
    assert!(shared.is_empty(), "say what each is: {shared:#?}");
}

#[test]
fn a_definition_is_told_from_a_use() {
    assert_eq!(defined("pub(super) struct Lease<'a> {"), Some("Lease"));
    assert_eq!(defined("    enum Phase {"), Some("Phase"));
    assert_eq!(defined("type Pairs = Vec<(String, String)>;"), Some("Pairs"));
    assert_eq!(defined("    type Error = Infallible;"), None);
    assert_eq!(defined("impl Lease {"), None);
}
