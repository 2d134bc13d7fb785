//! One program for all targets: what it is linked from is built once. `SPILLWAY_FUZZ_TARGET` says
//! which; without it the names are printed.
#![no_main]
#![expect(clippy::print_stdout, reason = "the names go to stdout")]

use fuzz::{TARGETS, Target};
use std::sync::LazyLock;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let wanted = std::env::var("SPILLWAY_FUZZ_TARGET").unwrap_or_default();
    TARGETS.iter().find(|target| target.name == wanted).unwrap_or_else(|| {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        std::process::exit(0)
    })
});

libfuzzer_sys::fuzz_target!(init: { LazyLock::force(&TARGET); }, |data: &[u8]| {
    (TARGET.run)(data);
});
