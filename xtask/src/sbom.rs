//! What the programs of the image are made of, as a CycloneDX bill of materials: the crates that cargo links, with
//! the checksums of Cargo.lock. Procedural macros and build scripts leave nothing in the program.

use crate::setup::Result;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

const PACKAGE: &str = "origin-sidecar";
/// The other program of the image.
const RESHARD: &str = "reshard";

/// The bill of materials for a target, as JSON.
pub(crate) fn of(root: &Path, target: &str) -> Result<String> {
    let checksums = checksums(&root.join("Cargo.lock"))?;
    let mut components = Vec::new();
    for line in linked(root, target)? {
        let (package, license) = line.split_once('|').unwrap_or((&line, ""));
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let version = version.trim_start_matches('v');
        components.push(component(name, version, license, &checksums));
    }
    let (own, libraries): (Vec<Value>, Vec<Value>) =
        components.into_iter().partition(|component| component["name"] == PACKAGE);
    let mut own = own.into_iter().next().ok_or(format!("{PACKAGE} is not in cargo's tree"))?;
    own["type"] = "application".into();
    own["name"] = "spillway".into();
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": own },
        "components": libraries,
    });
    Ok(format!("{bill:#}\n"))
}

/// `name vVERSION (…)|LICENCE` of every crate that is linked.
fn linked(root: &Path, target: &str) -> Result<BTreeSet<String>> {
    let output = Command::new("cargo")
        .args(["tree", "--locked", "--package", PACKAGE, "--package", RESHARD, "--target", target])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}|{l}"])
        .args(["--no-dedupe"])
        .current_dir(root)
        .output()
        .map_err(|why| format!("cargo tree: {why}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn component(
    name: &str,
    version: &str,
    license: &str,
    checksums: &BTreeMap<(String, String), String>,
) -> Value {
    let purl = format!("pkg:cargo/{name}@{version}");
    let mut component = json!({
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        // Old manifests write `MIT/Apache-2.0`.
        "licenses": [{ "expression": license.replace('/', " OR ") }],
    });
    if let Some(sum) = checksums.get(&(name.to_owned(), version.to_owned())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    component
}

/// By name and version; the workspace's own crates have none.
fn checksums(lock: &Path) -> Result<BTreeMap<(String, String), String>> {
    let text = fs::read_to_string(lock).map_err(|why| format!("{}: {why}", lock.display()))?;
    let mut sums = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|quoted| quoted.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(sum)) =
            (value("name"), value("version"), value("checksum"))
        {
            sums.insert((name, version), sum);
        }
    }
    Ok(sums)
}
