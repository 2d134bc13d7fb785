//! The real program, as a process of its own.

use crate::{App, Client, Cloud, PATIENCE};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Of all processes of the tests; long enough to be accepted.
pub const SECRET: &str = "tests-tests-tests-tests-tests-tests";

/// A folder that is gone when the test is.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// `SPILLWAY_BIN`, or the program built now.
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || built("origin-sidecar", "spillway");
    PROGRAM
        .get_or_init(|| std::env::var_os("SPILLWAY_BIN").map_or_else(build, PathBuf::from))
        .clone()
}

/// `SPILLWAY_RESHARD_BIN`, or `reshard` built now.
pub fn reshard() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || built("reshard", "reshard");
    PROGRAM
        .get_or_init(|| std::env::var_os("SPILLWAY_RESHARD_BIN").map_or_else(build, PathBuf::from))
        .clone()
}

/// A program of this repository, built now.
fn built(package: &str, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = std::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", package])
        .current_dir(&root)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "{name} does not build");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join("debug").join(name)
}

/// A program of the system: what the variable says, or found by its name.
pub fn system(name: &str, variable: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| name.into(), PathBuf::from)
}

/// How a command that ends by itself ended.
pub struct Ended {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl From<std::process::Output> for Ended {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command such as `check FILE` to its end.
pub async fn run(arguments: &[&str]) -> Ended {
    run_with(arguments, &[]).await
}

/// The same with these variables in its environment.
pub async fn run_with(arguments: &[&str], environment: &[(String, String)]) -> Ended {
    let mut command = Command::new(program());
    command.args(arguments).envs(environment.iter().cloned());
    command.output().await.expect("the program starts").into()
}

/// A `proxy` or `consume` process.
pub struct Spillway {
    child: Child,
    listen: String,
    admin: String,
    log: Arc<Mutex<String>>,
    _rules: TempDir,
    rules_file: PathBuf,
}

/// What a process is started with.
pub struct Setup {
    command: &'static str,
    rules: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    removed: Vec<String>,
    shell: Option<String>,
    is_quiet: bool,
    /// Whether there is no rules file.
    is_without_rules: bool,
}

impl Spillway {
    /// A sidecar with these rules in front of the app.
    pub fn proxy(rules: &str, app: &App) -> Setup {
        Self::proxy_to(rules, &app.url())
    }

    /// The same in front of any address.
    pub fn proxy_to(rules: &str, app: &str) -> Setup {
        let arguments = ["--listen", "127.0.0.1:0", "--threads", "2", "--app", app];
        Setup {
            command: "proxy",
            rules: rules.to_owned(),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: Vec::new(),
            removed: Vec::new(),
            shell: None,
            is_quiet: false,
            is_without_rules: false,
        }
    }

    /// An admission webhook in the cluster of this API server.
    pub fn webhook(api: &str) -> Setup {
        let arguments = ["--listen", "127.0.0.1:0", "--api", api];
        Setup {
            command: "webhook",
            arguments: arguments.map(str::to_owned).to_vec(),
            ..Self::proxy_to("", "")
        }
    }

    /// A worker with these rules beside the app.
    pub fn consume(rules: &str, app: &App) -> Setup {
        Self::consume_for(rules, &app.url())
    }

    /// The same for any address.
    pub fn consume_for(rules: &str, app: &str) -> Setup {
        Setup {
            command: "consume",
            arguments: vec!["--app".to_owned(), app.to_owned()],
            ..Self::proxy_to(rules, app)
        }
    }

    pub fn client(&self) -> Client {
        Client::new(format!("http://{}", self.listen))
    }

    pub fn admin(&self) -> Client {
        Client::new(format!("http://{}", self.admin))
    }

    /// `127.0.0.1:PORT` of the admin port.
    pub fn admin_address(&self) -> &str {
        &self.admin
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.listen
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Replaces the rules file of the running process.
    pub fn change_rules(&self, rules: &str) {
        std::fs::write(&self.rules_file, rules).expect("the rules file");
    }

    /// A metric's value by its exact series; 0 when it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let page = self.admin().get("/metrics").await.text();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("a running process")
    }

    /// As a node failure would: no signal is handled.
    pub async fn kill(mut self) {
        self.kill_now().await;
    }

    /// The same, when another is to be put in its place.
    pub async fn kill_now(&mut self) {
        self.child.kill().await.expect("the process was running");
    }

    /// Waits for a text in what it logs.
    pub async fn until_said(&self, text: &str) {
        crate::eventually(&format!("{text:?} in the log"), || async {
            self.log.lock().expect("no panic").contains(text).then_some(())
        })
        .await;
    }

    /// What it has logged so far, since it listens; one JSON line per event.
    pub fn said(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    pub async fn terminate(&self) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "SIGTERM was not sent");
    }

