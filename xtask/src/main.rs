//! `cargo xtask`: everything that is done to this repository, in Rust.
use std::{env, process::ExitCode};

mod edge;

const USAGE: &str = "usage: cargo xtask edge …";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((command, rest)) if command == "edge" => edge::run(rest),
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
