//! A real Prometheus on loopback that scrapes the processes of a test.

use crate::{Client, Spillway, eventually, folder, system};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// As often as the shortest ranges of the tests need: ten samples in five seconds, and more.
const INTERVAL: &str = "250ms";

pub struct Prometheus {
    _child: Child,
    _data: TempDir,
    api: Client,
}

impl Prometheus {
    /// Scrapes each process as a job of this name, and evaluates these rules files. A minute of the
    /// rules is a second here: nobody waits for ten minutes to see an alert.
    ///
    /// # Panics
    /// When it does not start: Debian's package `prometheus` has it.
    pub async fn start(targets: &[(&str, &Spillway)], rules: &[&str]) -> Self {
        let data = folder();
        let scrapes: Vec<Value> = targets
            .iter()
            .map(|(job, process)| {
                let target = process.admin().host().to_owned();
                let labels = json!({ "namespace": "market", "job": job, "pod": target });
                json!({ "targets": [target], "labels": labels })
            })
            .collect();
        for file in rules {
            let name = Path::new(file).file_name().expect("a file");
            std::fs::write(data.path().join(name), quick(&text(file))).expect("a rules file");
        }
        let configuration = json!({
            "global": { "scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL },
            "rule_files": ["*.yaml"],
            "scrape_configs": [{ "job_name": "spillway", "static_configs": scrapes }],
        });
        // JSON is YAML.
        let file = data.path().join("prometheus.yml");
        std::fs::write(&file, configuration.to_string()).expect("a configuration");
        let address = free();
        let child = Command::new(system("prometheus", "SPILLWAY_PROMETHEUS"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=warn"])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus is installed: apt install prometheus");
        let api = Client::new(format!("http://{address}"));
        eventually("Prometheus is ready", || async {
            api.try_send("GET", "/-/ready", "").await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        Self { _child: child, _data: data, api }
    }

    /// The series of an expression, as the API has them.
    ///
    /// # Panics
    /// When it is no PromQL.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let form: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.api.get(&format!("/api/v1/query?query={form}")).await.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Labels of the alerts of this name that fire.
    pub async fn firing(&self, alert: &str) -> Vec<Value> {
        let answer = self.api.get("/api/v1/alerts").await.json();
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let is_it = |one: &Value| one["labels"]["alertname"] == alert && one["state"] == "firing";
        alerts.into_iter().filter(is_it).map(|one| one["labels"].clone()).collect()
    }
}

fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{file}: {why}"))
}

/// Ranges and `for:` of minutes become seconds, of hours minutes.
fn quick(rules: &str) -> String {
    let mut quick = String::new();
    let mut digits = false;
    for (at, letter) in rules.char_indices() {
        let ends = !rules[at + letter.len_utf8()..].starts_with(|c: char| c.is_alphanumeric());
        quick.push(match letter {
            'm' if digits && ends => 's',
            'h' if digits && ends => 'm',
            other => other,
        });
        digits = letter.is_ascii_digit();
    }
    quick
}

/// An address that was free a moment ago: Prometheus does not tell which it took.
fn free() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port")
}
