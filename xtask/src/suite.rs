//! `cargo xtask test`: everything CI runs, and one line at the end; or one subject of it.

use crate::setup::{self, Result, say};
use crate::subject;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Tests counted over all runners.
#[derive(Default)]
pub(crate) struct Count {
    passed: u64,
    failed: u64,
    /// Steps that could not run or ended badly.
    broken: Vec<String>,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => everything(),
        [name] if !name.starts_with('-') => subject::run(name, None),
        [name, word] => subject::run(name, Some(word)),
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
    container(&mut count);
    let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
    tests
        .env("SPILLWAY_BIN", program(&root))
        .env("SPILLWAY_MOTO", &moto)
        .env("SPILLWAY_IMAGE", crate::image::file());
    count.run("Rust tests", &mut tests, rust_result);
    count.run("100,000 simulated schedules of jobs", &mut simulation(&root), rust_result);
    // By cargo: this very program may have been built anew, and so replaced, by the tests.
    // A few seconds each: what the corpus in `target` and the seeds reach, and a little more.
    let mut fuzz = cargo(&["xtask", "fuzz", "--seconds", "5"]);
    count.run("fuzz targets", &mut fuzz, fuzz_result);
    if let Err(error) = crate::edge::run(&[]) {
        count.broken(&error);
    }
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

/// The program under test: `SPILLWAY_BIN`, or what cargo builds without being told more.
pub(crate) fn program(root: &Path) -> PathBuf {
    let built = || setup::target(root).join("debug/spillway");
    std::env::var_os("SPILLWAY_BIN").map_or_else(built, PathBuf::from)
}

/// The feature `otlp`, which is off by default.
fn otlp(root: &Path, cargo: impl Fn(&[&str]) -> Command) -> Command {
    let package = ["--package=origin-sidecar", "--features=otlp", "--test=features", "otlp::"];
    let mut command = cargo(&["test"]);
    command.args(package).env("SPILLWAY_BIN", program(root));
    command
}

/// The image, and what its tests and those of Kubernetes have on the other side.
fn container(count: &mut Count) {
    for (name, package, variable) in [
        ("skopeo", "skopeo", "SPILLWAY_SKOPEO"),
        ("prometheus", "prometheus", "SPILLWAY_PROMETHEUS"),
        ("ip", "iproute2", "SPILLWAY_IP"),
        ("curl", "curl", "SPILLWAY_CURL"),
    ] {
        if let Err(error) = setup::program(&[name], package, variable) {
            count.broken(&error);
        }
    }
    if let Err(error) = crate::image::run(&["--quick".to_owned()]) {
        count.broken(&error);
    }
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

/// The specs of a folder; with a word only those tests whose names match it.
pub(crate) fn specs(root: &Path, folder: &str, word: Option<&str>) -> Result<Command> {
    let mut specs: Vec<_> = std::fs::read_dir(root.join(folder))
        .map_err(|error| format!("{folder}: {error}"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".spec.mjs"))
        .collect();
    specs.sort();
    let mut command = Command::new("node");
    // One at a time: each starts a workerd, and two cores are all there may be.
    command
        .args(["--test", "--test-reporter=tap", "--test-concurrency=1"])
        .args(word.map(|word| format!("--test-name-pattern={word}")))
        .args(specs)
        .env("PATH", setup::path_with_node(root)?)
        .env("SPILLWAY_BIN", program(root))
        .current_dir(root);
    Ok(command)
}

impl Count {
    pub(crate) fn broken(&mut self, why: &str) {
        say(&format!("FAILED: {why}"));
        self.broken.push(why.to_owned());
    }

    /// A step that holds or not.
    pub(crate) fn check(&mut self, name: &str, command: &mut Command) {
        if let Err(error) = setup::run(name, command) {
            self.broken(&error);
        }
    }

    /// A test runner, whose results are read from what it prints.
    pub(crate) fn run(
        &mut self,
        name: &str,
        command: &mut Command,
        read: fn(&str) -> Option<(u64, u64)>,
    ) {
        say(name);
        let (before, mut last) = (self.passed + self.failed, None);
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return self.broken(&format!("{name}: {command:?}: {error}")),
        };
        let errors =
            child.stderr.take().map(|errors| std::thread::spawn(move || show(errors, read)));
        if let Some(output) = child.stdout.take() {
            last = Some(show(output, read));
        }
        let from_errors = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
        let (passed, failed) = last.unwrap_or_default();
        self.passed += passed + from_errors.0;
        self.failed += failed + from_errors.1;
        let ended = child.wait().is_ok_and(|status| status.success());
        if !ended {
            self.broken(&format!("{name}: {command:?} failed"));
        } else if self.passed + self.failed == before {
            self.broken(&format!("{name} ran no test"));
        }
    }

    /// The checks of one real application.
    pub(crate) fn driver(&mut self, name: &str, command: Result<Command>) {
        match command {
            Ok(mut command) => self.run(name, &mut command, crate::apps::result),
            Err(error) => self.broken(&error),
        }
    }

    pub(crate) fn finish(self) -> Result<()> {
        for why in &self.broken {
            println!("broken: {why}");
        }
        // A broken step without a failed test of its own still counts as one failure.
        let failed = if self.failed == 0 { self.broken.len() as u64 } else { self.failed };
        println!("{} passed, {failed} failed", self.passed);
        if failed == 0 { Ok(()) } else { Err("the tests failed".to_owned()) }
    }
}

/// Shows the output as it comes and adds up its results.
fn show(output: impl std::io::Read, read: fn(&str) -> Option<(u64, u64)>) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
        println!("{line}");
        if let Some((passed, failed)) = read(&line) {
            sum = (sum.0 + passed, sum.1 + failed);
        }
    }
    sum
}

/// The number before a word: `21 passed`.
fn before(line: &str, word: &str) -> Option<u64> {
    let words: Vec<&str> =
        line.split([' ', ';', ',', '(', ')', '=']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|own| *own == word)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

/// `test result: ok. 21 passed; 0 failed; …`
pub(crate) fn rust_result(line: &str) -> Option<(u64, u64)> {
    if !line.starts_with("test result:") {
        return None;
    }
    Some((before(line, "passed")?, before(line, "failed")?))
}

/// `# pass 12` and `# fail 0`
pub(crate) fn node_result(line: &str) -> Option<(u64, u64)> {
    let number = |name: &str| line.strip_prefix(name)?.trim().parse().ok();
    match (number("# pass "), number("# fail ")) {
        (Some(passed), _) => Some((passed, 0)),
        (_, Some(failed)) => Some((0, failed)),
        _ => None,
    }
}

/// `fuzz path: held` and `fuzz path: FAILED: …`
fn fuzz_result(line: &str) -> Option<(u64, u64)> {
    let (_, result) = line.strip_prefix("fuzz ")?.split_once(": ")?;
    Some(if result == "held" { (1, 0) } else { (0, 1) })
}

/// `Ran 30 tests in 3.6s` and `FAILED (failures=1, errors=2)`
fn python_result(line: &str) -> Option<(u64, u64)> {
    if let Some(rest) = line.strip_prefix("Ran ") {
        return Some((rest.split(' ').next()?.parse().ok()?, 0));
    }
    line.starts_with("FAILED (").then_some((0, 1))
}
