//! Which names change with the contents of their files, and the file that says so.

use super::files::told;
use super::sources::entries;
use super::tools::Tool;
use crate::setup::{Result, say};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Contents by URL path.
pub(super) type BundleFiles = BTreeMap<String, Vec<u8>>;

/// The names of one folder.
pub(super) struct Decided {
    pub(super) hashed: BTreeSet<String>,
    pub(super) plain: BTreeSet<String>,
}

/// All files below a folder; `url` ends with a slash.
pub(super) fn listing(folder: &Path, url: &str) -> Result<BundleFiles> {
    let mut files = BundleFiles::new();
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{url}{}", encoded(&name));
        if path.is_dir() {
            files.append(&mut listing(&path, &format!("{name}/"))?);
        } else {
            files.insert(name, fs::read(&path).map_err(|error| told(&path, &error))?);
        }
    }
    Ok(files)
}

/// A file's name as it stands in a URL's path: only what RFC 3986 allows there is left as it is.
fn encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

/// Decides by two builds, the second of changed sources.
pub(super) fn decide(tool: &Tool, first: &BundleFiles, second: &BundleFiles) -> Result<Decided> {
    let mapped = mapped(tool, first)?;
    let mut decided = Decided { hashed: BTreeSet::new(), plain: BTreeSet::new() };
    let mut unchanged = Vec::new();
    for (name, contents) in first {
        let again = second.get(name);
        let is_rewritten = again.is_some_and(|again| again != contents);
        let is_plain = match &mapped {
            Some(hashed) => !hashed.contains(name),
            None => is_rewritten || tool.plain.iter().any(|pattern| matches(pattern, name)),
        };
        if is_rewritten && !is_plain {
            return Err(format!("{name} was rewritten, but the tool's manifest calls it hashed"));
        }
        if again.is_some() && !is_plain && mapped.is_none() {
            unchanged.push(name.as_str());
        }
        let list = if is_plain { &mut decided.plain } else { &mut decided.hashed };
        list.insert(name.clone());
    }
    if !unchanged.is_empty() {
        say(&format!(
            "the same in both builds, and taken as hashed because `plain` of \
             xtask/src/bundles/tools.rs has no such name: {}",
            unchanged.join(" ")
        ));
    }
    Ok(decided)
}

/// The hashed names that the tool's own manifest has, where it writes one.
fn mapped(tool: &Tool, files: &BundleFiles) -> Result<Option<BTreeSet<String>>> {
    let Some(manifest) = tool.manifest else { return Ok(None) };
    let name = format!("{}{manifest}", tool.folder);
    let bytes = files.get(&name).ok_or_else(|| format!("the build wrote no {name}"))?;
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| format!("{name}: {error}"))?;
    let paths = value["paths"].as_object().ok_or_else(|| format!("{name} has no `paths`"))?;
    let hashed = paths.values().filter_map(|path| path.as_str());
    let encoded = |path: &str| path.split('/').map(encoded).collect::<Vec<_>>().join("/");
    Ok(Some(hashed.map(|path| format!("{}{}", tool.folder, encoded(path))).collect()))
}

/// Whether a name is the pattern, in which one `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((start, end)) => name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
    }
}

/// The file for the tests.
pub(super) fn toml(tool: &Tool, version: &str, decided: &Decided) -> String {
    format!(
        "# Written by `cargo xtask bundles {name}`.
tool = \"{name}\"
version = \"{version}\"
command = \"{command}\"
# The folder as a browser asks for it, in which the tool puts what it hashes.
folder = \"{folder}\"
# Files of that folder whose names change with their contents, as URL paths, sorted.
hashed = {hashed}
# Files of that folder that keep their names, and so are not hashed, sorted.
plain = {plain}
",
        name = tool.name,
        command = tool.command.join(" "),
        folder = tool.folder,
        hashed = array(&decided.hashed),
        plain = array(&decided.plain),
    )
}

/// A list of TOML. URL paths have nothing that would have to be escaped.
fn array(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "[]".to_owned();
    }
    let mut text = "[\n".to_owned();
    for name in names {
        // Writing to a string cannot fail.
        _ = writeln!(text, "    \"{name}\",");
    }
    text + "]"
}

pub(super) fn json(path: &Path) -> Result<serde_json::Value> {
    let bytes = fs::read(path).map_err(|error| told(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}
