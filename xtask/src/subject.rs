//! `cargo xtask test SUBJECT [WORD]`: the tests of one subject, or those whose names contain the word.

use crate::count::{Count, node_result, rust_result};
use crate::setup::{self, Result, say};
use crate::steps;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Tests at once that wait for something most of the time: leases, visibility, processes that start. In
/// `cargo xtask test` they run as many at once as there are processors.
const WAITING: &str = "--test-threads=8";
/// Tests at once that measure how long something takes, or send a great deal.
const BUSY: &str = "--test-threads=2";
/// A hundredth of what `cargo xtask test` simulates.
const SCHEDULES: &str = "1000";
/// A tenth of the kills of `cargo xtask test`, and so of its jobs.
const KILLS: &str = "20";

/// Moves of a range under load, half of them with a million rows, and kills of `reshard` at any time, of its full
/// extent.
const RESHARD_MOVES: &str = "10";
const RESHARD_KILLS: &str = "100";

/// How much of a subject is tested.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// In under a minute, mostly.
    Quick,
    /// Every step at which something may go wrong, and every kill.
    Full,
}

struct Subject {
    name: &'static str,
    what: &'static str,
    runner: Runner,
}

/// What runs a subject's tests.
enum Runner {
    /// `cargo test` with these arguments; no program is needed.
    Cargo(&'static [&'static str]),
    /// A binary of `tests/tests`: these modules, or all but those.
    System {
        binary: &'static str,
        only: &'static [&'static str],
        but: &'static [&'static str],
        threads: &'static str,
    },
    /// The contract of queues and stores of results, with emulators on the other side.
    Stores,
    /// Specs of Node.
    Edge,
    Browser,
    Simulation,
    Crates,
}

use Runner::{Browser, Cargo, Crates, Edge, Simulation, Stores, System};

/// Modules of `tests/tests/jobs` that are subjects of their own.
const JOBS_ELSEWHERE: [&str; 9] = [
    "consumers::",
    "interop::",
    "kills::",
    "outages::",
    "producers::",
    "refusals::",
    "slow::",
    "sqs::",
    "uploads::",
];

/// Each takes less than a minute on two processors when everything is built; all of the edge takes longer,
/// as each of its files starts a workerd.
const SUBJECTS: [Subject; 22] = [
    Subject {
        name: "rules",
        what: "what the rules file means and what is decided by it",
        runner: Cargo(&["--package=rules"]),
    },
    Subject { name: "http1", what: "HTTP/1.1 on the wire", runner: Cargo(&["--package=http1"]) },
    Subject {
        name: "inject",
        what: "the function that puts the sidecar into pods",
        runner: Cargo(&["--package=inject"]),
    },
    Subject {
        name: "sidecar",
        what: "modules of the sidecar, of its memory cache and its network by themselves",
        runner: Cargo(&[
            "--package=origin-sidecar",
            "--package=memory-cache",
            "--package=net",
            "--lib",
            "--",
            "--skip=simulation::",
        ]),
    },
    Subject {
        name: "stores",
        what: "one contract for every queue and store of results",
        runner: Stores,
    },
    Subject {
        name: "docs",
        what: "pages against sources, the layout of the sources, the corpora of rules",
        runner: Cargo(&["--package=tests", "--test=project"]),
    },
    Subject {
        name: "cache",
        what: "what is stored and for whom it is answered",
        runner: System { binary: "proxy", only: &["cache::"], but: &[], threads: BUSY },
    },
    Subject {
        name: "proxy",
        what: "what passes through: protocols, connections, shards, trust",
        runner: System { binary: "proxy", only: &[], but: &["cache::"], threads: BUSY },
    },
    Subject {
        name: "shards",
        what: "live shard maps: a search of all that can happen, and moves under load in which something goes wrong",
        runner: System { binary: "shards", only: &[], but: &[], threads: BUSY },
    },
    Subject {
        name: "reshard",
        what: "ranges that move between PostgreSQL databases, on real servers",
        runner: System { binary: "reshard", only: &[], but: &[], threads: BUSY },
    },
    Subject {
        name: "jobs",
        what: "slow requests that become jobs",
        runner: System { binary: "jobs", only: &[], but: &JOBS_ELSEWHERE, threads: WAITING },
    },
    Subject {
        name: "sqs",
        what: "jobs over SQS and S3, and other people's consumers and producers",
        runner: System {
            binary: "jobs",
            only: &["consumers::", "interop::", "producers::", "sqs::"],
            but: &[],
            threads: WAITING,
        },
    },
    Subject {
        name: "slow",
        what: "slow requests that are learned, and large bodies on their way into a job",
        runner: System { binary: "jobs", only: &["slow::", "uploads::"], but: &[], threads: BUSY },
    },
    Subject {
        name: "outages",
        what: "queue and store that fail, or are not there",
        runner: System {
            binary: "jobs",
            only: &["outages::", "refusals::"],
            but: &[],
            threads: WAITING,
        },
    },
    Subject {
        name: "kills",
        what: "kill -9 under load, a tenth of what CI does",
        runner: System { binary: "jobs", only: &["kills::"], but: &[], threads: BUSY },
    },
    Subject {
        name: "kubernetes",
        what: "manifests, chart, injection and the webhook",
        runner: System {
            binary: "kubernetes",
            only: &[],
            but: &["dashboard::", "image::", "rollout::"],
            threads: BUSY,
        },
    },
    Subject {
        name: "dashboard",
        what: "alerts and dashboard in Prometheus",
        runner: System { binary: "kubernetes", only: &["dashboard::"], but: &[], threads: BUSY },
    },
    Subject {
        name: "rollout",
        what: "rollouts under load in network namespaces, which needs root",
        runner: System { binary: "kubernetes", only: &["rollout::"], but: &[], threads: BUSY },
    },
    Subject {
        name: "edge",
        what: "the worker in workerd: some minutes; a file of tests/edge as the word is quick",
        runner: Edge,
    },
    Subject { name: "browser", what: "the job page in Chromium", runner: Browser },
    Subject {
        name: "simulation",
        what: "1,000 simulated schedules of jobs and faults",
        runner: Simulation,
    },
    Subject { name: "crates", what: "licences and sources of what we depend on", runner: Crates },
];

