//! `cargo xtask image`: the container image of `spillway`, without Docker. A static program, the
//! certificates it trusts and nothing else; an OCI archive is a tar of a tar and three JSON files.

use crate::setup::{self, Result};
use crate::{archive, sbom, trained};
use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const USAGE: &str = "usage: cargo xtask image [--root-only | --quick]
  --root-only  the files of the image, for a Dockerfile, and no archive
  --quick      optimised less and not trained, for the tests";
const QUICK: &str = "image-quick";
/// Whom the program trusts when it calls AWS and webhooks: Mozilla's list, as Debian packs it.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// What is in the image, and who may do what with it. The program runs as nobody in particular.
const MODES: [(&str, u32); 7] = [
    ("etc", 0o755),
    ("etc/ssl", 0o755),
    ("etc/ssl/certs", 0o755),
    (CERTIFICATES, 0o644),
    (PROGRAM, 0o755),
    (BILL, 0o644),
    // For --spool, where nothing else is mounted.
    ("tmp", 0o1777),
];
const PROGRAM: &str = "spillway";
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
    let (profile, is_root_only) = match arguments {
        [] => ("image", false),
        [only] if only == "--root-only" => ("image", true),
        [only] if only == "--quick" => (QUICK, false),
        _ => return Err(USAGE.to_owned()),
    };
    let root = setup::root();
    let target = format!("{ARCH}-unknown-linux-musl");
    setup::rust_target(&target)?;
    let program = match profile {
        QUICK => trained::compile(&root, &target, profile)?,
        profile => trained::build(&root, &target, profile)?,
    };
    let files = folder().join("root");
    fill(&files, &program, &sbom::of(&root, &target)?)?;
    if is_root_only {
        return Ok(());
    }
    let bytes = archive::write(&folder(), &files, &file())?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let unpacked = fs::metadata(&program).map_err(|why| why.to_string())?.len();
    setup::say(&format!(
        "{}: {:.1} MiB, program {:.1} MiB",
        file().display(),
        mib(bytes),
        mib(unpacked)
    ));
    Ok(())
}

/// The files of the image.
fn fill(files: &Path, program: &Path, bill: &str) -> Result<()> {
    let failed = |why: std::io::Error| format!("{}: {why}", files.display());
    if files.exists() {
        fs::remove_dir_all(files).map_err(failed)?;
    }
    let certificates = files.join(CERTIFICATES);
    fs::create_dir_all(files.join("tmp")).map_err(failed)?;
    fs::create_dir_all(certificates.parent().unwrap_or(files)).map_err(failed)?;
    fs::copy(program, files.join(PROGRAM)).map_err(failed)?;
    fs::write(files.join(BILL), bill).map_err(failed)?;
    fs::copy(Path::new("/").join(CERTIFICATES), certificates)
        .map_err(|why| format!("/{CERTIFICATES}: {why}\nOn Debian: apt install ca-certificates"))?;
    for (name, mode) in MODES {
        fs::set_permissions(files.join(name), fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(())
}
