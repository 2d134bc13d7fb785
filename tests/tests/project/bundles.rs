//! Names that build tools wrote (`cargo xtask bundles`), as the rules see them: `versioned = "all"`, or
//! `true` where that is enough, knows every hashed one and leaves out those that keep their names.

use rules::document::Versioned;
use rules::versioned::is_versioned;
use serde::Deserialize;
use std::fs;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    tool: String,
    version: String,
    command: String,
    folder: String,
    hashed: Vec<String>,
    plain: Vec<String>,
}

fn fixtures() -> Vec<Names> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/names");
    let files = fs::read_dir(&folder).expect("a folder").map(|file| file.expect("a file").path());
    let mut read: Vec<Names> = files
        .map(|path| {
            let text = fs::read_to_string(&path).expect("text");
            toml::from_str(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
        })
        .collect();
    read.sort_by(|left, right| left.tool.cmp(&right.tool));
    read
}

/// Their hashes are of sure form, and files with names of their own lie beside them.
const BY_NAME: [&str; 3] = ["django", "propshaft", "rails-sprockets"];

#[test]
fn every_name_that_a_tool_hashed_is_one() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 10, "only {} tools", fixtures.len());
    let mut unknown = Vec::new();
    for Names { tool, version, command, folder, hashed, plain } in &fixtures {
        assert!(!hashed.is_empty() && !version.is_empty() && !command.is_empty(), "{tool}");
        let of_folder = |path: &String| path.starts_with(folder.as_str());
        assert!(hashed.iter().chain(plain).all(of_folder), "{tool}");
        let is_sure = BY_NAME.contains(&tool.as_str());
        let rule = if is_sure { Versioned::ByName } else { Versioned::All };
        for path in hashed.iter().filter(|path| !is_versioned(path, rule)) {
            unknown.push(format!("{tool}: {path} is hashed"));
        }
        for path in plain.iter().filter(|path| is_versioned(path, rule)) {
            unknown.push(format!("{tool}: {path} is not hashed"));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}
