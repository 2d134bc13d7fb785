//! Alerts and dashboard against a real Prometheus that scrapes the real program under load.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::{
    App, Client, Prometheus, Reply, SECRET, Setup, Spillway, eventually, folder, run_with, system,
};
use tokio::task::JoinHandle;

/// Of every feature that has a metric, one.
const RULES: &str = r#"
[[route]]
name = "prices"
match = { path = "/prices/{id}", methods = ["GET"] }
shard = { map = "m", from = ["path:id"] }
cache = { sidecar = "1s", stale_if_error = "1m" }

[[route]]
name = "private"
match = { path = "/private", methods = ["GET"] }
cache = { sidecar = "1s" }

[[route]]
name = "watched"
match = { path = "/watched", methods = ["GET"] }
mode = "observe"
cache = { sidecar = "1s" }

[[route]]
name = "gone"
match = { path = "/gone/{id}", methods = ["GET"] }
shard = { map = "gone", from = ["path:id"] }

[[route]]
name = "ticks"
match = { path = "/ticks/{id}" }
shard = { map = "moving", from = ["path:id"] }

[[route]]
name = "reports"
match = { path = "/reports", methods = ["POST"] }
offload = { queue = "q", when = "always", auth = "none" }

[[route]]
name = "searches"
match = { path = "/searches", methods = ["POST"] }
offload = { queue = "q", when = "slow", after = "5s", auth = "none" }

[queue.q]
notify = { app = "/hooks/ready" }

[shard_map.m]
key_type = "int"
ranges = [{ from = 0, shard = "a" }, { from = 100, shard = "b" }, { from = 200, shard = "c" }]
until = 300
shards = { a = { upstream = "one" }, b = { upstream = "one" }, c = { upstream = "one" } }

[shard_map.moving]
key_type = "int"
live = true
ranges = [{ from = 0, shard = "a" }, { from = 100, shard = "b" }]
shards = { a = {}, b = {} }

[shard_map.gone]
key_type = "int"
ranges = [{ from = 0, shard = "d" }]
shards = { d = { upstream = "nobody" } }
"#;

/// Grafana's choices, as the test makes them.
const CHOICES: [(&str, &str); 4] =
    [("$__rate_interval", "10s"), ("$namespace", ".*"), ("$job", ".*"), ("[1h]", "[60s]")];
/// Between the requests of one client.
const PAUSE: Duration = Duration::from_millis(10);

struct World {
    proxy: Spillway,
    consumer: Spillway,
    prometheus: Prometheus,
    load: Load,
    _app: App,
    _files: tempfile::TempDir,
}

