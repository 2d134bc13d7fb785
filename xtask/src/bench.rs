//! `cargo xtask bench offload|cache`: builds everything as it is released, installs the peers, compares.

use crate::setup::{self, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The peers, and what serves the web half of both; one version, so that figures can be compared.
const PEERS: [&str; 3] = ["boto3==1.44.5", "celery[sqs]==5.7.0", "gunicorn==27.0.1"];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments != ["offload"] {
        return Err("usage: cargo xtask bench offload".to_owned());
    }
    let root = setup::root();
    let python = setup::python(&root.join(".venv-bench"), &PEERS)?;
    for package in ["origin-sidecar", "tests", "benches"] {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--bins", "--package", package]).current_dir(&root);
        setup::run(&format!("build {package} as it is released"), &mut cargo)?;
    }
    let built = setup::target(&root).join("release");
    setup::run("compare", &mut compare(&root, &built, &python))
}

fn compare(root: &Path, built: &Path, python: &Path) -> Command {
    let disk: PathBuf = built.to_owned();
    let mut command = Command::new(built.join("bench-offload"));
    command
        .arg(root.join("docs/img"))
        .env("SPILLWAY_BIN", built.join("spillway"))
        .env("BENCH_CLOUD", built.join("cloud"))
        .env("BENCH_PYTHON", python)
        // Not /tmp, which may be memory: durable writes are what is compared.
        .env("BENCH_DISK", disk)
        .env("SPILLWAY_LOG", "info")
        .current_dir(root);
    command
}
