//! `cargo xtask edge`: the rules file and `edge-worker/` become `edge-worker/build/index.js` and
//! `index_bg.wasm`, which wrangler uploads. Sets up what it needs, does only what has changed.
//!
//! It stands in for worker-build, which downloads three tools at versions of its own choosing:
//! here wasm-bindgen's version is Cargo.lock's, and wasm-opt's and esbuild's package-lock.json's.

use crate::deploy;
use crate::setup::{self, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Instant, SystemTime},
};

const TARGET: &str = "wasm32-unknown-unknown";
const USAGE: &str = "usage: cargo xtask edge [--routes FILE] [--out DIR]
       cargo xtask edge --cases [--out DIR]    the corpus runner for the tests";

/// What wasm-opt may assume. Named one by one, so that a newer binaryen emits nothing that
/// workerd does not know yet; the list is worker-build's.
const WASM_FEATURES: [&str; 7] = [
    "--enable-mutable-globals",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-reference-types",
    "--enable-exception-handling",
];

/// A wasm crate and what has to stand beside it.
struct Bundle {
    crate_name: &'static str,
    /// The module whose default export is the Worker; imports `./index.js` and `./data.json`.
    shim: PathBuf,
    /// Text that the shim or the glue imports, by file name.
    data: (&'static str, String),
    out: PathBuf,
    /// Cargo's: `edge` is small and takes minutes, `demo` is quick to compile.
    profile: &'static str,
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let root = setup::root();
    let mut routes = env::var_os("SPILLWAY_ROUTES").map_or(root.join("routes.toml"), PathBuf::from);
    let mut out = None;
    let mut is_cases = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), is_cases) {
            ("--cases", _) => is_cases = true,
            ("--routes", false) => routes = args.next().ok_or(USAGE)?.into(),
            ("--out", _) => out = Some(absolute(args.next().ok_or(USAGE)?)?),
            _ => return Err(USAGE.to_owned()),
        }
    }
    let bundle = if is_cases {
        Bundle {
            crate_name: "cases-wasm",
            shim: root.join("tests/cases-wasm/shim.js"),
            data: ("cases.json", cases_json(&root)?),
            out: out.unwrap_or_else(|| root.join("tests/cases-wasm/build")),
            profile: "edge",
        }
    } else {
        let compiled = compiled_rules(&routes)?;
        deploy::refuse_demo(&routes)?;
        Bundle {
            crate_name: "edge-worker",
            shim: root.join("edge-worker/shim.js"),
            data: ("rules.json", compiled),
            out: out.unwrap_or_else(|| root.join("edge-worker/build")),
            profile: "edge",
        }
    };
    setup::rust_target(TARGET)?;
    setup::npm(&root)?;
    build(&root, &bundle)
}

/// The worker of the demo, as quickly as it can be built, in a folder of its own: what is deployed is
/// never this one. The path of its module.
pub(crate) fn for_demo(root: &Path) -> Result<PathBuf> {
    let bundle = Bundle {
        crate_name: "edge-worker",
        shim: root.join("edge-worker/shim.js"),
        data: ("rules.json", compiled_rules(&root.join("routes.toml"))?),
        out: setup::target(root).join("demo/edge"),
        profile: "demo",
    };
    setup::rust_target(TARGET)?;
    build(root, &bundle)?;
    Ok(bundle.out.join("index.js"))
}

