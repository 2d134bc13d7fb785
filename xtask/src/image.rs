//! `cargo xtask image`: the container image of `spillway`, without Docker. Two static programs, the
//! certificates they trust and nothing else; an OCI archive is a tar of a tar and three JSON files.

use crate::archive::{self, ImageFiles};
use crate::setup::{self, Result};
use crate::{sbom, trained};
use std::env::consts::ARCH;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const USAGE: &str = "usage: cargo xtask image [--root-only | --quick] [--all]
  --root-only  the files of the image, for a Dockerfile, and no archive
  --quick      optimised less and not trained, for the tests
  --all        an index of images for amd64 and arm64; what is not this machine's is not trained";
const QUICK: &str = "image-quick";
/// By Rust's name and by Go's, which images have.
const ARCHITECTURES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];
/// Whom the program trusts when it calls AWS and webhooks: Mozilla's list, as Debian packs it.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// What is in the image, and who may do what with it. The program runs as nobody in particular.
const MODES: [(&str, u32); 8] = [
    ("etc", 0o755),
    ("etc/ssl", 0o755),
    ("etc/ssl/certs", 0o755),
    (CERTIFICATES, 0o644),
    (PROGRAM, 0o755),
    (RESHARD, 0o755),
    (BILL, 0o644),
    // For --spool, where nothing else is mounted.
    ("tmp", 0o1777),
];
const PROGRAM: &str = "spillway";
/// It moves ranges of live maps, which `spillway shards` beside it changes: a Job of the same image runs it.
const RESHARD: &str = "reshard";
const BILL: &str = "spillway.cdx.json";

/// Where everything of the image is built.
pub(crate) fn folder() -> PathBuf {
    setup::target(&setup::root()).join("container")
}

/// The archive that [`run`] writes.
pub(crate) fn file() -> PathBuf {
    folder().join("spillway.tar")
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (profile, is_root_only, is_all) = match words[..] {
        [] => ("image", false, false),
        ["--root-only"] => ("image", true, false),
        ["--quick"] => (QUICK, false, false),
        ["--all"] => ("image", false, true),
        ["--quick", "--all"] => (QUICK, false, true),
        _ => return Err(USAGE.to_owned()),
    };
    let own = files_for(ARCH, profile)?;
    if is_root_only {
        return Ok(());
    }
    let mut all = vec![own];
    if is_all {
        let others = ARCHITECTURES.iter().filter(|(rust, _)| *rust != ARCH);
        for (rust, _) in others {
            all.push(files_for(rust, profile)?);
        }
    }
    let bytes = archive::write(&folder(), &all, &file())?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut said = format!("{}: {:.1} MiB", file().display(), mib(bytes));
    for ImageFiles { architecture, root } in &all {
        let program = fs::metadata(root.join(PROGRAM)).map_err(|why| why.to_string())?;
        let _ = write!(said, ", program for {architecture} {:.1} MiB", mib(program.len()));
    }
    setup::say(&said);
    Ok(())
}

/// What an image for this architecture, by Rust's name of it, consists of. Only what runs here is trained.
fn files_for(rust: &str, profile: &str) -> Result<ImageFiles> {
    let root = setup::root();
    let target = format!("{rust}-unknown-linux-musl");
    setup::rust_target(&target)?;
    let program = if profile == QUICK || rust != ARCH {
        trained::compile(&root, &target, profile)?
    } else {
        trained::build(&root, &target, profile)?
    };
    let reshard = trained::compile_reshard(&root, &target, profile)?;
    let own = ARCHITECTURES.into_iter().find(|(own, _)| *own == rust);
    let (_, architecture) = own.ok_or_else(|| format!("no image is made for {rust}"))?;
    // The Dockerfile copies this machine's.
    let name = if rust == ARCH { "root".to_owned() } else { format!("root-{architecture}") };
    let files = folder().join(name);
    fill(&files, [&program, &reshard], &sbom::of(&root, &target)?)?;
    Ok(ImageFiles { architecture, root: files })
}

/// The files of the image.
fn fill(files: &Path, [program, reshard]: [&Path; 2], bill: &str) -> Result<()> {
    let failed = |why: std::io::Error| format!("{}: {why}", files.display());
    if files.exists() {
        fs::remove_dir_all(files).map_err(failed)?;
    }
    let certificates = files.join(CERTIFICATES);
    fs::create_dir_all(files.join("tmp")).map_err(failed)?;
    fs::create_dir_all(certificates.parent().unwrap_or(files)).map_err(failed)?;
    fs::copy(program, files.join(PROGRAM)).map_err(failed)?;
    fs::copy(reshard, files.join(RESHARD)).map_err(failed)?;
    fs::write(files.join(BILL), bill).map_err(failed)?;
    fs::copy(Path::new("/").join(CERTIFICATES), certificates)
        .map_err(|why| format!("/{CERTIFICATES}: {why}\nOn Debian: apt install ca-certificates"))?;
    for (name, mode) in MODES {
        fs::set_permissions(files.join(name), fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(())
}
