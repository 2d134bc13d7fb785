//! Which PostgreSQL runs, and an empty data folder of it.

use super::{USER, as_user, done, own_folder};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The programs of one version.
#[derive(Clone)]
pub(super) struct Installed {
    pub programs: PathBuf,
    /// What the server says of itself: `postgres (PostgreSQL) 15.20`.
    version: String,
}

impl Installed {
    /// `SPILLWAY_POSTGRES`, or Debian's newest.
    pub fn first() -> Self {
        let named = std::env::var_os("SPILLWAY_POSTGRES").map(PathBuf::from);
        let installed = || {
            let majors = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
            majors.map(|major| major.path().join("bin")).max()
        };
        let found = named.or_else(installed);
        Self::at(
            found.expect(
                "PostgreSQL is installed: apt install postgresql, or SPILLWAY_POSTGRES=FOLDER",
            ),
        )
    }

    /// `SPILLWAY_POSTGRES_TAKER`, or the first.
    pub fn taker() -> Self {
        let named = std::env::var_os("SPILLWAY_POSTGRES_TAKER").map(PathBuf::from);
        named.map_or_else(Self::first, Self::at)
    }

    fn at(programs: PathBuf) -> Self {
        let version = Command::new(programs.join("postgres")).arg("--version").output();
        let version = version.expect("the server's program").stdout;
        Self { programs, version: String::from_utf8_lossy(&version).into_owned() }
    }

    /// 15, 16, …
    pub fn major(&self) -> u32 {
        let mut parts = self.version.split(|c: char| !c.is_ascii_digit());
        parts.find_map(|part| part.parse().ok()).expect("a version")
    }

    /// A data folder as `initdb` makes it, made once for this version: making one takes seconds, copying it not.
    pub fn template(&self) -> PathBuf {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock();
        let version = self.version.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
        let kept = target.join("postgres").join(version.trim_matches('-'));
        if kept.is_dir() {
            return kept;
        }
        let (folder, parent) = (own_folder(), kept.parent().expect("it has one"));
        let mut initdb = as_user(&self.programs.join("initdb"));
        initdb.args(["--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync", "-U", USER]);
        done("initdb", initdb.arg("-D").arg(folder.join("data")));
        std::fs::create_dir_all(parent).expect("a folder for it");
        let own = parent.join(format!("new-{}", std::process::id()));
        done("a copy", Command::new("cp").arg("-r").arg(folder.join("data")).arg(&own));
        // Another process may have been first, with the same.
        if std::fs::rename(&own, &kept).is_err() {
            std::fs::remove_dir_all(&own).expect("our copy");
        }
        std::fs::remove_dir_all(&folder).expect("our folder");
        kept
    }
}
