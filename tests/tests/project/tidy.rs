//! What a reader would otherwise have to watch for: sizes, forbidden calls, dead links, commands
//! and names that a page mentions and the sources no longer have.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// No Rust file is longer.
const LINES_MAX: usize = 500;
/// Longer than this is an exception that stands in [`LONG_FILES`].
const LINES_GOOD: usize = 400;
/// The exceptions. The list may only get shorter.
const LONG_FILES: [&str; 1] = ["tests/tests/jobs/offload.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn page(name: &str) -> String {
    read(&root().join(name))
}

/// Files below a folder of the repository whose name ends so; nothing that was built or installed.
pub(super) fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
        for path in entries.map(|entry| entry.expect("a folder that can be read").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_ours =
                !name.starts_with('.') && !["target", "node_modules", "build"].contains(&&*name);
            if path.is_dir() && is_ours {
                folders.push(path);
            } else if path.is_file() && name.ends_with(end) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no {end} below {folder}");
    found.sort();
    found
}

pub(super) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A source without its comments and its tests.
pub(super) fn code(path: &Path) -> String {
    let name = shown(path);
    if name.ends_with("tests.rs") || name.contains("/tests/") {
        return String::new();
    }
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// `path: what` for each of the words that stands in the code below the folder.
fn uses(folder: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(folder, ".rs") {
        let code = code(&path);
        let used = words.iter().filter(|word| code.contains(**word));
        found.extend(used.map(|word| format!("{}: {word}", shown(&path))));
    }
    found
}

#[test]
fn no_rust_file_is_too_long_to_be_read_at_once() {
    let mut long = BTreeSet::new();
    for path in files(".", ".rs") {
        let lines = read(&path).lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", shown(&path));
        if lines > LINES_GOOD {
            long.insert(shown(&path));
        }
    }
    let allowed = BTreeSet::from(LONG_FILES.map(str::to_owned));
    let new: Vec<_> = long.difference(&allowed).collect();
    let shrunk: Vec<_> = allowed.difference(&long).collect();
    assert!(new.is_empty(), "over {LINES_GOOD} lines: {new:?}");
    assert!(shrunk.is_empty(), "short by now, take them off the list: {shrunk:?}");
}

#[test]
fn there_are_ten_test_binaries_at_most() {
    let is_binary = |path: &&PathBuf| {
        let parent = |path: &Path| path.parent().is_some_and(|folder| folder.ends_with("tests"));
        let is_package = |folder: Option<&Path>| {
            folder.is_some_and(|folder| folder.with_file_name("Cargo.toml").is_file())
        };
        match path.file_name().is_some_and(|name| name == "main.rs") {
            true => path.parent().is_some_and(|own| parent(own) && is_package(own.parent())),
            false => parent(path) && is_package(path.parent()),
        }
    };
    let files = files(".", ".rs");
    let binaries: Vec<String> = files.iter().filter(is_binary).map(|path| shown(path)).collect();
    assert!((8..=10).contains(&binaries.len()), "each is a link for everybody: {binaries:#?}");
}

#[test]
fn rules_and_the_edge_never_panic_on_purpose() {
    let words = [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!("];
    for folder in ["rules/src", "edge-worker/src"] {
        let found = uses(folder, &words);
        assert!(found.is_empty(), "a panic ends every request of an isolate: {found:?}");
    }
}

#[test]
fn rules_and_inject_read_no_clock_no_file_and_no_network() {
    let words =
        ["SystemTime", "Instant", "std::fs", "std::net", "std::thread", "std::env", "tokio"];
    for folder in ["rules/src", "inject/src"] {
        let found = uses(folder, &words);
        assert!(found.is_empty(), "they decide from their arguments alone: {found:?}");
    }
}

#[test]
fn the_edge_and_the_sidecar_never_see_each_other() {
    for (own, others) in [
        ("rules", ["edge-worker", "origin-sidecar", "hyper", "worker."]),
        ("edge-worker", ["origin-sidecar", "tokio", "hyper", "http."]),
        ("origin-sidecar", ["edge-worker", "worker.", "wasm-bindgen", "web-sys"]),
        ("reshard", ["edge-worker", "origin-sidecar", "stores", "worker."]),
    ] {
        let manifest = page(&format!("{own}/Cargo.toml"));
        let dependencies = manifest.split_once("[dependencies]").expect("dependencies").1;
        for line in dependencies.lines() {
            let found = others.iter().find(|other| line.starts_with(**other));
            assert!(found.is_none(), "{own} must not depend on this: {line}");
        }
    }
}

#[test]
fn the_sidecar_has_the_three_public_traits_of_the_design_and_no_other() {
    let mut traits = BTreeSet::new();
    let crates = ["origin-sidecar/src", "stores/src", "net/src", "memory-cache/src"];
    for path in crates.iter().flat_map(|folder| files(folder, ".rs")) {
        for line in code(&path).lines() {
            let name = line.trim_start().strip_prefix("pub trait ");
            traits.extend(name.map(|name| name.split([':', ' ']).next().unwrap_or("").to_owned()));
        }
    }
    assert_eq!(traits, BTreeSet::from(["Clock", "Queue", "Results"].map(str::to_owned)));
}

#[test]
fn nothing_is_left_to_do_in_a_comment() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for end in [".rs", ".toml", ".py", ".mjs", ".js", ".yaml", ".md"] {
        for path in files(".", end) {
            let text = read(&path);
            let found = marks.iter().find(|mark| text.contains(**mark));
            assert!(found.is_none(), "{}: {found:?}", shown(&path));
        }
    }
}

#[test]
fn nothing_is_said_in_words_that_a_stranger_stumbles_over() {
    // A client, a reader and a process are no persons; the rest has plain words.
    let words = [
        concat!(" hi", "s "),
        concat!(" hi", "m "),
        concat!("manie", "th"),
        concat!("by and", " by"),
        concat!("in va", "in"),
        concat!("is it", "s\n"),
    ];
    for end in [".rs", ".md"] {
        for path in files(".", end) {
            let text = read(&path);
            let found = words.iter().find(|word| text.contains(**word));
            assert!(found.is_none(), "{}: {found:?}", shown(&path));
        }
    }
}

#[test]
fn every_shared_dependency_says_what_it_is_for() {
    let manifest = page("Cargo.toml");
    let section = manifest.split_once("[workspace.dependencies]\n").expect("the section").1;
    let section = section.split("\n[").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.contains(" = "));
    let silent: Vec<&str> = lines.filter(|line| !line.contains(" # ")).collect();
    assert!(silent.is_empty(), "no comment: {silent:#?}");
}

/// Targets of `[text](target)`, the code blocks left out.
fn links(page: &str) -> Vec<String> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            found.extend(targets.map(str::to_owned));
        }
    }
    found
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let text: String = heading.trim().to_lowercase().chars().filter(|c| kept(*c)).collect();
    text.replace(' ', "-")
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut count = 0;
    for path in files(".", ".md") {
        let own = read(&path);
        for link in links(&own) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let folder = path.parent().expect("a file lies in a folder");
            let target = if file.is_empty() { path.clone() } else { folder.join(file) };
            assert!(target.exists(), "{}: {link}", shown(&path));
            if !heading.is_empty() && file.ends_with(".md") {
                let text = read(&target);
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let is_there = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(is_there, "{}: no such heading: {link}", shown(&path));
            }
        }
    }
    assert!(count > 20, "only {count} links were found");
}