/// Clients that ask until the test is over.
struct Load {
    tasks: Vec<JoinHandle<()>>,
    /// Whether all ask for keys of one shard.
    is_lopsided: Arc<AtomicBool>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// `spillway shards` with the files of the processes.
async fn shards(files: &Path, sidecars: &str, arguments: &[&str]) {
    let file = |name: &str| files.join(name).display().to_string();
    let (results, routes) = (format!("file:{}", files.display()), file("routes.toml"));
    let common = ["--yes", "--results", &results, "--routes", &routes, "--map-poll", "1"];
    let mut words = vec!["shards"];
    words.extend(arguments.iter().chain(&common));
    let environment = [("SPILLWAY_SECRET", SECRET), ("SPILLWAY_SIDECARS", sidecars)];
    run_with(&words, &environment.map(|(name, value)| (name.to_owned(), value.to_owned()))).await;
}

/// Moves a range and takes it back until the test is over; each time a write is held.
async fn moves(files: PathBuf, sidecars: String, client: Client, admin: Client) {
    let step = async |arguments: &[&str]| shards(&files, &sidecars, arguments).await;
    loop {
        step(&["announce", "moving", "--range", "0..50", "--to", "b"]).await;
        step(&["fence", "moving"]).await;
        let release = async {
            eventually("a write is held", || async {
                let page = admin.get("/metrics").await.text();
                page.contains("spillway_shard_held{map=\"moving\"} 1").then_some(())
            })
            .await;
            step(&["abort", "moving"]).await;
        };
        tokio::join!(client.post("/ticks/1", "a tick"), release);
    }
}

impl Load {
    fn start(client: &Client) -> Self {
        let is_lopsided = Arc::new(AtomicBool::new(false));
        let (number, lopsided) = (Arc::new(AtomicU64::new(0)), Arc::clone(&is_lopsided));
        let own = client.clone();
        let prices = tokio::spawn(async move {
            loop {
                let number = number.fetch_add(1, Ordering::Relaxed);
                let id =
                    if lopsided.load(Ordering::Relaxed) { number % 30 } else { number * 7 % 300 };
                // Twice: the second is a hit.
                own.get(&format!("/prices/{id}")).await;
                own.get(&format!("/prices/{id}")).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        let own = client.clone();
        let others = tokio::spawn(async move {
            loop {
                for path in ["/private", "/watched", "/broken", "/prices/999", "/gone/1"] {
                    own.get(path).await;
                }
                own.post("/reports", "a report").await;
                own.post("/searches", "a search").await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { tasks: vec![prices, others], is_lopsided }
    }
}

async fn world(rules: &[&str]) -> World {
    let (app, files) = (App::start().await, folder());
    for id in 0..300 {
        app.on(&format!("/prices/{id}"), Reply::ok("price"));
    }
    for path in ["/watched", "/reports", "/searches", "/hooks/ready"] {
        app.on(path, Reply::ok("done"));
    }
    app.on("/private", Reply::ok("mine").with("cache-control", "no-store"));
    app.on("/broken", Reply::status(500));
    app.on("/ticks/1", Reply::ok("stored"));
    std::fs::write(files.path().join("routes.toml"), RULES).expect("a rules file");
    shards(files.path(), "", &["init", "moving"]).await;
    let up = format!("one={}", app.url());
    let with = |setup: Setup| {
        // Port 9 is that of `discard`: nobody listens there.
        let setup = setup.with("--upstream", &up).with("--upstream", "nobody=http://127.0.0.1:9");
        setup.jobs("q", files.path())
    };
    let proxy = with(Spillway::proxy(RULES, &app)).start().await;
    let consumer = with(Spillway::consume(RULES, &app)).quiet().start().await;
    let targets = [("market", &proxy), ("market-consumer", &consumer)];
    let prometheus = Prometheus::start(&targets, rules).await;
    let mut load = Load::start(&proxy.client());
    let sidecars = [proxy.admin_address(), consumer.admin_address()].join(",");
    let own = (files.path().to_owned(), proxy.client(), proxy.admin());
    load.tasks.push(tokio::spawn(moves(own.0, sidecars, own.1, own.2)));
    World { _app: app, proxy, consumer, prometheus, load, _files: files }
}

/// Title and expression of every query of the dashboard.
fn queries() -> Vec<(String, String)> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s/dashboard/spillway.json");
    let text = std::fs::read_to_string(file).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().expect("a title").to_owned();
            let expr = target["expr"].as_str().expect("an expression");
            queries.push((title, expr.to_owned()));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().expect("annotations") {
        let text = |name: &str| annotation[name].as_str().expect("text").to_owned();
        queries.push((text("name"), text("expr")));
    }
    assert!(queries.len() > 25, "only {} queries", queries.len());
    let chosen = |expr: String| CHOICES.iter().fold(expr, |expr, (a, b)| expr.replace(a, b));
    queries.into_iter().map(|(title, expr)| (title, chosen(expr))).collect()
}

/// A number that a graph can show.
fn is_shown(series: &Value) -> bool {
    let value = series["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
    value.is_some_and(f64::is_finite)
}

#[tokio::test]
async fn every_query_of_the_dashboard_has_data_under_load() {
    let world = world(&[]).await;
    world.proxy.change_rules(&RULES.replace("\"5s\"", "\"6s\""));
    world.proxy.until_said("rules changed").await;
    world.proxy.change_rules("nonsense");
    for (title, query) in queries() {
        eventually(&format!("{title}: {query}"), || async {
            let found = world.prometheus.query(&query).await;
            found.iter().any(is_shown).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_hot_shard_is_told_by_its_name_and_even_load_is_not() {
    let world = world(&["k8s/alerts/recording.yaml", "k8s/alerts/requests.yaml"]).await;
    let ratio = |shard: &str| format!("spillway:shard_load:ratio{{shard={shard:?}}}");
    for shard in ["a", "b", "c"] {
        eventually("even load is seen as such", || async {
            let found = world.prometheus.query(&format!("{} < 1.3 > 0.7", ratio(shard))).await;
            (!found.is_empty()).then_some(())
        })
        .await;
    }
    assert_eq!(world.prometheus.firing("SpillwayHotShard").await, Vec::<Value>::new());
    world.load.is_lopsided.store(true, Ordering::Relaxed);
    let alert = eventually("the alert fires", || async {
        world.prometheus.firing("SpillwayHotShard").await.into_iter().next()
    })
    .await;
    assert_eq!((&alert["map"], &alert["shard"]), (&Value::from("m"), &Value::from("a")));
    assert_eq!(alert["namespace"], "market");
}

#[tokio::test]
async fn promtool_has_nothing_against_the_metrics() {
    let world = world(&[]).await;
    for process in [&world.proxy, &world.consumer] {
        let page = eventually("a page with jobs and requests", || async {
            let page = process.admin().get("/metrics").await.text();
            page.contains("spillway_queue_messages").then_some(page)
        })
        .await;
        let folder = folder();
        let file = folder.path().join("metrics");
        std::fs::write(&file, page).expect("a temporary file");
        let output = tokio::process::Command::new(system("promtool", "SPILLWAY_PROMTOOL"))
            .args(["check", "metrics"])
            .stdin(Stdio::from(std::fs::File::open(&file).expect("what was just written")))
            .output()
            .await
            .expect("promtool is installed: apt install prometheus");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}
