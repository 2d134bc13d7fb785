//! Who may import whom: folders and crates look down only, and files stand in no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders and files of the sidecar's crate, lowest first: each may import what stands in a line before
/// its own, and nothing beside it.
const LAYERS: [&[&str]; 12] = [
    &["cgroup", "clock", "drain", "logging", "memory", "room", "secrets", "writes"],
    &["telemetry"],
    &["message"],
    &["soundness"],
    &["upstream"],
    &["request"],
    &["shards"],
    &["jobs"],
    &["proxy"],
    &["operate"],
    &["command"],
    &["main"],
];

/// The same for the tool that moves ranges.
const RESHARD_LAYERS: [&[&str]; 15] = [
    &["sql"],
    &["interrupt", "limits", "map", "moved", "server"],
    &["catalog"],
    &["columns"],
    &["gate", "journal", "owner_check", "replication"],
    &["preflight"],
    &["copy", "verify"],
    &["move_error"],
    &["mover"],
    &["switch"],
    &["undo"],
    &["source_alone"],
    &["steps"],
    &["command"],
    &["main"],
];

/// Crates of ours, and which of them each may depend on.
const CRATES: [(&str, &[&str]); 10] = [
    ("rules", &[]),
    ("http1", &[]),
    ("net", &[]),
    ("inject", &["rules"]),
    ("memory-cache", &["rules", "http1"]),
    ("stores", &["rules", "net"]),
    ("edge-worker", &["rules"]),
    ("origin-sidecar", &["rules", "http1", "net", "inject", "memory-cache", "stores"]),
    ("reshard", &["rules", "net"]),
    ("xtask", &["inject", "origin-sidecar", "rules"]),
];

/// What the memory cache must work without: simulations run it with no runtime and no metrics.
const NOT_OF_THE_CACHE: [&str; 3] = ["hyper", "prometheus", "tokio"];

/// Files that import each other in a circle, by the first of each in alphabetical order. The list may only
/// get shorter. The world of the simulation is one thing in several files.
const CIRCLES: [(&str, usize); 1] = [("origin-sidecar/jobs::simulation::application", 11)];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// Modules below a folder by their names, `jobs::accept`; those of tests alone left out.
fn modules(folder: &str) -> BTreeMap<String, PathBuf> {
    let root = root().join(folder);
    let mut folders = vec![root.clone()];
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("a folder that can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(&root).expect("below it").with_extension("");
                let name = name.display().to_string().replace('/', "::");
                let is_test = name.ends_with("tests");
                if name != "lib" && !is_test {
                    found.insert(name, path);
                }
            }
        }
    }
    assert!(!found.is_empty(), "no modules in {folder}");
    found
}

/// A source without its comments and the tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The paths of an import: `a::{b, c::{d, e}}` names three.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, inner)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or_default().to_owned()];
    };
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in inner.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| leaves(part)).map(|leaf| format!("{before}{leaf}")).collect()
}

/// Every path that a source imports or names, as it is written.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    let mut named = String::new();
    while let Some(at) = rest.find("use ") {
        let (before, after) = rest.split_at(at);
        let is_import = before.rsplit('\n').next().unwrap_or_default().trim_start();
        let is_import = is_import.is_empty() || is_import.starts_with("pub");
        let end = after.find(';').unwrap_or(after.len());
        named.push_str(before);
        if is_import {
            found.extend(leaves(&after["use ".len()..end]));
            rest = &after[end..];
        } else {
            named.push_str("use ");
            rest = &after["use ".len()..];
        }
    }
    named.push_str(rest);
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let words = named.split(|c| !is_path(c));
    found.extend(
        words
            .filter(|it| it.starts_with("crate::") || it.starts_with("super::"))
            .map(str::to_owned),
    );
    found
}

/// The modules that each one imports.
fn imports(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let modules = modules(folder);
    let target = |own: &str, path: &str| {
        let mut base: Vec<&str> = own.split("::").collect();
        let mut rest: Vec<&str> = path.split("::").map(str::trim).collect();
        match rest.first().copied() {
            Some("crate") => {
                base.clear();
                rest.remove(0);
            }
            Some("self") => drop(rest.remove(0)),
            Some("super") => {
                while rest.first() == Some(&"super") {
                    rest.remove(0);
                    base.pop();
                }
            }
            _ => {}
        }
        base.extend(rest);
        let prefixes = (1..=base.len()).rev().map(|length| base[..length].join("::"));
        prefixes.filter(|name| name != own).find(|name| modules.contains_key(name))
    };
    let of = |(name, path): (&String, &PathBuf)| {
        let found = paths(&code(path));
        // A path without `crate` or `super` is one of our own only where a child has that name.
        let is_ours = |path: &&String| {
            let first = path.split("::").next().unwrap_or_default();
            matches!(first, "crate" | "super" | "self")
                || modules.contains_key(&format!("{name}::{first}"))
        };
        let found = found.iter().filter(is_ours).filter_map(|path| target(name, path));
        (name.clone(), found.collect())
    };
    modules.iter().map(of).collect()
}