/// What stands in backticks and in code blocks, as words.
fn code_words(page: &str) -> Vec<Vec<String>> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut is_code = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            found.push(words(line));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(words));
        }
    }
    found
}

/// The subcommands of a program: the variants of its `enum Command`.
fn subcommands(source: &str) -> BTreeSet<String> {
    let text = page(source);
    let commands = text.split_once("enum Command {").expect("the subcommands").1;
    let commands = commands.split("\n}").next().unwrap_or_default();
    commands
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.split(['(', ' ', ',']).next().unwrap_or_default().to_lowercase())
        .collect()
}

#[test]
fn every_command_that_a_page_names_exists() {
    let spillway = subcommands("origin-sidecar/src/main.rs");
    let main = page("xtask/src/main.rs");
    let xtask: BTreeSet<String> = main
        .split("command == \"")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect();
    let reshard = subcommands("reshard/src/command/arguments.rs");
    assert!(spillway.contains("proxy") && xtask.contains("demo"), "{spillway:?} {xtask:?}");
    assert!(reshard.contains("preflight"), "{reshard:?}");
    let is_name = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    for path in files(".", ".md") {
        for words in code_words(&read(&path)) {
            for pair in words.windows(2) {
                let known = match pair[0].rsplit('/').next() {
                    Some("spillway") => &spillway,
                    Some("reshard") => &reshard,
                    Some("xtask") => &xtask,
                    _ => continue,
                };
                let is_checked = is_name(&pair[1]) && !pair[1].starts_with('-');
                let is_known = !is_checked || known.contains(&pair[1]);
                assert!(is_known, "{}: {}", shown(&path), words.join(" "));
            }
        }
    }
}

