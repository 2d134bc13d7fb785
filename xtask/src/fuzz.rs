//! `cargo xtask fuzz`: libFuzzer on the stable compiler, which has all that is needed of it but a
//! name: the passes of LLVM that count which code was reached are asked for directly.

use crate::setup::{self, Result, say};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What cargo-fuzz passes, less the sanitizer, which is not stable and looks for faults that safe
/// Rust has not. A cold build takes two minutes of CPU; half of it is libFuzzer itself, in C++.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
const USAGE: &str = "usage: cargo xtask fuzz [TARGET [FILE]] [--seconds N]";
const SECONDS: u64 = 60;
/// One input for longer than this, in seconds, or with more memory than this, in MiB, is a fault.
const INPUT_SECONDS_MAX: u64 = 10;
const MEMORY_MIB_MAX: u64 = 2048;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut seconds = SECONDS;
    let mut named = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let number = rest.next().and_then(|number| number.parse().ok());
            seconds = number.ok_or(USAGE)?;
        } else {
            named.push(argument.as_str());
        }
    }
    let root = setup::root();
    let fuzzer = build(&root)?;
    let known = targets(&fuzzer)?;
    let is_known = |target: &&str| known.iter().any(|own| own == target);
    match named.as_slice() {
        [] => all(&root, &fuzzer, &known, seconds),
        [target] if is_known(target) => all(&root, &fuzzer, &[(*target).to_owned()], seconds),
        [target, file] if is_known(target) => {
            let mut once = Command::new(&fuzzer);
            once.arg(file).env("SPILLWAY_FUZZ_TARGET", target);
            setup::run(&format!("{target} with {file}"), &mut once)
        }
        _ => Err(format!("{USAGE}\ntargets: {}", known.join(", "))),
    }
}

/// Under a folder of its own: other flags would make cargo build everything else anew.
fn folder(root: &Path) -> PathBuf {
    setup::target(root).join("fuzz")
}

fn build(root: &Path) -> Result<PathBuf> {
    let host = Command::new("rustc").args(["--print", "host-tuple"]).output();
    let host = host.map_err(|why| format!("rustc: {why}"))?;
    let host = String::from_utf8_lossy(&host.stdout).trim().to_owned();
    let mut cargo = Command::new("cargo");
    // With --target the flags are not for build scripts and macros, which nobody fuzzes.
    cargo
        .args(["build", "--package=fuzz", "--features=libfuzzer", "--profile=fuzz", "--target"])
        .arg(&host)
        .arg("--target-dir")
        .arg(folder(root))
        .env("RUSTFLAGS", FLAGS.join(" "))
        .current_dir(root);
    setup::run("build the fuzzer", &mut cargo)?;
    Ok(folder(root).join(host).join("fuzz/fuzzer"))
}

fn targets(fuzzer: &Path) -> Result<Vec<String>> {
    let names = Command::new(fuzzer).env_remove("SPILLWAY_FUZZ_TARGET").output();
    let names = names.map_err(|why| format!("{}: {why}", fuzzer.display()))?;
    Ok(String::from_utf8_lossy(&names.stdout).lines().map(str::to_owned).collect())
}

/// All are tried, whatever comes of the others.
fn all(root: &Path, fuzzer: &Path, targets: &[String], seconds: u64) -> Result<()> {
    let mut failed = 0;
    for target in targets {
        match one(root, fuzzer, target, seconds) {
            Ok(()) => println!("fuzz {target}: held"),
            Err(why) => {
                failed += 1;
                println!("fuzz {target}: FAILED: {why}");
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} targets failed")) }
}

fn one(root: &Path, fuzzer: &Path, target: &str, seconds: u64) -> Result<()> {
    say(&format!("fuzz {target} for {seconds} s"));
    let (found, crashes) = (folder(root).join("corpus").join(target), folder(root).join("crashes"));
    for folder in [&found, &crashes] {
        std::fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    let prefix = format!("{}/{target}-", crashes.display());
    let mut command = Command::new(fuzzer);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-artifact_prefix={prefix}"))
        .args(["-print_final_stats=1", "-use_value_profile=1"])
        .arg(&found)
        .args(Some(root.join("fuzz/seeds").join(target)).filter(|seeds| seeds.is_dir()))
        .env("SPILLWAY_FUZZ_TARGET", target)
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|why| format!("{}: {why}", fuzzer.display()))?;
    let mut artifact = None;
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
            if !is_noise(&line) {
                eprintln!("{line}");
            }
            let file = line.split_once("Test unit written to ").map(|(_, file)| file.to_owned());
            artifact = file.or(artifact);
        }
    }
    let status = child.wait().map_err(|why| why.to_string())?;
    match artifact {
        _ if status.success() => Ok(()),
        Some(file) => Err(format!("{file}\n  once more: cargo xtask fuzz {target} {file}")),
        None => Err(format!("{status}")),
    }
}

/// Something new was reached, which every power of two sums up; and, at the end, words for a
/// dictionary.
fn is_noise(line: &str) -> bool {
    let is_step = ["\tNEW ", "\tREDUCE "].iter().any(|kind| line.contains(kind));
    line.starts_with('"') || line.starts_with("###") || line.starts_with('#') && is_step
}
