//! `cargo xtask deploy`: `npx wrangler deploy`, once nothing of rules and configuration is the demo's any
//! more. wrangler's own build can't refuse that: it also runs for `dev` and `--dry-run`.

mod checks;

use crate::setup::{self, Result, say};
use checks::{File, ORIGIN};
use rules::fault::Fault;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

const USAGE: &str = "usage: cargo xtask deploy [--routes FILE] [WRANGLER ARGUMENTS]
       --routes FILE is the rules file; wrangler's own argument for routes is --route";

/// Tells the build that wrangler calls that what it builds is for visitors.
const DEPLOY: &str = "SPILLWAY_DEPLOY";
/// wrangler's own variable for `--env`.
const ENVIRONMENT: &str = "CLOUDFLARE_ENV";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let plan = Plan::read(args)?;
    let (rules, wrangler) = (read(&plan.routes)?, read(&plan.config)?);
    let rules = File::parse(&plan.routes.display().to_string(), &rules)?;
    let wrangler = File::parse(&plan.config.display().to_string(), &wrangler)?;
    let environment = plan.environment.as_deref();
    let bound = plan.origin.clone().or_else(|| checks::bound(&wrangler, environment));
    let mut refused = list(&plan.routes, &checks::of_rules(&rules, bound.as_deref()));
    let faults = checks::of_wrangler(&wrangler, environment, plan.is_routed);
    refused.extend(list(&plan.config, &faults));
    if !refused.is_empty() {
        return Err(refusal(&refused));
    }
    deploy(&plan, bound.as_deref())
}

/// For the build that wrangler calls: refuses the demo's rules where the build is for a deployment.
pub(crate) fn refuse_demo(routes: &Path) -> Result<()> {
    if env::var(DEPLOY).as_deref() != Ok("1") {
        return Ok(());
    }
    let bound = match env::var(ORIGIN) {
        Ok(bound) => Some(bound),
        // wrangler may have been called with the variable set, past `cargo xtask deploy`.
        Err(_) => {
            let config = setup::root().join("wrangler.toml");
            let text = read(&config)?;
            let wrangler = File::parse(&config.display().to_string(), &text)?;
            checks::bound(&wrangler, environment().as_deref())
        }
    };
    let text = read(routes)?;
    let rules = File::parse(&routes.display().to_string(), &text)?;
    let refused = list(routes, &checks::of_rules(&rules, bound.as_deref()));
    if refused.is_empty() { Ok(()) } else { Err(refusal(&refused)) }
}

/// What the arguments say. All of them but `--routes` are wrangler's, and are passed on.
struct Plan {
    routes: PathBuf,
    config: PathBuf,
    environment: Option<String>,
    /// The origin that an argument binds.
    origin: Option<String>,
    /// Whether an argument names a route or a domain.
    is_routed: bool,
    passed: Vec<String>,
}

impl Plan {
    fn read(args: &[String]) -> Result<Self> {
        let root = setup::root();
        let routes = env::var_os("SPILLWAY_ROUTES").map_or(root.join("routes.toml"), PathBuf::from);
        let mut plan = Self {
            routes: absolute(routes)?,
            config: root.join("wrangler.toml"),
            environment: environment(),
            origin: None,
            is_routed: false,
            passed: Vec::new(),
        };
        let mut args = args.iter().cloned();
        while let Some(arg) = args.next() {
            let (name, own) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with('-') => (name, Some(value.to_owned())),
                _ => (arg.as_str(), None),
            };
            let mut value = || own.clone().or_else(|| args.next()).ok_or(USAGE);
            match name {
                "-h" | "--help" => return Err(USAGE.to_owned()),
                "--routes" => plan.routes = absolute(value()?.into())?,
                "-c" | "--config" => plan.config = absolute(value()?.into())?,
                "-e" | "--env" => {
                    let name = value()?;
                    plan.passed.extend(["--env".to_owned(), name.clone()]);
                    plan.environment = Some(name).filter(|name| !name.is_empty());
                }
                _ => {
                    plan.is_routed |= matches!(name, "--route" | "--domain" | "--domains");
                    // `--var` takes more than one.
                    let variable = own.as_deref().unwrap_or(name);
                    let origin = variable.strip_prefix(ORIGIN).and_then(|it| it.strip_prefix(':'));
                    plan.origin = origin.map(str::to_owned).or(plan.origin);
                    plan.passed.push(arg);
                }
            }
        }
        Ok(plan)
    }
}

/// Never returns where wrangler fails: its exit status is ours.
fn deploy(plan: &Plan, bound: Option<&str>) -> Result<()> {
    let root = setup::root();
    setup::npm(&root)?;
    say("npx wrangler deploy");
    let mut npx = process::Command::new("npx");
    npx.args(["wrangler", "deploy", "--config"])
        .arg(&plan.config)
        .args(&plan.passed)
        .current_dir(&root)
        .env("PATH", setup::path_with_node(&root)?)
        .env("SPILLWAY_ROUTES", &plan.routes)
        .env(DEPLOY, "1");
    if let Some(bound) = bound {
        npx.env(ORIGIN, bound);
    }
    let status = npx.status().map_err(|why| format!("npx: {why}"))?;
    if status.success() {
        return Ok(());
    }
    process::exit(status.code().unwrap_or(1))
}

/// An empty name is wrangler's for none.
fn environment() -> Option<String> {
    env::var(ENVIRONMENT).ok().filter(|name| !name.is_empty())
}

fn list(file: &Path, faults: &[Fault]) -> Vec<String> {
    faults.iter().map(|fault| format!("{}:{fault}", file.display())).collect()
}

fn refusal(refused: &[String]) -> String {
    format!("{}\nNothing was deployed: these lines are still the demo's.", refused.join("\n"))
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|why| format!("{}: {why}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Plan {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Plan::read(&args).expect("good arguments")
    }

    #[test]
    fn what_wrangler_is_told_reaches_it() {
        let args = ["--dry-run", "--outdir", "x", "--var", "A:b"];
        let plan = plan(&args);
        assert_eq!(plan.passed, args);
        assert!(!plan.is_routed && plan.origin.is_none());
    }

    #[test]
    fn arguments_that_say_what_the_files_do_not_are_seen() {
        for args in [
            &["--var", "SPILLWAY_ORIGIN:https://o.shop.example"][..],
            &["--var=SPILLWAY_ORIGIN:https://o.shop.example"],
            &["--var", "A:b", "SPILLWAY_ORIGIN:https://o.shop.example", "--minify"],
        ] {
            let plan = plan(args);
            assert_eq!(plan.origin.as_deref(), Some("https://o.shop.example"), "{args:?}");
            assert_eq!(plan.passed, args);
        }
        for args in [&["--route", "shop.example/*"][..], &["--domain=shop.example"]] {
            assert!(plan(args).is_routed, "{args:?}");
        }
        let plan = plan(&["--env=next", "--config", "/w.toml", "--routes", "/r.toml"]);
        assert_eq!(plan.environment.as_deref(), Some("next"));
        assert_eq!((plan.config, plan.routes), ("/w.toml".into(), "/r.toml".into()));
        assert_eq!(plan.passed, ["--env", "next"]);
    }
}