/// All that can be reached from a module.
fn reached<'a>(graph: &'a BTreeMap<String, BTreeSet<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut open, mut found) = (vec![from], BTreeSet::new());
    while let Some(module) = open.pop() {
        for next in graph.get(module).into_iter().flatten() {
            if found.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    found
}

/// Groups of modules of which each reaches every other one.
fn circles(folder: &str) -> Vec<Vec<String>> {
    let graph = imports(folder);
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|module| (module.as_str(), reached(&graph, module))).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (module, own) in &reached {
        if !own.contains(module) || seen.contains(module) {
            continue;
        }
        let circle: Vec<&str> =
            own.iter().copied().filter(|other| reached[other].contains(module)).collect();
        seen.extend(circle.iter().copied());
        found.push(circle.into_iter().map(str::to_owned).collect());
    }
    found
}

#[test]
fn the_sidecars_folders_import_only_what_stands_below_them() {
    look_down("origin-sidecar/src", &LAYERS);
}

#[test]
fn reshards_folders_import_only_what_stands_below_them() {
    look_down("reshard/src", &RESHARD_LAYERS);
}

fn look_down(folder: &str, layers: &[&[&str]]) {
    let floor = |module: &str| {
        let first = module.split("::").next().unwrap_or_default();
        let found = layers.iter().position(|layer| layer.contains(&first));
        found.unwrap_or_else(|| panic!("{first} has no place in the table"))
    };
    let mut upward = Vec::new();
    for (module, imported) in imports(folder) {
        let own = module.split("::").next().unwrap_or_default();
        let is_other = |other: &&String| other.split("::").next() != Some(own);
        let wrong = imported.iter().filter(is_other).filter(|other| floor(other) >= floor(&module));
        upward.extend(wrong.map(|other| format!("{module} -> {other}")));
    }
    assert!(upward.is_empty(), "these look up: {upward:#?}");
}

#[test]
fn settings_are_read_by_the_commands_alone() {
    for (module, imported) in imports("origin-sidecar/src") {
        let is_command = module == "main" || module.starts_with("command");
        assert!(is_command || !imported.contains("command::settings"), "{module} reads settings");
    }
}

#[test]
fn crates_depend_on_what_stands_below_them() {
    for (name, allowed) in CRATES {
        let manifest =
            fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        let own = manifest.split_once("[dependencies]").expect("dependencies").1;
        let own = own.split("\n[").next().unwrap_or_default();
        let named: BTreeSet<&str> =
            own.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).collect();
        let ours = CRATES.iter().map(|(name, _)| *name).chain(["tests"]);
        for other in ours.filter(|other| named.contains(other)) {
            assert!(allowed.contains(&other), "{name} must not depend on {other}");
        }
        if name == "memory-cache" {
            let found = NOT_OF_THE_CACHE.iter().find(|other| named.contains(**other));
            assert!(found.is_none(), "memory-cache must not depend on {found:?}");
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle_but_those_of_the_list() {
    let known: BTreeMap<&str, usize> = BTreeMap::from(CIRCLES);
    let mut new = Vec::new();
    let mut left: BTreeSet<&str> = known.keys().copied().collect();
    let folders = CRATES.map(|(name, _)| format!("{name}/src"));
    for folder in &folders {
        for circle in circles(folder) {
            let name = format!("{}/{}", folder.split('/').next().unwrap_or_default(), circle[0]);
            match known.get(name.as_str()) {
                Some(most) if circle.len() == *most => drop(left.remove(name.as_str())),
                Some(most) if circle.len() < *most => {
                    panic!("{name}: {} files by now; write that into the list", circle.len())
                }
                _ => new.push((name, circle.len(), circle)),
            }
        }
    }
    assert!(new.is_empty(), "circles of files: {new:#?}");
    assert!(left.is_empty(), "open by now, take them off the list: {left:?}");
}

#[test]
fn the_reader_of_imports_sees_what_is_written_in_each_way() {
    let text = "use a::b::{self, C, d::{E, F as G}};\nuse n;\nuse o;\npub use super::h;\nfn i() { crate::j::k(super::l::M) }";
    let mut found = paths(text);
    found.sort();
    let all = [
        "a::b::C",
        "a::b::d::E",
        "a::b::d::F",
        "a::b::self",
        "crate::j::k",
        "n",
        "o",
        "super::h",
        "super::l::M",
    ];
    assert_eq!(found, all);
}
