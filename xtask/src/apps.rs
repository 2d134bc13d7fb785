//! `cargo xtask apps`: real applications with and without the sidecar.

use crate::setup::{self, Result};
use crate::suite::Count;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An application of `tests/apps`, and what it needs from the package index, one version of each.
struct App {
    name: &'static str,
    packages: &'static [&'static str],
}

const APPS: [App; 4] = [
    App { name: "django", packages: &["Django==5.2.19", "whitenoise==6.12.0", "gunicorn==27.0.1"] },
    App {
        name: "starlette",
        packages: &["starlette==1.10.0", "uvicorn==0.54.0", "websockets==17.4"],
    },
    App { name: "flask", packages: &["Flask==3.1.3", "gunicorn==27.0.1"] },
    App { name: "grpc", packages: &["grpcio==1.85.3"] },
];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        return Err("usage: cargo xtask apps".to_owned());
    }
    let root = setup::root();
    if std::env::var_os("SPILLWAY_BIN").is_none() {
        let mut build = Command::new("cargo");
        build.args(["build", "--package", "origin-sidecar"]).current_dir(&root);
        setup::run("the program under test", &mut build)?;
    }
    let mut count = Count::default();
    check(&root, &mut count);
    count.finish()
}

/// Installs, starts and asks each application. The program under test has been built.
pub(crate) fn check(root: &Path, count: &mut Count) {
    for app in APPS {
        let folder = folder(root, app.name);
        let command = setup::python(&folder, app.packages)
            .and_then(|programs| driver(root, app.name, &programs.join("python")));
        count.driver(app.name, command);
    }
    let command = express(root).and_then(|folder| {
        let mut command = driver(root, "express", Path::new("python3"))?;
        command.env("SPILLWAY_NODE_FOLDER", folder);
        Ok(command)
    });
    count.driver("express", command);
}

fn folder(root: &Path, name: &str) -> PathBuf {
    setup::target(root).join("apps").join(name)
}

/// Express in a folder of its own, at the versions of the lock file.
fn express(root: &Path) -> Result<PathBuf> {
    let (from, to) = (root.join("tests/apps/express"), folder(root, "express"));
    std::fs::create_dir_all(&to).map_err(|error| format!("{}: {error}", to.display()))?;
    for name in ["package.json", "package-lock.json"] {
        let (own, copy) = (from.join(name), to.join(name));
        let wanted = std::fs::read(&own).map_err(|error| format!("{}: {error}", own.display()))?;
        // Written only when it changed: a newer lock file is installed again.
        if std::fs::read(&copy).is_ok_and(|there| there == wanted) {
            continue;
        }
        std::fs::write(&copy, wanted).map_err(|error| format!("{}: {error}", copy.display()))?;
    }
    setup::npm(&to)?;
    Ok(to)
}

fn driver(root: &Path, name: &str, python: &Path) -> Result<Command> {
    let spillway = std::env::var_os("SPILLWAY_BIN")
        .map_or_else(|| setup::target(root).join("debug/spillway"), PathBuf::from);
    let mut command = Command::new(python);
    command
        .arg(root.join(format!("tests/apps/{name}_checks.py")))
        .arg("--spillway")
        .arg(spillway)
        .arg("--nginx")
        .arg(nginx()?)
        .arg("--openssl")
        .arg(setup::program(&["openssl"], "openssl", "SPILLWAY_OPENSSL")?)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// Debian has it in a folder that only root's PATH names.
fn nginx() -> Result<PathBuf> {
    let usual = PathBuf::from("/usr/sbin/nginx");
    if std::env::var_os("SPILLWAY_NGINX").is_none() && usual.is_file() {
        return Ok(usual);
    }
    setup::program(&["nginx"], "nginx", "SPILLWAY_NGINX")
}

/// `13 passed, 0 failed`
pub(crate) fn result(line: &str) -> Option<(u64, u64)> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}
