//! `cargo xtask bundles`: the names that web build tools give to their files, which tests read.
//!
//! Each application of `tests/bundles/apps` is built twice, the second time with something changed
//! in all that it is made of. What is rewritten under the same name has a plain name; the others
//! are in `hashed`. The result is `tests/bundles/names/<tool>.toml`.

use crate::setup::{self, Result};
use files::told;
use names::BundleFiles;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tools::{PROPSHAFT, TOOLS, Tool, ToolSource};

mod files;
mod names;
mod sources;
mod tools;

/// Nobody is told that a test was built, nobody is asked anything, and colours are left out.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("ASTRO_TELEMETRY_DISABLED", "1"),
    ("CI", "1"),
    ("NEXT_TELEMETRY_DISABLED", "1"),
    ("NG_CLI_ANALYTICS", "false"),
    ("NO_COLOR", "1"),
    ("NUXT_TELEMETRY_DISABLED", "1"),
];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let chosen: Vec<&Tool> = match names[..] {
        [] => TOOLS.iter().collect(),
        ["propshaft"] => return Err(PROPSHAFT.to_owned()),
        [name] => TOOLS.iter().filter(|tool| tool.name == name).collect(),
        _ => Vec::new(),
    };
    if chosen.is_empty() {
        let all: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
        return Err(format!("usage: cargo xtask bundles [{} | propshaft]", all.join(" | ")));
    }
    let root = setup::root();
    // This repository's own Node (22): most of the tools refuse older ones.
    setup::npm(&root)?;
    for tool in chosen {
        remake(&root, tool).map_err(|why| format!("{}: {why}", tool.name))?;
    }
    if names.is_empty() {
        println!("{PROPSHAFT}");
    }
    Ok(())
}

/// Builds the tool's application twice and writes its names.
fn remake(root: &Path, tool: &Tool) -> Result<()> {
    let own = root.join("tests/bundles/apps").join(tool.app);
    let base = setup::target(root).join("bundles").join(tool.name);
    // The build runs in a folder of its own, where a path from here names nothing.
    let base = std::path::absolute(&base).map_err(|error| told(&base, &error))?;
    let work = base.join("app");
    sources::fresh(&own, &work)?;
    let (program, version) = installed(tool, &base, &work)?;
    let first = build(root, tool, &program, &work)?;
    sources::fresh(&own, &work)?;
    sources::edit(&work)?;
    let second = build(root, tool, &program, &work)?;
    let decided = names::decide(tool, &first, &second)?;
    let to = root.join("tests/bundles/names").join(format!("{}.toml", tool.name));
    std::fs::write(&to, names::toml(tool, &version, &decided))
        .map_err(|error| told(&to, &error))?;
    let (hashed, plain) = (decided.hashed.len(), decided.plain.len());
    println!("{} {version}: {hashed} hashed, {plain} plain", tool.name);
    Ok(())
}

/// What the tool is started with, once it is there, and its version.
fn installed(tool: &Tool, base: &Path, work: &Path) -> Result<(PathBuf, String)> {
    match tool.install {
        ToolSource::Node(package) => {
            setup::npm(work)?;
            let program = work.join("node_modules/.bin").join(tool.command[0]);
            let manifest = work.join("node_modules").join(package).join("package.json");
            let version = names::json(&manifest)?["version"].as_str().map(str::to_owned);
            let version = version.ok_or_else(|| format!("{}: no version", manifest.display()))?;
            Ok((program, version))
        }
        ToolSource::Python(package) => {
            let list = work.join("requirements.txt");
            let text = std::fs::read_to_string(&list).map_err(|error| told(&list, &error))?;
            let packages: Vec<&str> = text.lines().collect();
            let version =
                packages.iter().find_map(|line| line.strip_prefix(package)?.strip_prefix("=="));
            let version = version.ok_or_else(|| format!("{}: no {package}==", list.display()))?;
            let programs = setup::python(&base.join("python"), &packages)?;
            Ok((programs.join("python"), version.to_owned()))
        }
        ToolSource::Ruby(library, constant) => {
            let ruby = setup::program(&["ruby"], "ruby ruby-sprockets", "SPILLWAY_RUBY")?;
            let script = format!("require '{library}'; print {constant}");
            let version = output(Command::new(&ruby).args(["-e", &script]))
                .map_err(|why| format!("{why}\nOn Debian: apt install ruby-{library}"))?;
            Ok((ruby, version))
        }
    }
}

/// One build, and the files that it left for browsers.
fn build(root: &Path, tool: &Tool, program: &Path, work: &Path) -> Result<BundleFiles> {
    setup::say(&format!("{} in {}", tool.command.join(" "), work.display()));
    let mut command = Command::new(program);
    command
        .args(&tool.command[1..])
        .current_dir(work)
        .envs(ENVIRONMENT)
        .env("PATH", setup::path_with_node(root)?);
    output(&mut command)?;
    let files = names::listing(&work.join(tool.output), tool.folder)?;
    if files.is_empty() {
        return Err(format!("{} is empty after the build", work.join(tool.output).display()));
    }
    Ok(files)
}

/// Runs a command to its end; what it said, which is shown only where it failed.
fn output(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(said);
    }
    let complained = String::from_utf8_lossy(&done.stderr);
    Err(format!("{said}{complained}\n{command:?} ended with {}", done.status))
}
