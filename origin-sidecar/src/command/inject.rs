//! `inject` and `uninject`: read manifests and print changed ones. The `inject` crate makes all
//! decisions.

use super::stop::Stop;
use clap::Args;
use inject::manifest::{self, Document, Report};
use inject::{Mode, Options, Outcome, bypass, component, policy};
use std::io::{Read, Write};
use std::path::PathBuf;

/// What every sidecar gets unless its pod says otherwise: the same for all front ends.
#[derive(Debug, Clone, Args)]
pub struct Sidecar {
    /// Image of the sidecar
    #[arg(long, default_value = "spillway")]
    pub image: String,
    /// `ConfigMap` with routes.toml
    #[arg(long, default_value = "spillway-routes", value_name = "CONFIGMAP")]
    pub rules: String,
    /// `ConfigMap` whose entries are the sidecar's environment (`SPILLWAY_QUEUE`, …)
    #[arg(long, value_name = "CONFIGMAP")]
    pub env_config: Option<String>,
    /// Secret whose entries are the sidecar's environment (`SPILLWAY_SECRET`)
    #[arg(long, value_name = "SECRET")]
    pub env_secret: Option<String>,
    /// More arguments for `spillway proxy`, separated by spaces
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub args: String,
    #[arg(long, default_value = "50m")]
    pub cpu_request: String,
    /// An amount; `none`; or `auto`: none, but 500m where every other container of the pod has one
    #[arg(long, default_value = "auto")]
    pub cpu_limit: String,
    #[arg(long, default_value = "64Mi")]
    pub memory_request: String,
    #[arg(long, default_value = "256Mi")]
    pub memory_limit: String,
    /// Size of the folder in which large results wait
    #[arg(long, default_value = "1Gi")]
    pub spool: String,
    /// Proxies whose X-Forwarded-* fields the sidecar trusts: address blocks and `private`, separated by
    /// commas, or `none`
    #[arg(long, default_value = "private", value_name = "PROXIES")]
    pub trusted_proxy: String,
    /// The sidecar's user: a number; `none`: the image's, or what the cluster puts in; or `auto`: written
    /// down (65532) only where the pod names a user or a group for all of its containers
    #[arg(long, default_value = "auto", value_name = "USER")]
    pub run_as_user: String,
    /// Secrets of a private registry, with commas, for the sidecar's image
    #[arg(long, default_value = "", value_name = "SECRETS")]
    pub pull_secrets: String,
    /// As an ordinary container, for Kubernetes before 1.29
    #[arg(long)]
    pub container_mode: bool,
}

impl Sidecar {
    /// # Errors
    /// Code 78 with every flag whose value does not have its form.
    pub fn options(&self) -> Result<Options, Stop> {
        let options = Options {
            image: self.image.clone(),
            rules: self.rules.clone(),
            env_config: self.env_config.clone(),
            env_secret: self.env_secret.clone(),
            args: inject::options::words(&self.args),
            cpu_request: self.cpu_request.clone(),
            cpu_limit: self.cpu_limit.clone(),
            memory_request: self.memory_request.clone(),
            memory_limit: self.memory_limit.clone(),
            spool: self.spool.clone(),
            trusted_proxy: self.trusted_proxy.clone(),
            run_as_user: self.run_as_user.clone(),
            pull_secrets: self.pull_secrets.clone(),
            is_admission: false,
            is_opt_in: false,
            mode: if self.container_mode { Mode::Container } else { Mode::Native },
        };
        let faults = options.faults();
        if faults.is_empty() { Ok(options) } else { Err(Stop::config(faults.join("\n"))) }
    }
}

#[derive(Debug, Clone, Args)]
pub struct Inject {
    /// Manifests; `-` or nothing is stdin
    pub files: Vec<PathBuf>,
    /// Print faults only, including Services that bypass the sidecar
    #[arg(long)]
    pub check: bool,
    /// Only pods that say `spillway.dev/inject: enabled`, as in a namespace that says `opt-in`
    #[arg(long, conflicts_with = "policy")]
    pub opt_in: bool,
    /// Print a `MutatingAdmissionPolicy` that does the same in the API server (Kubernetes 1.36)
    #[arg(long, conflicts_with_all = ["files", "check", "container_mode"])]
    pub policy: bool,
    /// Print a kustomize Component that does the same to the workloads in the files; without
    /// files, one for workloads with the label `spillway.dev/inject: enabled`
    #[arg(long, conflicts_with_all = ["check", "policy"])]
    pub component: bool,
    #[command(flatten)]
    pub sidecar: Sidecar,
}