pub(crate) fn run(name: &str, word: Option<&str>, extent: Extent) -> Result<()> {
    let found = SUBJECTS.iter().find(|subject| subject.name == name);
    let subject = found.ok_or_else(|| format!("there is no subject {name}\n{}", usage()))?;
    let (root, started) = (setup::root(), Instant::now());
    let mut count = Count::default();
    subject.runner.run(&root, subject.what, (word, extent), &mut count)?;
    say(&format!("took {} s", started.elapsed().as_secs()));
    count.finish()
}

/// The subject `reshard` on the PostgreSQL that these variables name.
pub(crate) fn reshard_on(
    majors: &str,
    variables: &[(&str, PathBuf)],
    word: Option<&str>,
) -> Result<()> {
    let (root, started) = (setup::root(), Instant::now());
    let mut count = Count::default();
    let mut cargo = system(&root, "reshard", &[], &[], word)?;
    cargo.arg(BUSY).envs(variables.iter().map(|(name, programs)| (name, programs)));
    count.run(&format!("ranges that move on PostgreSQL {majors}"), &mut cargo, rust_result);
    say(&format!("took {} s", started.elapsed().as_secs()));
    count.finish()
}

pub(crate) fn usage() -> String {
    let mut text = "usage: cargo xtask test                  everything CI runs\n       \
        cargo xtask test SUBJECT [WORD]   one subject, or its tests whose names contain the word\n       \
        cargo xtask test --full SUBJECT   one subject with every step and every kill, in minutes\n       \
        cargo xtask test --postgres MAJOR [WORD]   reshard on PostgreSQL 16, 17 or 18; 15+18: from 15 to 18\n\
        subjects:"
        .to_owned();
    for subject in &SUBJECTS {
        text += &format!("\n  {:<12} {}", subject.name, subject.what);
    }
    text
}

