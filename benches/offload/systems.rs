//! What is compared, and how each is started.

use crate::app::App;
use crate::processes::Process;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::Command;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Embedded,
    Sqs,
    Boto3,
    Celery,
}

impl System {
    pub(crate) const ALL: [Self; 4] = [Self::Embedded, Self::Sqs, Self::Boto3, Self::Celery];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "Spillway, embedded",
            Self::Sqs => "Spillway, SQS and S3",
            Self::Boto3 => "boto3 and gunicorn",
            Self::Celery => "Celery with SQS",
        }
    }
}

const RULES: &str = r#"
    [[route]]
    name    = "reports"
    match   = { path = "/reports", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none" }

    [queue.work]
    path        = "/reports"
    concurrency = 4
"#;

/// The same number of jobs at once for everybody.
const CONCURRENCY: &str = "4";
const CREDENTIALS: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
    ("AWS_REGION", "eu-west-1"),
    ("AWS_DEFAULT_REGION", "eu-west-1"),
];

pub(crate) struct Running {
    system: System,
    pub(crate) address: String,
    pub(crate) producer: Process,
    /// Queue and store.
    cloud: Option<(Process, String)>,
    folder: TempDir,
}

/// What the consumers of all jobs took.
pub(crate) struct Consumed {
    pub(crate) cpu: Duration,
    pub(crate) took: Duration,
}

/// A setting that `cargo xtask bench` gives.
fn setting(name: &str) -> PathBuf {
    std::env::var_os(name)
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask bench offload`"))
}

pub(crate) async fn start(system: System, app: &App) -> Running {
    let folder = tempfile::tempdir_in(setting("BENCH_DISK")).expect("a folder");
    std::fs::write(folder.path().join("routes.toml"), RULES).expect("a rules file");
    let cloud = if system == System::Embedded { None } else { Some(start_cloud().await) };
    let mut running_address = String::new();
    let endpoint = cloud.as_ref().map(|(_, endpoint)| endpoint.as_str());
    let producer = match system {
        System::Embedded | System::Sqs => {
            let mut command = spillway("proxy", app, folder.path(), endpoint);
            command.args(["--listen", "127.0.0.1:0", "--threads", "1"]);
            let (process, line) = Process::start(command, "\"listening\"").await;
            let said: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            running_address = format!("http://{}/reports", said["listen"].as_str().expect("bound"));
            process
        }
        System::Boto3 | System::Celery => {
            let name = if system == System::Boto3 { "boto3_app" } else { "celery_app" };
            let mut command = python(system, app, endpoint.expect("a cloud"), "gunicorn");
            command.args(["--bind", "127.0.0.1:0", "--workers", "1", "--worker-class", "gthread"]);
            command.args(["--threads", "16", "--no-control-socket", &format!("peers:{name}")]);
            let (process, line) = Process::start(command, "Listening at:").await;
            let address = line.split_whitespace().find(|word| word.starts_with("http://"));
            running_address.push_str(address.expect("an address"));
            process
        }
    };
    Running { system, address: running_address, producer, cloud, folder }
}

impl Running {
    /// Starts consumers and lets them run all jobs.
    pub(crate) async fn consume(&mut self, app: &App, jobs: u32) -> Consumed {
        app.reset();
        let endpoint = self.cloud.as_ref().map(|(_, endpoint)| endpoint.as_str());
        let began = Instant::now();
        let consumer = match self.system {
            System::Embedded | System::Sqs => {
                let command = spillway("consume", app, self.folder.path(), endpoint);
                Process::start(command, "\"listening\"").await.0
            }
            System::Boto3 => {
                let mut command = python(self.system, app, endpoint.expect("a cloud"), "python");
                command.args(["-u", "-c"]).arg(FOUR_BY_HAND);
                Process::start(command, "started").await.0
            }
            System::Celery => {
                let mut command = python(self.system, app, endpoint.expect("a cloud"), "celery");
                command.args(["--app", "peers", "worker", "--pool", "threads", "--concurrency"]);
                command.args([CONCURRENCY, "--loglevel", "INFO"]);
                Process::start(command, "ready").await.0
            }
        };
        app.until_asked(jobs).await;
        let took = began.elapsed();
        // The last answers are still to be stored, their messages to be deleted.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Consumed { cpu: consumer.cpu(), took }
    }
}

/// boto3's consumer has no concurrency of its own; four threads are what everybody writes.
const FOUR_BY_HAND: &str = "
import threading, peers
threads = [threading.Thread(target=peers.boto3_consumer) for _ in range(4)]
for thread in threads: thread.start()
print('started')
for thread in threads: thread.join()
";

async fn start_cloud() -> (Process, String) {
    let mut command = Command::new(setting("BENCH_CLOUD"));
    command.args(["work", "results"]);
    let (process, line) = Process::start(command, "listening").await;
    let endpoint = line.rsplit(' ').next().expect("an address").to_owned();
    (process, endpoint)
}

fn spillway(verb: &str, app: &App, folder: &Path, endpoint: Option<&str>) -> Command {
    let mut command = Command::new(setting("SPILLWAY_BIN"));
    let files = format!("file:{}", folder.display());
    let (queue, results) = match endpoint {
        None => (format!("work={files}"), files),
        Some(endpoint) => {
            command.envs(CREDENTIALS).env("AWS_ENDPOINT_URL", endpoint);
            (format!("work=sqs:{endpoint}/000000000000/work"), "s3://results".to_owned())
        }
    };
    command
        .arg(verb)
        .args(["--admin", "127.0.0.1:0", "--app", &app.url, "--queue", &queue])
        .args(["--results", &results, "--spool"])
        .arg(folder)
        .arg("--routes")
        .arg(folder.join("routes.toml"))
        .env("SPILLWAY_SECRET", "bench-bench-bench-bench-bench-bench");
    command
}

fn python(system: System, app: &App, endpoint: &str, program: &str) -> Command {
    let mut command = Command::new(setting("BENCH_PYTHON").join(program));
    command
        .envs(CREDENTIALS)
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("BENCH_QUEUE", format!("{endpoint}/000000000000/work"))
        .env("BENCH_BUCKET", "results")
        .env("BENCH_APP", format!("{}/reports", app.url))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("offload"));
    if system == System::Celery {
        command.env("BENCH_CELERY", "1");
    }
    command
}
