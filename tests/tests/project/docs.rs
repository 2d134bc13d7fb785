//! docs/rules.md against the sources of `rules`: a name that one has and the other has not is a
//! page that lies.

use rules::Problem;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::{fs, path::Path};

type Names = BTreeSet<String>;

/// Enums with a stable name per variant, and the head of the table that explains them.
const ENUMS: [(&str, &str); 13] = [
    ("Ambiguous", "ambiguous"),
    ("Bypass", "bypass"),
    ("Inline", "inline"),
    ("Invalid", "signature"),
    ("KeyType", "key type"),
    ("MoveStage", "move stage"),
    ("NotStored", "not stored"),
    ("RangeState", "range state"),
    ("Reason", "offloaded"),
    ("Removed", "removed"),
    ("RouteMismatch", "not taken"),
    ("RulesFallback", "fallback"),
    ("Source", "lifetime by"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The sources of `rules`, without comments and tests.
fn sources() -> Vec<String> {
    let mut folders = vec![root().join("rules/src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|why| panic!("{why}"));
        for path in entries.map(|entry| entry.expect("a folder that can be read").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                sources.push(code(&read(&path)));
            }
        }
    }
    sources
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code = text.lines().filter(is_code).collect::<Vec<_>>().join("\n");
    // So that every quote left begins or ends a string.
    code.replace("\\\"", "'")
}

/// The strings in a piece of Rust.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c == '-';
    !text.is_empty() && text.chars().all(legal) && !text.starts_with('-')
}

/// The names in the tables of the page whose first column has this head: the first code span of
/// each row, and the whole row.
fn tables(page: &str, head: &str) -> BTreeMap<String, String> {
    let start = format!("| {head} |");
    let mut is_inside = false;
    let mut rows = BTreeMap::new();
    for line in page.lines() {
        if !line.starts_with('|') {
            is_inside = false;
        } else if line.starts_with(&start) {
            is_inside = true;
        } else if is_inside && let Some(name) = line.strip_prefix("| `") {
            let name = name.split('`').next().unwrap_or_default();
            rows.insert(name.to_owned(), line.to_owned());
        }
    }
    assert!(!rows.is_empty(), "docs/rules.md has no table of `{head}`");
    rows
}

#[track_caller]
fn assert_same(what: &str, sources: &Names, page: &BTreeMap<String, String>) {
    let page: Names = page.keys().cloned().collect();
    let missing: Vec<_> = sources.difference(&page).collect();
    let invented: Vec<_> = page.difference(sources).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "docs/rules.md, {what}: missing {missing:?}, not in the sources {invented:?}"
    );
}

fn page() -> String {
    read(&root().join("docs/rules.md"))
}

/// Every key that a rules file may have, in whatever table.
fn keys() -> Names {
    let tree = read(&root().join("rules/src/file/tree.rs"));
    let list = tree.split("const KEYS: &[&str] = &[").nth(1).expect("the list of all keys");
    let list = list.split("];").next().unwrap_or_default();
    let keys: Names = quoted(list).map(str::to_owned).collect();
    assert!(keys.len() > 50, "only {} keys were found", keys.len());
    keys
}

#[test]
fn every_key_is_in_the_reference() {
    assert_same("keys", &keys(), &tables(&page(), "key"));
}

/// Of its lines the fuzzer makes rules files: a key that it lacks is never tried.
#[test]
fn the_file_with_every_key_has_every_key() {
    let file = read(&root().join("fuzz/seeds/rules_file/every-key.toml"));
    let is_of_key = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let words: BTreeSet<&str> = file.split(|letter| !is_of_key(letter)).collect();
    let missing: Vec<String> =
        keys().into_iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "fuzz/seeds/rules_file/every-key.toml lacks {missing:?}");
}

