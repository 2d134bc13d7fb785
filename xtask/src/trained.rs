//! The sidecar as it is released: compiled twice, between which it works, so that the compiler knows
//! what it mostly does (profile-guided optimisation). That saves a quarter of the CPU time that is not
//! the kernel's: docs/performance.md.

use crate::setup::{self, Result};
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rounds of `tests/tests/proxy/training.rs`: some 100,000 requests.
const ROUNDS: &str = "120";

/// Builds it for a target in a profile; the program's path. Compiles for minutes, twice.
pub(crate) fn build(root: &Path, target: &str, profile: &str) -> Result<PathBuf> {
    let folder = setup::target(root).join("trained");
    let program = folder.join(target).join(profile).join("spillway");
    let (seen, learned) = (folder.join("seen"), folder.join(format!("{target}.profdata")));
    let cargo = |flag: &str, path: &Path| {
        let mut cargo = cargo(root, target, profile, "origin-sidecar")?;
        cargo.env("RUSTFLAGS", format!("-Cprofile-{flag}={}", path.display()));
        cargo.env("CARGO_TARGET_DIR", &folder);
        Ok::<_, String>(cargo)
    };
    let profdata = setup::profdata()?;
    setup::run("the sidecar, to be trained", &mut cargo("generate", &seen)?)?;
    if seen.exists() {
        fs::remove_dir_all(&seen).map_err(|why| format!("{}: {why}", seen.display()))?;
    }
    setup::run("a day of all kinds of requests", &mut train(root, &program))?;
    let mut merge = Command::new(profdata);
    merge.args(["merge", "--output"]).args([&learned, &seen]);
    setup::run("what it was asked for most", &mut merge)?;
    setup::run("the sidecar, as it is released", &mut cargo("use", &learned)?)?;
    Ok(program)
}

/// The same without training.
pub(crate) fn compile(root: &Path, target: &str, profile: &str) -> Result<PathBuf> {
    setup::run("the sidecar", &mut cargo(root, target, profile, "origin-sidecar")?)?;
    Ok(setup::target(root).join(target).join(profile).join("spillway"))
}

/// `reshard`, which waits for databases and is not trained.
pub(crate) fn compile_reshard(root: &Path, target: &str, profile: &str) -> Result<PathBuf> {
    setup::run("reshard", &mut cargo(root, target, profile, "reshard")?)?;
    Ok(setup::target(root).join(target).join(profile).join("reshard"))
}

fn cargo(root: &Path, target: &str, profile: &str, package: &str) -> Result<Command> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--locked", "--profile", profile, "--package", package])
        .args(["--target", target])
        .current_dir(root);
    let of_target = |what: &str| format!("{what}_{}", target.replace('-', "_"));
    if target.ends_with("musl") && target.starts_with(ARCH) {
        // SQLite and ring are C.
        let compiler = setup::program(&["musl-gcc"], "musl-tools", "SPILLWAY_MUSL_GCC")?;
        cargo.env(of_target("CC"), compiler);
    } else if target.ends_with("musl") {
        let rust = target.split('-').next().unwrap_or(target);
        let (debian, headers) =
            (rust.replace('_', "-"), if rust == "aarch64" { "arm64" } else { "amd64" });
        let compiler = format!("{rust}-linux-gnu-gcc");
        let package = format!("gcc-{debian}-linux-gnu libc6-dev-{headers}-cross");
        let compiler = setup::program(&[&compiler], &package, "SPILLWAY_CROSS_GCC")?;
        cargo
            .env(of_target("CC"), compiler)
            .env(of_target("CARGO_TARGET").to_uppercase() + "_LINKER", "rust-lld")
            .env(
                of_target("CARGO_TARGET").to_uppercase() + "_RUSTFLAGS",
                "-Clink-self-contained=yes",
            )
            // The headers are those of glibc, whose names for large files musl does not have; offsets have 64
            // bits on these machines anyway.
            .env("LIBSQLITE3_FLAGS", "-DSQLITE_DISABLE_LFS");
    }
    Ok(cargo)
}

fn train(root: &Path, program: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "test",
            "--locked",
            "--quiet",
            "--package",
            "tests",
            "--test",
            "proxy",
            "training::",
        ])
        .env("SPILLWAY_BIN", program)
        .env("SPILLWAY_ROUNDS", ROUNDS)
        .current_dir(root);
    cargo
}