impl Runner {
    fn run(
        &self,
        root: &Path,
        what: &str,
        (word, extent): (Option<&str>, Extent),
        count: &mut Count,
    ) -> Result<()> {
        match self {
            Cargo(arguments) => {
                let arguments = arguments.iter().copied();
                let mut cargo = cargo_test(root, arguments, word);
                count.run(what, &mut cargo, rust_result);
            }
            Stores => {
                let arguments = ["--package=stores", "--features=aws"].into_iter();
                let mut cargo = cargo_test(root, arguments, word);
                cargo.env("SPILLWAY_MOTO", emulator(root)?);
                count.run(what, &mut cargo, rust_result);
            }
            System { binary, only, but, threads } => {
                let mut cargo = system(root, binary, only, but, word)?;
                if extent == Extent::Full {
                    cargo.env_remove("SPILLWAY_KILLS").env("SPILLWAY_SHARDS_STEPS", "all");
                    cargo.envs([
                        ("SPILLWAY_RESHARD_MOVES", RESHARD_MOVES),
                        ("SPILLWAY_RESHARD_KILLS", RESHARD_KILLS),
                    ]);
                }
                cargo.arg(threads);
                count.run(what, &mut cargo, rust_result);
            }
            Edge => {
                setup::npm(root)?;
                setup::npm(&root.join("examples/market"))?;
                program(root)?;
                crate::edge::run(&[])?;
                let mut specs = steps::specs(root, "tests/edge", word)?;
                count.run(what, &mut specs, node_result);
            }
            Browser => {
                setup::npm(root)?;
                program(root)?;
                crate::edge::run(&[])?;
                let mut specs = steps::specs(root, "tests/browser", word)?;
                specs.env("SPILLWAY_CHROMIUM", setup::chromium()?);
                count.run(what, &mut specs, node_result);
            }
            Simulation => {
                let mut simulation = steps::simulation(root);
                simulation.env("SPILLWAY_SIM_SCHEDULES", SCHEDULES);
                simulation.args(word);
                count.run(what, &mut simulation, rust_result);
            }
            Crates => crate::deny::check(root, count),
        }
        Ok(())
    }
}

fn cargo_test<'a>(
    root: &Path,
    arguments: impl Iterator<Item = &'a str>,
    word: Option<&str>,
) -> Command {
    let mut own: Vec<&str> = arguments.collect();
    if !own.contains(&"--") {
        own.push("--");
    }
    let mut cargo = Command::new("cargo");
    cargo.arg("test").args(own).args(word).current_dir(root);
    cargo
}

/// A binary of whole-system tests. A word chooses among all of its tests.
fn system(
    root: &Path,
    binary: &str,
    only: &[&str],
    but: &[&str],
    word: Option<&str>,
) -> Result<Command> {
    program(root)?;
    if binary == "shards" {
        setup::program(&["faketime"], "faketime", "SPILLWAY_FAKETIME")?;
    }
    if binary == "reshard" {
        setup::postgres()?;
        reshard(root)?;
        // For workerd before the sidecars. The test builds the worker of its rules, which is quick after another.
        setup::npm(root)?;
        if word.is_none() {
            crate::edge::run(&[])?;
        }
    }
    if binary == "kubernetes" {
        setup::npm(&root.join("examples/market"))?;
    }
    let mut cargo = cargo_test(root, ["--package=tests", "--test", binary].into_iter(), word);
    cargo.env("SPILLWAY_BIN", steps::program(root)).env("SPILLWAY_MOTO", emulator(root)?);
    cargo.env("SPILLWAY_RESHARD_BIN", steps::reshard(root));
    cargo.env("SPILLWAY_KILLS", KILLS);
    if word.is_none() {
        cargo.args(only);
        for module in but {
            cargo.args(["--skip", module]);
        }
    }
    Ok(cargo)
}

/// `SPILLWAY_MOTO`, or the one that is installed here.
fn emulator(root: &Path) -> Result<PathBuf> {
    let own = std::env::var_os("SPILLWAY_MOTO").map(PathBuf::from);
    own.map_or_else(|| setup::emulator(root), Ok)
}

/// The program under test, unless `SPILLWAY_BIN` names one.
fn program(root: &Path) -> Result<()> {
    if std::env::var_os("SPILLWAY_BIN").is_some() {
        return Ok(());
    }
    let mut build = Command::new("cargo");
    build.args(["build", "--package", "origin-sidecar"]).current_dir(root);
    setup::run("the program under test", &mut build)
}

/// The tool that moves ranges, unless `SPILLWAY_RESHARD_BIN` names one.
fn reshard(root: &Path) -> Result<()> {
    if std::env::var_os("SPILLWAY_RESHARD_BIN").is_some() {
        return Ok(());
    }
    let mut build = Command::new("cargo");
    build.args(["build", "--package", "reshard"]).current_dir(root);
    setup::run("reshard", &mut build)
}
