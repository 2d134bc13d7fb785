//! Steps that both the whole run and a single subject take.

use crate::setup::{self, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program under test: `SPILLWAY_BIN`, or what cargo builds without being told more.
pub(crate) fn program(root: &Path) -> PathBuf {
    let built = || setup::target(root).join("debug/spillway");
    std::env::var_os("SPILLWAY_BIN").map_or_else(built, PathBuf::from)
}

/// The tool that moves ranges: `SPILLWAY_RESHARD_BIN`, or what cargo builds without being told more.
pub(crate) fn reshard(root: &Path) -> PathBuf {
    let built = || setup::target(root).join("debug/reshard");
    std::env::var_os("SPILLWAY_RESHARD_BIN").map_or_else(built, PathBuf::from)
}

/// Optimised, as a schedule takes 14 ms otherwise and not 1 ms; without SQS and S3, whose libraries
/// nothing of it needs.
pub(crate) fn simulation(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root).args([
        "test",
        "--profile=simulation",
        "--package=origin-sidecar",
        "--no-default-features",
        "--lib",
        "simulation::",
    ]);
    command.env("SPILLWAY_SIM_SCHEDULES", "100000");
    command
}

/// The specs of a folder; with a word only the file of that name, or those tests whose names match it.
pub(crate) fn specs(root: &Path, folder: &str, word: Option<&str>) -> Result<Command> {
    let mut specs: Vec<_> = std::fs::read_dir(root.join(folder))
        .map_err(|error| format!("{folder}: {error}"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".spec.mjs"))
        .collect();
    specs.sort();
    let own = word.map(|word| root.join(folder).join(format!("{word}.spec.mjs")));
    let own = own.filter(|own| specs.contains(own));
    let pattern = word.filter(|_| own.is_none());
    let specs = own.map_or(specs, |own| vec![own]);
    let mut command = Command::new("node");
    // One at a time: each starts a workerd, and two cores are all there may be.
    command
        .args(["--test", "--test-reporter=tap", "--test-concurrency=1"])
        .args(pattern.map(|word| format!("--test-name-pattern={word}")))
        .args(specs)
        .env("PATH", setup::path_with_node(root)?)
        .env("SPILLWAY_BIN", program(root))
        .current_dir(root);
    Ok(command)
}