/// What follows each place of a mark, up to the next quote.
fn quoted_after<'t>(text: &'t str, mark: &str) -> impl Iterator<Item = &'t str> {
    text.split(mark).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0))
}

#[test]
fn every_setting_is_in_the_operating_guide() {
    let (settings, guide) =
        (page("origin-sidecar/src/command/settings.rs"), page("docs/operating.md"));
    let names: Vec<&str> = quoted_after(&settings, "env = \"").collect();
    assert!(names.len() > 10, "only {} settings were found", names.len());
    for name in names {
        assert!(guide.contains(&format!("`{name}`")), "docs/operating.md lacks {name}");
    }
}

/// Every metric of the program.
fn metrics() -> BTreeSet<String> {
    let sources = ["metrics.rs", "shards.rs", "shard_meters.rs"]
        .map(|own| page(&format!("origin-sidecar/src/telemetry/{own}")));
    let metrics = sources.join("\n");
    let mut names = BTreeSet::new();
    for call in ["counters(", "gauges(", "gauge(", "histograms(", "opts("] {
        for rest in metrics.split(call).skip(1) {
            let rest = rest.trim_start().trim_start_matches("r,").trim_start();
            let name = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
            names.extend(name.map(|name| format!("spillway_{name}")));
        }
    }
    assert!(names.len() > 25, "only {} metrics were found", names.len());
    names
}

#[test]
fn every_alert_is_made_of_metrics_that_exist_and_is_in_the_operating_guide() {
    let files = files("k8s/alerts", ".yaml");
    let rules = files.iter().filter(|path| !shown(path).ends_with(".test.yaml"));
    let alerts = rules.map(|path| read(path)).collect::<Vec<_>>().join("\n");
    let (guide, known) = (page("docs/operating.md"), metrics());
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = alerts.split(|c: char| !is_name(c)).filter(|word| word.starts_with("spillway_"));
    let unknown: Vec<&str> = words.filter(|word| !known.contains(*word)).collect();
    assert!(unknown.is_empty(), "no such metrics: {unknown:?}");
    let names: Vec<&str> =
        alerts.split("- alert: ").skip(1).filter_map(|rest| rest.lines().next()).collect();
    assert!(names.len() > 10, "only {} alerts were found", names.len());
    for name in names {
        assert!(guide.contains(&format!("| `{name}` |")), "docs/operating.md lacks {name}");
    }
}

#[test]
fn every_metric_is_in_the_operating_guide() {
    let (names, guide) = (metrics(), page("docs/operating.md"));
    for name in &names {
        assert!(guide.contains(&format!("`{name}`")), "docs/operating.md lacks {name}");
    }
    for word in guide.split('`').skip(1).step_by(2).filter(|word| word.starts_with("spillway_")) {
        let name = word.split('{').next().unwrap_or_default();
        assert!(names.contains(name), "docs/operating.md invents {word}");
    }
}

#[test]
fn every_problem_has_its_remedy_in_the_operating_guide() {
    let guide = page("docs/operating.md");
    for problem in rules::Problem::ALL {
        let row = format!("| `{}` |", problem.name());
        assert!(guide.contains(&row), "docs/operating.md lacks a row for {}", problem.name());
    }
}

#[test]
fn every_limit_of_the_operating_guide_is_a_constant_of_the_sources() {
    let guide = page("docs/operating.md");
    let table = guide.split_once("## Limits").expect("the section").1;
    let table = table.split("\n## ").next().unwrap_or_default();
    let mut count = 0;
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let mut names = row.split('`').skip(1).step_by(2);
        let (Some(constant), Some(file)) = (names.next(), names.next()) else { continue };
        let source = page(file);
        let declared = [format!("const {constant}:"), format!("const {constant} =")];
        assert!(declared.iter().any(|text| source.contains(text)), "{file} has no {constant}");
        count += 1;
    }
    assert!(count > 20, "only {count} limits were found");
}
