//! `cargo xtask demo`: the whole system on this machine, and the story it tells.

mod processes;
mod story;
mod world;

use crate::setup::{self, Result, say};
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
    build(&root)?;
    let mut world = world::World::start(&root, Arc::clone(&stop))?;
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

fn build(root: &std::path::Path) -> Result<()> {
    setup::npm(root)?;
    setup::npm(&root.join("examples/market"))?;
    crate::edge::run(&[])?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--package", "origin-sidecar"]).current_dir(root);
    setup::run("the sidecar (release build; the first takes some minutes)", &mut cargo)
}
