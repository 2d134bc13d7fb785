//! `cargo xtask demo`: the whole system on this machine, and the story it tells.

mod moving;
mod processes;
mod step;
mod story;
mod world;

use crate::setup::{self, Result, say};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let is_once = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--once"] => true,
        _ => return Err("usage: cargo xtask demo [--once]".to_owned()),
    };
    let root = setup::root();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        flag.store(true, Ordering::SeqCst);
        say("stopping");
    })
    .map_err(|error| error.to_string())?;
    let worker = build(&root)?;
    let mut world = world::World::start(&root, &worker, Arc::clone(&stop))?;
    let good = story::tell(&mut world)?;
    if is_once {
        return if good { Ok(()) } else { Err("a step of the walk-through failed".to_owned()) };
    }
    println!("\nLook for yourself:\n{}", world.addresses());
    println!("\nCtrl-C ends everything.");
    while !stop.load(Ordering::SeqCst) {
        world.report_ended();
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Builds both halves; the path of the worker's module.
fn build(root: &Path) -> Result<PathBuf> {
    say("1 of 3: npm packages, 228 MB on disk, most of it workerd");
    setup::wrangler(root)?;
    setup::npm(&root.join("examples/market"))?;
    say(
        "2 of 3: the edge worker, in WebAssembly, and wasm-bindgen, which puts JavaScript around it",
    );
    let worker = crate::edge::for_demo(root)?;
    say("3 of 3: the sidecar, which takes longest");
    let mut cargo = Command::new("cargo");
    // The embedded queue is all that the demo uses.
    cargo.args(["build", "--profile", "demo", "--package", "origin-sidecar"]);
    cargo.arg("--no-default-features").current_dir(root);
    setup::run("the sidecar, without SQS and S3", &mut cargo)?;
    Ok(worker)
}
