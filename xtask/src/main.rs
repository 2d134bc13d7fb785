//! `cargo xtask`: everything that is done to this repository, in Rust.
#![expect(clippy::print_stdout, reason = "a command's results go to stdout")]

use std::{env, process::ExitCode};

mod apps;
mod archive;
mod bench;
mod bundles;
mod count;
mod dashboard;
mod demo;
mod deny;
mod deploy;
mod edge;
mod fuzz;
mod image;
mod postgres;
mod sbom;
mod setup;
mod steps;
mod subject;
mod suite;
mod trained;

const USAGE: &str = "usage: cargo xtask COMMAND
  demo [--once]  the whole system on this machine, with a walk-through
  test [SUBJECT] everything CI runs, or one subject of it
  apps [--short] real applications with and without the sidecar
  fuzz [TARGET]  what must hold for any bytes, under libFuzzer
  bench offload  jobs beside boto3 and Celery, in CPU time
  bench cache    cached answers beside nginx, HAProxy, Varnish, Envoy and pingora
  bench proxy    the same for everything that passes, with latencies and memory
  bench reshard [--short]  ranges that move between databases, beside pipes of psql
  bundles [TOOL] names that build tools write, for the tests
  edge           build the edge worker (what wrangler calls)
  deploy [ARG…]  `wrangler deploy`, once rules and configuration are not the demo's
  image [--all]  the container image, without Docker
  dashboard      write k8s/dashboard/spillway.json";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((command, rest)) if command == "demo" => demo::run(rest),
        Some((command, rest)) if command == "test" => suite::run(rest),
        Some((command, rest)) if command == "apps" => apps::run(rest),
        Some((command, rest)) if command == "bench" => bench::run(rest),
        Some((command, rest)) if command == "bundles" => bundles::run(rest),
        Some((command, rest)) if command == "deploy" => deploy::run(rest),
        Some((command, rest)) if command == "edge" => edge::run(rest),
        Some((command, rest)) if command == "fuzz" => fuzz::run(rest),
        Some((command, rest)) if command == "image" => image::run(rest),
        Some((command, rest)) if command == "dashboard" => dashboard::run(rest),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
