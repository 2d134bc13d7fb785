//! `cargo xtask test`: everything CI runs, and one line at the end; or one subject of it.

use crate::count::{Count, fuzz_result, node_result, python_result, rust_result};
use crate::setup::{self, Result, say};
use crate::steps::{program, reshard, simulation, specs};
use crate::subject::{self, Extent};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => everything(),
        [flag, major] if flag == "--postgres" => crate::postgres::run(major, None),
        [flag, major, word] if flag == "--postgres" => crate::postgres::run(major, Some(word)),
        [flag, name] if flag == "--full" => subject::run(name, None, Extent::Full),
        [name] if !name.starts_with('-') => subject::run(name, None, Extent::Quick),
        [name, word] => subject::run(name, Some(word), Extent::Quick),
        _ => Err(subject::usage()),
    }
}

fn everything() -> Result<()> {
    let started = Instant::now();
    let root = setup::root();
    setup::npm(&root)?;
    setup::npm(&root.join("examples/market"))?;
    setup::npm(&root.join("tests/conformance"))?;
    let moto = setup::emulator(&root)?;
    setup::postgres()?;
    let mut count = Count::default();
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(&root);
        command
    };
    count.check("fmt", &mut cargo(&["fmt", "--all", "--check"]));
    let clippy = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"];
    count.check("clippy", &mut cargo(&clippy));
    crate::deny::check(&root, &mut count);
    // Before the program that all others run on: it builds another in its place.
    count.run("spans for a collector", &mut otlp(&root, cargo), rust_result);
    count.check("the program under test", &mut cargo(&["build", "--package", "origin-sidecar"]));
    count.check("reshard", &mut cargo(&["build", "--package", "reshard"]));
    container(&mut count);
    if let Err(error) = crate::edge::run(&[]) {
        count.broken(&error);
    }
    let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
    tests
        .env("SPILLWAY_BIN", program(&root))
        .env("SPILLWAY_RESHARD_BIN", reshard(&root))
        .env("SPILLWAY_MOTO", &moto)
        .env("SPILLWAY_IMAGE", crate::image::file());
    count.run("Rust tests", &mut tests, rust_result);
    let mut moves = cargo(&MOVES_BESIDE_PIPES);
    moves.env("SPILLWAY_BIN", program(&root)).env("SPILLWAY_RESHARD_BIN", reshard(&root));
    count.check("ranges that move, beside pipes of psql", &mut moves);
    count.run("100,000 simulated schedules of jobs", &mut simulation(&root), rust_result);
    // By cargo: this very program may have been built anew, and so replaced, by the tests.
    // A few seconds each: what the corpus in `target` and the seeds reach, and a little more.
    let mut fuzz = cargo(&["xtask", "fuzz", "--seconds", "5"]);
    count.run("fuzz targets", &mut fuzz, fuzz_result);
    count.run("edge specs in workerd", &mut specs(&root, "tests/edge", None)?, node_result);
    for tier in ["sidecar", "edge"] {
        let name = format!("the public suite of HTTP caches: {tier}");
        count.run(&name, &mut conformance(&root, tier)?, node_result);
    }
    browser_specs(&root, &mut count);
    if let Err(error) = crate::dashboard::run(&["--check".to_owned()]) {
        count.broken(&error);
    }
    alerts(&root, &mut count);
    crate::apps::short(&root, &mut count);
    let mut market = Command::new("python3");
    market.args(["-m", "unittest"]).current_dir(root.join("examples/market"));
    count.run("the example application", &mut market, python_result);
    say(&format!("took {} s", started.elapsed().as_secs()));
    count.finish()
}

/// Fails where a ratio between `reshard` and what a person does by hand is far off. Those of the servers do not depend
/// on how the tool was compiled.
const MOVES_BESIDE_PIPES: [&str; 6] =
    ["run", "--quiet", "--package=benches", "--bin=bench-reshard", "--", "--short"];

/// The feature `otlp`, which is off by default.
fn otlp(root: &Path, cargo: impl Fn(&[&str]) -> Command) -> Command {
    let package = ["--package=origin-sidecar", "--features=otlp", "--test=features", "otlp::"];
    let mut command = cargo(&["test"]);
    command.args(package).env("SPILLWAY_BIN", program(root));
    command
}

/// The image, and programs of the system that tests start: its peers, those of Kubernetes, and the compiler of
/// the helper in Java.
fn container(count: &mut Count) {
    for (name, package, variable) in [
        ("skopeo", "skopeo", "SPILLWAY_SKOPEO"),
        ("prometheus", "prometheus", "SPILLWAY_PROMETHEUS"),
        ("ip", "iproute2", "SPILLWAY_IP"),
        ("curl", "curl", "SPILLWAY_CURL"),
        ("faketime", "faketime", "SPILLWAY_FAKETIME"),
        ("javac", "default-jdk-headless", "SPILLWAY_JAVAC"),
    ] {
        if let Err(error) = setup::program(&[name], package, variable) {
            count.broken(&error);
        }
    }
    if let Err(error) = crate::image::run(&["--quick".to_owned()]) {
        count.broken(&error);
    }
}

/// The job page and the documented snippet in a real browser.
fn browser_specs(root: &Path, count: &mut Count) {
    let command = setup::chromium().and_then(|chromium| {
        let mut command = specs(root, "tests/browser", None)?;
        command.env("SPILLWAY_CHROMIUM", chromium);
        Ok(command)
    });
    match command {
        Ok(mut command) => count.run("browser specs in Chromium", &mut command, node_result),
        Err(error) => count.broken(&error),
    }
}

/// The alerts against made-up series.
fn alerts(root: &Path, count: &mut Count) {
    match setup::program(&["promtool"], "prometheus", "SPILLWAY_PROMTOOL") {
        Ok(promtool) => {
            let mut command = Command::new(promtool);
            let tests = ["k8s/alerts/jobs.test.yaml", "k8s/alerts/requests.test.yaml"];
            command.args(["test", "rules"]).args(tests).current_dir(root);
            count.check("alerts in promtool", &mut command);
        }
        Err(error) => count.broken(&error),
    }
}

/// No test that passed before may fail: tests/conformance/baseline-*.json.
fn conformance(root: &Path, tier: &str) -> Result<Command> {
    let mut command = Command::new("node");
    command
        .args(["tests/conformance/run.mjs", tier])
        .env("PATH", setup::path_with_node(root)?)
        .env("SPILLWAY_BIN", program(root))
        .current_dir(root);
    Ok(command)
}