fn build(root: &Path, bundle: &Bundle) -> Result<()> {
    let (profile, is_demo) = (bundle.profile, bundle.profile == "demo");
    let built = setup::target(root)
        .join(format!("{TARGET}/{profile}/{}.wasm", bundle.crate_name.replace('-', "_")));
    let glue = bundle.out.join("glue");
    let (index_js, index_wasm) = (bundle.out.join("index.js"), bundle.out.join("index_bg.wasm"));
    fs::create_dir_all(&glue).map_err(|why| format!("{}: {why}", glue.display()))?;
    write_if_changed(&glue.join(bundle.data.0), &bundle.data.1)?;
    write_if_changed(&glue.join("shim.js"), &read(&bundle.shim)?)?;

    step("compile", || {
        let package = ["build", "-p", bundle.crate_name, "--lib"];
        command(root, &cargo())
            .args(package)
            // In the demo somebody watches.
            .args((!is_demo).then_some("--quiet"))
            .args(["--profile", profile, "--target", TARGET])
            .finish()
    })?;
    let glue_js = glue.join("index.js");
    if is_stale(&glue_js, &[&built]) {
        step("bindgen", || {
            let mut bindgen = command(root, &cargo());
            bindgen.arg("run").args((!is_demo).then_some("--quiet"));
            bindgen.args(["--profile", "demo", "-p", "bindgen", "--"]);
            bindgen.arg(&built).arg(&glue).finish()?;
            // `import source` is a proposal that neither esbuild nor wrangler bundles.
            let text = read(&glue_js)?.replace("import source ", "import ");
            fs::write(&glue_js, text).map_err(|why| format!("{}: {why}", glue_js.display()))
        })?;
    }
    if is_demo && is_stale(&index_wasm, &[&glue_js]) {
        fs::copy(glue.join("index_bg.wasm"), &index_wasm)
            .map_err(|why| format!("{}: {why}", index_wasm.display()))?;
    } else if is_stale(&index_wasm, &[&glue_js]) {
        step("wasm-opt", || {
            let mut tool = command(root, "wasm-opt");
            tool.args(["-Os"]).args(WASM_FEATURES);
            tool.arg(glue.join("index_bg.wasm")).arg("-o").arg(&index_wasm).finish()
        })?;
    }
    if is_stale(&index_js, &[&glue_js, &glue.join("shim.js"), &glue.join(bundle.data.0)]) {
        step("esbuild", || {
            let mut tool = command(&glue, "esbuild");
            tool.args(["shim.js", "--bundle", "--minify", "--format=esm", "--log-level=warning"]);
            tool.args(["--loader:.json=text", "--external:*.wasm", "--external:cloudflare:*"]);
            tool.arg(format!("--outfile={}", index_js.display())).finish()
        })?;
    }
    report(&index_js, &index_wasm)
}

/// The canonical JSON of a rules file; every fault of it at once when it has any.
fn compiled_rules(file: &Path) -> Result<String> {
    let list = |faults: &[rules::fault::Fault]| {
        let line = |fault| format!("{}:{fault}", file.display());
        faults.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    let checked = rules::file::check(&read(file)?).map_err(|faults| list(&faults))?;
    if !checked.warnings.is_empty() {
        eprintln!("{}", list(&checked.warnings));
    }
    eprintln!("edge: {}: config_hash {}", file.display(), checked.document.hash());
    Ok(checked.document.to_json())
}

fn cases_json(root: &Path) -> Result<String> {
    Ok(cases_wasm::load::cases(&root.join("tests/cases"))?.to_string())
}

fn report(index_js: &Path, index_wasm: &Path) -> Result<()> {
    let kib = |path: &Path| {
        let bytes = fs::metadata(path).map_err(|why| format!("{}: {why}", path.display()))?.len();
        Ok::<_, String>(format!("{} {} KiB", path.display(), bytes.div_ceil(1024)))
    };
    eprintln!("edge: {}, {}", kib(index_js)?, kib(index_wasm)?);
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("edge: {name}");
    let started = Instant::now();
    work().map_err(|why| format!("edge: {name}: {why}"))?;
    eprintln!("edge: {name}: {:.1} s", started.elapsed().as_secs_f32());
    Ok(())
}

/// A program in `dir` that finds the repository's own node and tools before the machine's.
fn command(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    // A PATH that can't be joined has no program of ours to find either.
    if let Ok(path) = setup::path_with_node(&setup::root()) {
        command.env("PATH", path);
    }
    command
}

trait Finish {
    /// Runs to the end; what the program prints goes to stderr, an exit code is an error.
    fn finish(&mut self) -> Result<()>;
}

impl Finish for Command {
    fn finish(&mut self) -> Result<()> {
        let name = self.get_program().to_string_lossy().into_owned();
        let status = self.stdin(Stdio::null()).stdout(std::io::stderr()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{name}: {status}")),
            Err(why) => Err(format!("{name}: {why}")),
        }
    }
}

fn cargo() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// The tools run in folders of their own.
fn absolute(path: &str) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|why| format!("{path}: {why}"))
}

fn is_stale(output: &Path, inputs: &[&Path]) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(written) = modified(output) else { return true };
    inputs.iter().any(|input| modified(input).is_none_or(|changed: SystemTime| changed > written))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))
}

/// Leaves an equal file alone, so that its age still says when it last changed.
fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|why| format!("{}: {why}", path.display()))
}