    /// As its own preStop hook does: `spillway drain`, to its end.
    pub fn drain(&self) -> impl Future<Output = Ended> + Send + 'static {
        let admin = self.admin.clone();
        async move { run(&["drain", "--admin", &admin]).await }
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> Option<i32> {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("the process ends").expect("a child").code()
    }
}

impl Setup {
    pub fn with(mut self, flag: &str, value: &str) -> Self {
        self.arguments.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// With another rules file.
    pub fn with_rules(mut self, rules: &str) -> Self {
        rules.clone_into(&mut self.rules);
        self
    }

    /// The same process as a consumer.
    pub fn consuming(mut self) -> Self {
        self.command = "consume";
        let listen = ["--listen", "127.0.0.1:0", "--threads", "2"];
        self.arguments.drain(..listen.len());
        self
    }

    /// On that address instead of any.
    pub fn at(mut self, address: &str) -> Self {
        let flag = self.arguments.iter().position(|argument| argument == "--listen");
        let place = flag.and_then(|flag| self.arguments.get_mut(flag + 1));
        *place.expect("every command listens") = address.to_owned();
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Not with what the tests themselves were started with.
    pub fn without(mut self, name: &str) -> Self {
        self.removed.push(name.to_owned());
        self
    }

    /// The embedded queue and results in a folder.
    pub fn jobs(self, queue: &str, folder: &Path) -> Self {
        let files = format!("file:{}", folder.display());
        let spool = folder.display().to_string();
        self.with("--queue", &format!("{queue}={files}"))
            .with("--results", &files)
            .with("--spool", &spool)
    }

    /// A queue and the bucket `results` of a cloud.
    pub fn cloud(self, queue: &str, cloud: &Cloud) -> Self {
        let setup = self
            .with("--queue", &format!("{queue}=sqs:{}", cloud.queue_url(queue)))
            .with("--results", "s3://results/jobs");
        cloud.environment().iter().fold(setup, |setup, (name, value)| setup.env(name, value))
    }

    /// Run by a shell after these commands, which become part of its surroundings.
    pub fn after(mut self, shell: &str) -> Self {
        self.shell = Some(format!("{shell}; exec \"$0\" \"$@\""));
        self
    }

    /// The rules file is not there when it starts.
    pub fn without_rules(mut self) -> Self {
        self.is_without_rules = true;
        self
    }

    /// For a test with thousands of jobs: what it logs is thrown away.
    pub fn quiet(mut self) -> Self {
        self.is_quiet = true;
        self
    }

    fn command(&self, rules: &Path) -> Command {
        let mut command = match &self.shell {
            None => Command::new(program()),
            Some(shell) => {
                let mut command = Command::new("sh");
                command.args(["-c", shell]).arg(program());
                command
            }
        };
        let has_admin = self.arguments.iter().any(|argument| argument == "--admin");
        let admin: &[&str] = if has_admin { &[] } else { &["--admin", "127.0.0.1:0"] };
        command
            .arg(self.command)
            .args(admin)
            .args(&self.arguments)
            .env("SPILLWAY_SECRET", SECRET)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .kill_on_drop(true);
        if self.command != "webhook" {
            command.arg("--routes").arg(rules);
        }
        for name in &self.removed {
            command.env_remove(name);
        }
        command
    }

    /// Starts it and waits until it says that it listens.
    ///
    /// # Panics
    /// When it ends instead; with what it said.
    pub async fn start(self) -> Spillway {
        let rules = folder();
        let rules_file = rules.path().join("routes.toml");
        if !self.is_without_rules {
            std::fs::write(&rules_file, &self.rules).expect("a rules file");
        }
        let mut child =
            self.command(&rules_file).stderr(Stdio::piped()).spawn().expect("the program starts");
        let errors = child.stderr.take().expect("a pipe");
        let mut lines = BufReader::new(errors).lines();
        let mut said = String::new();
        let announced = loop {
            let line =
                tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
            let Some(line) = line.expect("text") else { panic!("the program ended: {said}") };
            let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if json["message"] == "listening" {
                break json;
            }
            said.push_str(&line);
        };
        // The rest is shown with a failing test.
        let log = Arc::new(Mutex::new(String::new()));
        let (kept, is_quiet) = (Arc::clone(&log), self.is_quiet);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if !is_quiet {
                    eprintln!("spillway: {line}");
                    let mut kept = kept.lock().expect("no panic");
                    kept.push_str(&line);
                    kept.push('\n');
                }
            }
        });
        let text = |name: &str| announced[name].as_str().unwrap_or_default().to_owned();
        let (listen, admin) = (text("listen"), text("admin"));
        Spillway { child, listen, admin, log, _rules: rules, rules_file }
    }

    /// Starts it and waits for its end: for starts that must be refused.
    pub async fn refused(self) -> Ended {
        let rules = folder();
        let rules_file = rules.path().join("routes.toml");
        std::fs::write(&rules_file, &self.rules).expect("a rules file");
        let output = self.command(&rules_file).output().await.expect("the program starts");
        Ended {
            code: output.status.code(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