/// The names given to `fault(…)`, `warn(…)` and `faults.add(…)`: the first argument that is one.
fn faults(call: &str) -> Names {
    let mut names = Names::new();
    for source in sources() {
        for arguments in source.split(call).skip(1) {
            let (mut depth, mut is_quoted) = (1_u32, false);
            let end = arguments.find(|letter| {
                match letter {
                    '"' => is_quoted = !is_quoted,
                    '(' if !is_quoted => depth += 1,
                    ')' if !is_quoted => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            let own = arguments.get(..end.unwrap_or(arguments.len())).unwrap_or_default();
            names.extend(quoted(own).find(|text| is_name(text)).map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_fault_is_in_the_reference() {
    let mut names = faults(".fault(");
    names.extend(faults(".add("));
    // The one fault that no walk of the file finds.
    names.extend(sources().iter().flat_map(|source| {
        source.split("name: \"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
    }));
    assert!(names.len() > 25, "only {} faults were found", names.len());
    assert_same("faults", &names, &tables(&page(), "fault"));
    assert_same("warnings", &faults(".warn("), &tables(&page(), "warning"));
}

#[test]
fn a_key_names_only_faults_that_exist() {
    let page = page();
    let known = tables(&page, "fault");
    for (key, row) in tables(&page, "key") {
        let faults = row.trim_end_matches('|').rsplit(" | ").next().unwrap_or_default();
        for name in faults.split('`').skip(1).step_by(2) {
            assert!(known.contains_key(name), "{key}: there is no fault `{name}`");
        }
    }
}

#[test]
fn every_problem_is_in_the_reference_with_its_status() {
    let rows = tables(&page(), "problem");
    let names = Problem::ALL.iter().map(|problem| problem.name().to_owned()).collect();
    assert_same("problems", &names, &rows);
    for problem in Problem::ALL {
        let wanted = format!("| `{}` | {} |", problem.name(), problem.status());
        let row = &rows[problem.name()];
        assert!(row.starts_with(&wanted), "{row}: the status is {}", problem.status());
    }
}

/// What the program answers to `--help` under these words.
fn help(words: &[&str]) -> String {
    let mut command = Command::new(support::program());
    let output = command.args(words).arg("--help").output().expect("the program");
    assert!(output.status.success(), "spillway {} --help", words.join(" "));
    String::from_utf8(output.stdout).expect("text")
}

/// Commands, `jobs list` among them, and the options of all of them.
fn command_line() -> (Names, Names) {
    let listed = |help: &str| -> Vec<String> {
        let list = help.split("Commands:\n").nth(1).unwrap_or_default();
        let list = list.split("\n\n").next().unwrap_or_default();
        let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = names.filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "help").map(str::to_owned).collect()
    };
    let (mut commands, mut options) = (Names::new(), Names::new());
    for command in listed(&help(&[])) {
        let mut pages = vec![help(&[&command])];
        for inner in listed(&pages[0]) {
            pages.push(help(&[&command, &inner]));
            commands.insert(format!("{command} {inner}"));
        }
        for word in pages.iter().flat_map(|page| page.split([' ', '\n', '[', ',', '='])) {
            if let Some(name) = word.strip_prefix("--").filter(|name| is_name(name)) {
                options.insert(name.to_owned());
            }
        }
        commands.insert(command);
    }
    assert!(commands.len() > 10 && options.len() > 20, "{commands:?} {options:?}");
    (commands, options)
}

/// What is wrong with a code span of a remedy: it must be an option, a command of ours or of cargo's, a table of
/// the rules file, or keys of it, perhaps with a value.
fn unknown(span: &str, keys: &Names, (commands, options): &(Names, Names)) -> Option<String> {
    if let Some(option) = span.strip_prefix("--") {
        return (!options.contains(option)).then(|| format!("no option --{option}"));
    }
    if let Some(rest) = span.strip_prefix("spillway ") {
        let words: Vec<&str> = rest.split(' ').take_while(|word| is_name(word)).collect();
        let (own, outer) = (words.join(" "), words.first().copied().unwrap_or_default());
        let is_there = commands.contains(&own) || words.len() == 1 && commands.contains(outer);
        return (!is_there).then(|| format!("no command `{span}`"));
    }
    if span == "cargo xtask deploy" {
        return None;
    }
    let key = span.split(" = ").next().unwrap_or_default();
    let key = key.trim_start_matches('[').trim_end_matches(']');
    let missing = key.split('.').find(|part| !keys.contains(*part))?;
    Some(format!("no key `{missing}` in `{span}`"))
}

#[test]
fn a_remedy_names_only_keys_options_and_commands_that_exist() {
    let (keys, command_line) = (keys(), command_line());
    let mut spans = 0;
    for problem in Problem::ALL {
        let remedy = problem.remedy();
        assert_eq!(remedy.matches('`').count() % 2, 0, "{problem}: {remedy}");
        for span in remedy.split('`').skip(1).step_by(2) {
            let unknown = unknown(span, &keys, &command_line);
            assert_eq!(unknown, None, "{problem}: {remedy}");
            spans += 1;
        }
        let bare = remedy.split('`').step_by(2).collect::<String>();
        assert!(!bare.contains("--") && !bare.contains("spillway "), "{problem}: {bare}");
    }
    assert!(spans > 40, "only {spans} code spans");
    // It can fail: what the rules file never had, and what was never a command.
    for invented in
        ["scatter", "offload.scatter", "--scatter", "spillway scatter", "spillway jobs scatter"]
    {
        assert!(unknown(invented, &keys, &command_line).is_some(), "{invented}");
    }
}

/// The options that faults of a rules file advise.
#[test]
fn a_fault_advises_only_options_that_exist() {
    let (_, options) = command_line();
    let mut found = 0;
    for source in sources() {
        for text in quoted(&source) {
            for word in text.split([' ', '`', ',', ';']) {
                let Some(name) = word.strip_prefix("--").filter(|name| is_name(name)) else {
                    continue;
                };
                assert!(options.contains(name), "no option --{name}: {text}");
                found += 1;
            }
        }
    }
    assert!(found > 5, "only {found} options");
}

/// The names of every enum that has `as_str`, by enum.
fn named_enums() -> BTreeMap<String, Names> {
    let mut enums = BTreeMap::new();
    for source in sources() {
        for block in source.split("\nimpl ").skip(1) {
            let block = block.split("\n}").next().unwrap_or_default();
            let Some(body) = block.split("fn as_str(self) -> &'static str {").nth(1) else {
                continue;
            };
            let name = block.split(' ').next().unwrap_or_default().to_owned();
            enums.insert(name, quoted(body).map(str::to_owned).collect());
        }
    }
    enums
}

#[test]
fn every_reason_is_in_the_reference() {
    let page = page();
    let found = named_enums();
    let known: Vec<&str> = ENUMS.iter().map(|(name, _)| *name).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), known, "an enum with names has no table here");
    for (name, head) in ENUMS {
        assert_same(name, &found[name], &tables(&page, head));
    }
}

/// Words that a key takes, written `("word", Type::Variant)` in the sources.
#[test]
fn every_choice_is_in_the_reference() {
    let page = page();
    let mut count = 0;
    for source in sources() {
        for rest in source.split("(\"").skip(1) {
            let Some((word, rest)) = rest.split_once("\", ") else { continue };
            let value = rest.split([')', ',']).next().unwrap_or_default();
            let variant = value.rsplit_once("::").map_or("", |(_, variant)| variant);
            if is_name(word) && variant.starts_with(|c: char| c.is_ascii_uppercase()) {
                count += 1;
                let written = [format!("`\"{word}\"`"), format!("| `{word}` |")];
                assert!(written.iter().any(|text| page.contains(text)), "no choice `{word}`");
            }
        }
    }
    assert!(count > 20, "only {count} choices were found");
}

#[test]
fn the_rules_files_of_frameworks_are_good_and_stand_in_the_guide_as_they_are() {
    let guide = read(&root().join("docs/frameworks.md"));
    let folder = root().join("examples/frameworks");
    let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let mut count = 0;
    for path in files {
        let text = read(&path);
        let checked = rules::file::check(&text);
        assert!(checked.is_ok(), "{}: {checked:?}", path.display());
        assert!(guide.contains(text.trim_end()), "{} is not in the guide", path.display());
        count += 1;
    }
    assert!(count >= 14, "only {count} files: a cache and jobs for seven frameworks");
}

/// Files below a folder by their names without the end, and all of their code.
fn folder(name: &str) -> (Names, String) {
    let (mut folders, mut names, mut all) = (vec![root().join(name)], Names::new(), String::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|why| panic!("{name}: {why}")) {
            let path = entry.expect("a folder that can be read").path();
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                all.push_str(&read(&path));
            }
        }
    }
    (names, all)
}

#[test]
fn the_code_map_names_files_that_exist() {
    let page = read(&root().join("ARCHITECTURE.md"));
    let map = page.split("## Code map").nth(1).expect("the section");
    let rows = map.split("\n## ").next().unwrap_or_default().lines();
    let (mut count, mut lies) = (0, Vec::new());
    for row in rows.filter(|row| row.starts_with("| `origin-sidecar/src/")) {
        let cells: Vec<&str> = row.split('|').collect();
        let (Some(name), Some(text)) = (quoted_by_ticks(cells[1]).next(), cells.get(2)) else {
            continue;
        };
        let (files, code) = folder(name);
        let is_of_module = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_module = |word: &&str| word.chars().all(is_of_module);
        for word in quoted_by_ticks(text).filter(is_module) {
            count += 1;
            // A word may be a setting or a command, which the code says.
            if !files.contains(word) && !code.contains(word) {
                lies.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(count > 50, "only {count} names were found");
    assert!(lies.is_empty(), "ARCHITECTURE.md names what is not there: {lies:#?}");
}

/// What stands in backticks.
fn quoted_by_ticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
