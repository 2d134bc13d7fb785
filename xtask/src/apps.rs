//! `cargo xtask apps`: real applications with and without the sidecar.

use crate::count::Count;
use crate::setup::{self, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An application of `tests/apps`.
struct App {
    name: &'static str,
    install: AppInstall,
    /// Quick to install and to ask: part of `cargo xtask test`.
    short: bool,
}

/// What it needs, one version of each, in a folder of its own.
enum AppInstall {
    /// From PyPI.
    Python(&'static [&'static str]),
    /// From npm, at the versions of its lock file.
    Node,
    /// The same, and then `npm run build`.
    NodeBuilt,
}

use AppInstall::{Node, NodeBuilt, Python};

const APPS: [App; 9] = [
    App {
        name: "django",
        install: Python(&["Django==5.2.19", "whitenoise==6.12.0", "gunicorn==27.0.1"]),
        short: true,
    },
    App {
        name: "starlette",
        install: Python(&["starlette==1.10.0", "uvicorn==0.54.0", "websockets==17.4"]),
        short: true,
    },
    App {
        name: "fastapi",
        install: Python(&["fastapi==0.165.0", "uvicorn==0.54.0", "itsdangerous==2.2.0"]),
        short: true,
    },
    App { name: "flask", install: Python(&["Flask==3.1.3", "gunicorn==27.0.1"]), short: true },
    App { name: "express", install: Node, short: true },
    App { name: "grpc", install: Python(&["grpcio==1.85.3"]), short: true },
    App { name: "next", install: NodeBuilt, short: false },
    App { name: "verdaccio", install: Node, short: false },
    App {
        name: "jupyterlab",
        install: Python(&["jupyterlab==4.6.6", "websockets==17.4"]),
        short: false,
    },
];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let chosen: Vec<&App> = match names[..] {
        [] => APPS.iter().collect(),
        ["--short"] => APPS.iter().filter(|app| app.short).collect(),
        [name] => APPS.iter().filter(|app| app.name == name).collect(),
        _ => Vec::new(),
    };
    if chosen.is_empty() {
        let all: Vec<&str> = APPS.iter().map(|app| app.name).collect();
        return Err(format!("usage: cargo xtask apps [--short | {}]", all.join(" | ")));
    }
    let root = setup::root();
    if std::env::var_os("SPILLWAY_BIN").is_none() {
        let mut build = Command::new("cargo");
        build.args(["build", "--package", "origin-sidecar"]).current_dir(&root);
        setup::run("the program under test", &mut build)?;
    }
    let mut count = Count::default();
    check(&root, &chosen, &mut count);
    count.finish()
}

/// The ones that `cargo xtask test` asks. The program under test has been built.
pub(crate) fn short(root: &Path, count: &mut Count) {
    let chosen: Vec<&App> = APPS.iter().filter(|app| app.short).collect();
    check(root, &chosen, count);
}

/// Installs, starts and asks each application.
fn check(root: &Path, apps: &[&App], count: &mut Count) {
    for app in apps {
        let folder = setup::target(root).join("apps").join(app.name);
        count.driver(app.name, prepared(root, app, &folder));
    }
}

/// The command that starts and asks it, once all that it needs is there.
fn prepared(root: &Path, app: &App, folder: &Path) -> Result<Command> {
    if let Python(packages) = app.install {
        let programs = setup::python(folder, packages)?;
        return driver(root, app.name, &programs.join("python"));
    }
    let changed = copy(&root.join("tests/apps").join(app.name), folder)?;
    setup::npm(folder)?;
    let mut command = driver(root, app.name, Path::new("python3"))?;
    // This repository's own Node (22): verdaccio refuses older ones.
    setup::npm(root)?;
    command.env("SPILLWAY_NODE_FOLDER", folder).env("PATH", setup::path_with_node(root)?);
    if matches!(app.install, NodeBuilt) {
        let built = folder.join(".next");
        if changed && built.is_dir() {
            std::fs::remove_dir_all(&built).map_err(|error| told(&built, &error))?;
        }
        if !built.join("BUILD_ID").is_file() {
            let mut build = Command::new("npm");
            build.args(["run", "build"]).env("NEXT_TELEMETRY_DISABLED", "1").current_dir(folder);
            setup::run(&format!("npm run build in {}", folder.display()), &mut build)?;
        }
        // Its visitor, driven by a package of this repository.
        command.env("SPILLWAY_CHROMIUM", setup::chromium()?);
    }
    Ok(command)
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Copies what differs, so that what is newer is installed or built again; whether anything did.
fn copy(from: &Path, to: &Path) -> Result<bool> {
    std::fs::create_dir_all(to).map_err(|error| told(to, &error))?;
    let mut changed = false;
    for entry in std::fs::read_dir(from).map_err(|error| told(from, &error))? {
        let own = entry.map_err(|error| told(from, &error))?.path();
        let there = to.join(own.file_name().unwrap_or_default());
        if own.is_dir() {
            changed |= copy(&own, &there)?;
            continue;
        }
        let wanted = std::fs::read(&own).map_err(|error| told(&own, &error))?;
        if !std::fs::read(&there).is_ok_and(|found| found == wanted) {
            std::fs::write(&there, wanted).map_err(|error| told(&there, &error))?;
            changed = true;
        }
    }
    Ok(changed)
}

fn driver(root: &Path, name: &str, python: &Path) -> Result<Command> {
    let spillway = std::env::var_os("SPILLWAY_BIN")
        .map_or_else(|| setup::target(root).join("debug/spillway"), PathBuf::from);
    // Each application runs in a folder of its own, where a path from here names nothing.
    let spillway = std::path::absolute(&spillway).map_err(|error| told(&spillway, &error))?;
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