/// Adds the sidecar to every pod of the manifests and prints them; a report goes to stderr.
///
/// # Errors
/// Code 78 when a manifest can't be read, a pod that asks for the sidecar is refused, or, with
/// `--check`, anything is wrong at all.
pub fn inject(command: &Inject) -> Result<(), Stop> {
    let options = Options { is_opt_in: command.opt_in, ..command.sidecar.options()? };
    if command.policy {
        return print(&[policy::manifests(&options)]).map_err(Stop::run);
    }
    if command.component && command.files.is_empty() {
        return print(&[component::for_labelled(&options)]).map_err(Stop::run);
    }
    let texts = texts(&command.files)?;
    let documents = documents(&texts)?;
    if command.component {
        return print(&[component::for_workloads(&documents, &options)]).map_err(Stop::run);
    }
    let (mut changed, mut notes) = (Vec::new(), Notes::default());
    for document in &documents {
        let (text, reports) = document.inject(&options);
        reports.iter().for_each(|report| notes.take(report));
        changed.push(text);
    }
    let changed = manifest::beside_others(&documents, changed);
    let after: Vec<Document<'_>> =
        changed.iter().filter_map(|text| manifest::read(text).ok()).flatten().collect();
    for warning in bypass::find(&after) {
        notes.lines.push(format!("warning: {warning}"));
        notes.warnings += 1;
    }
    notes.print().map_err(Stop::run)?;
    if !command.check {
        print(&changed).map_err(Stop::run)?;
    }
    let warnings = if command.check { notes.warnings } else { 0 };
    match notes.refused + warnings {
        0 => Ok(()),
        1 => Err(Stop::config("one fault")),
        count => Err(Stop::config(format!("{count} faults"))),
    }
}

/// Removes the sidecar from the manifests and prints them.
///
/// # Errors
/// Code 78 when a manifest can't be read.
pub fn uninject(files: &[PathBuf]) -> Result<(), Stop> {
    let texts = texts(files)?;
    let mut changed = Vec::new();
    let mut notes = Notes::default();
    let documents = documents(&texts)?;
    for document in &documents {
        let (text, names) = document.uninject();
        notes.lines.extend(names.iter().map(|what| format!("{what}: sidecar removed")));
        changed.push(text);
    }
    notes.print().map_err(Stop::run)?;
    print(&manifest::beside_others(&documents, changed)).map_err(Stop::run)
}

/// The report on stderr.
#[derive(Default)]
struct Notes {
    lines: Vec<String>,
    /// Pods that ask for the sidecar, or have invalid annotations, and do not get it.
    refused: usize,
    warnings: usize,
}

impl Notes {
    fn take(&mut self, report: &Report) {
        let what = &report.what;
        match &report.answer.outcome {
            Outcome::Injected { .. } => self.lines.push(format!("{what}: injected")),
            Outcome::Already => {
                self.lines.push(format!("{what}: injected before, as it should be"))
            }
            Outcome::Refused(refusals) => {
                let is_news = refusals.iter().any(|refusal| refusal.reason.is_fault());
                self.refused += usize::from(is_news || report.answer.is_asked_for);
                for refusal in refusals {
                    self.lines.push(format!("{what}: not injected: {refusal}"));
                }
            }
        }
        for warning in &report.answer.warnings {
            self.lines.push(format!("{what}: warning: {warning}"));
            self.warnings += 1;
        }
    }

    fn print(&self) -> std::io::Result<()> {
        let mut out = std::io::stderr().lock();
        self.lines.iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

/// Names and texts of the files, or of stdin.
fn texts(files: &[PathBuf]) -> Result<Vec<(String, String)>, Stop> {
    let stdin = [PathBuf::from("-")];
    let files = if files.is_empty() { &stdin } else { files };
    let (mut texts, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.display().to_string();
        let text = if name == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(file)
        };
        match text {
            Ok(text) => texts.push((name, text)),
            Err(error) => faults.push(format!("{name}: {error}")),
        }
    }
    if faults.is_empty() { Ok(texts) } else { Err(Stop::config(faults.join("\n"))) }
}

fn documents(texts: &[(String, String)]) -> Result<Vec<Document<'_>>, Stop> {
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    for (name, text) in texts {
        match manifest::read(text) {
            Ok(read) => documents.extend(read),
            Err(found) => faults
                .extend(found.iter().map(|fault| format!("{name}:{}: {}", fault.line, fault.what))),
        }
    }
    if faults.is_empty() { Ok(documents) } else { Err(Stop::config(faults.join("\n"))) }
}

fn print(texts: &[String]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for (index, text) in texts.iter().enumerate() {
        // Only a file's first document may lack the separator, and only the first file may begin
        // without.
        if index > 0 && !text.starts_with("---") {
            writeln!(out, "---")?;
        }
        out.write_all(text.as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(out)?;
        }
    }
    Ok(())
}
