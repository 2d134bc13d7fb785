//! `cargo xtask bench offload|cache`: builds everything as it is released, installs the peers, compares.

use crate::setup::{self, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The peers, and what serves the web half of both; one version, so that figures can be compared.
const PEERS: [&str; 3] = ["boto3==1.44.5", "celery[sqs]==5.7.0", "gunicorn==27.0.1"];

/// What stands beside the cache: program, Debian package, and the variable that names another one.
const CACHES: [(&str, &str, &str); 4] = [
    ("nginx", "nginx-light", "SPILLWAY_NGINX"),
    ("haproxy", "haproxy", "SPILLWAY_HAPROXY"),
    ("varnishd", "varnish", "SPILLWAY_VARNISHD"),
    ("wrk", "wrk", "SPILLWAY_WRK"),
];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [what] if what == "offload" => offload(),
        [what] if what == "cache" => cache(),
        _ => Err("usage: cargo xtask bench offload|cache".to_owned()),
    }
}

fn offload() -> Result<()> {
    let root = setup::root();
    let python = setup::python(&root.join(".venv-bench"), &PEERS)?;
    let built = release(&root, &["origin-sidecar", "tests", "benches"])?;
    setup::run("compare", &mut compare(&root, &built, &python))
}

/// Hit ratios first, which need no peer's program, then what a hit costs.
fn cache() -> Result<()> {
    let root = setup::root();
    let built = release(&root, &["origin-sidecar", "benches"])?;
    setup::run("hit ratios", &mut Command::new(built.join("bench-cache")))?;
    let mut costs = Command::new("python3");
    for (program, package, variable) in CACHES {
        let path = setup::program(&[program], package, variable)?;
        costs.env(format!("BENCH_{}", program.to_uppercase()), path);
    }
    costs
        .arg("benches/cache/peers.py")
        .env("SPILLWAY_BIN", built.join("spillway"))
        .env("SPILLWAY_LOG", "warn")
        .current_dir(&root);
    setup::run("what a hit costs", &mut costs)
}

/// The folder of the programs.
fn release(root: &Path, packages: &[&str]) -> Result<PathBuf> {
    for package in packages {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--bins", "--package", package]).current_dir(root);
        setup::run(&format!("build {package} as it is released"), &mut cargo)?;
    }
    Ok(setup::target(root).join("release"))
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
