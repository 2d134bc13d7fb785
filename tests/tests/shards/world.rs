//! Two sidecars before each of three shards, the store of their map, and the commands that change it.

use crate::owners::{Owners, Range, SHARDS};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use support::{Client, Cloud, Ended, Relay, Setup, Spillway, eventually, folder, run_with};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};

pub const RULES: &str = r#"
    [[route]]
    name  = "entries"
    match = { path = "/entries" }
    shard = { map = "market", from = ["query:id"], settle = "1s" }

    [[route]]
    name  = "slow"
    match = { path = "/slow" }
    shard = { map = "market", from = ["query:id"], settle = "1s" }

    [[route]]
    name  = "cached"
    match = { path = "/cached", methods = ["GET"] }
    shard = { map = "market", from = ["query:id"] }
    cache = { sidecar = "1h" }

    [[route]]
    name  = "feed"
    match = { path = "/feed" }
    shard = { map = "market", from = ["query:id"] }

    [shard_map.market]
    live     = true
    key_type = "int"
    ranges   = [ { from = 1, shard = "a" }, { from = 10001, shard = "b" }, { from = 20001, shard = "c" } ]
    until    = 30001
    shards   = { a = { upstream = "app-a" }, b = { upstream = "app-b" }, c = { upstream = "app-c" } }
"#;

/// Where the maps lie in the bucket.
pub const STORE: &str = "s3://results/maps";

/// One sidecar, and its own way to the store, so that it can be cut off alone.
pub struct Sidecar {
    pub shard: &'static str,
    pub process: Option<Spillway>,
    pub to_store: Relay,
}

pub struct World {
    pub owners: Owners,
    pub cloud: Cloud,
    pub sidecars: Vec<Sidecar>,
    /// Where each shard is reached, as by the name of a Service.
    services: BTreeMap<&'static str, Relay>,
    /// Numbers of sidecars that no coordinator can reach.
    pub unreachable: BTreeSet<usize>,
    /// Where the application of each shard is.
    pub apps: BTreeMap<&'static str, String>,
    /// How sidecars speak to each other.
    pub scheme: &'static str,
    /// A queue of the cloud that every process is given.
    pub queue: Option<&'static str>,
    rules: String,
    folder: TempDir,
}

/// The signal that no process handles.
const SIGKILL: i32 = 9;

/// Commands that only look.
const LOOKS: [&str; 6] = ["show", "members", "lookup", "log", "export", "key"];

/// A command that changes something asks nothing.
fn with_yes<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let changes = !arguments.iter().any(|argument| LOOKS.contains(argument));
    let end: &[&str] = if changes { &["--yes", "--by", "test"] } else { &[] };
    [arguments, end].concat()
}

impl World {
    /// With a map in the store, and every sidecar started.
    pub async fn start() -> Self {
        Self::start_with(RULES).await
    }

    /// The same with other rules.
    pub async fn start_with(rules: &str) -> Self {
        Self::new(rules).await.started().await
    }

    /// With a map in the store, and every sidecar started.
    pub async fn started(self) -> Self {
        let mut world = self;
        world.shards(&["init", "market"]).await;
        for shard in SHARDS {
            world.add(shard).await;
            world.add(shard).await;
        }
        world
    }

    /// Without map and sidecars.
    pub async fn new(rules: &str) -> Self {
        let (owners, cloud) = (Owners::start().await, Cloud::start().await);
        cloud.bucket("results");
        let (mut services, mut apps) = (BTreeMap::new(), BTreeMap::new());
        for shard in SHARDS {
            services.insert(shard, Relay::new().await);
            apps.insert(shard, owners.get(shard).app.url());
        }
        let (folder, rules) = (folder(), rules.to_owned());
        std::fs::write(folder.path().join("routes.toml"), &rules).expect("a rules file");
        Self {
            owners,
            cloud,
            sidecars: Vec::new(),
            services,
            unreachable: BTreeSet::new(),
            apps,
            scheme: "http",
            queue: None,
            rules,
            folder,
        }
    }

    /// The rules file of coordinators from now on.
    pub fn shards_file(&self, rules: &str) {
        std::fs::write(self.folder.path().join("routes.toml"), rules).expect("a rules file");
    }

    /// A sidecar of this shard, not started yet.
    pub async fn setup(&self, shard: &'static str) -> (Setup, Relay) {
        let to_store = Relay::new().await;
        to_store.lead_to(&[&self.store_address()]);
        let scheme = self.scheme;
        let upstreams = self
            .services
            .iter()
            .map(|(shard, to)| format!("app-{shard}={scheme}://{}", to.address()));
        let mut setup = Spillway::proxy_to(&self.rules, &self.apps[shard])
            .with("--shard", shard)
            .with("--upstream", &upstreams.collect::<Vec<_>>().join(","))
            .with("--results", STORE)
            .with("--map-poll", "1");
        for sidecar in self.running() {
            setup = setup.with("--peers", sidecar.admin_address());
        }
        if let Some(queue) = self.queue {
            let queue = format!("{queue}=sqs:{}", self.cloud.queue_url(queue));
            setup = setup.with("--queue", &queue);
        }
        let own =
            self.cloud.environment().into_iter().filter(|(name, _)| name != "AWS_ENDPOINT_URL_S3");
        for (name, value) in own {
            setup = setup.env(&name, &value);
        }
        let store = format!("http://{}", to_store.address());
        (setup.env("AWS_ENDPOINT_URL_S3", &store), to_store)
    }

    fn store_address(&self) -> String {
        let environment = self.cloud.environment();
        let store = environment.iter().find(|(name, _)| name == "AWS_ENDPOINT_URL_S3");
        store.expect("an address").1.trim_start_matches("http://").to_owned()
    }

    pub async fn add(&mut self, shard: &'static str) {
        self.add_with(shard, |setup| setup).await;
    }

    /// The same, started otherwise.
    pub async fn add_with(&mut self, shard: &'static str, change: impl FnOnce(Setup) -> Setup) {
        let (setup, to_store) = self.setup(shard).await;
        let process = change(setup).start().await;
        started(&process).await;
        self.sidecars.push(Sidecar { shard, process: Some(process), to_store });
        self.lead();
    }

    /// The names of the shards lead to the sidecars that run.
    pub fn lead(&self) {
        for (shard, service) in &self.services {
            let own = self.sidecars.iter().filter(|sidecar| sidecar.shard == *shard);
            let own = own.filter_map(|sidecar| sidecar.process.as_ref().map(Spillway::address));
            service.lead_to(&own.collect::<Vec<_>>());
        }
    }

    pub fn running(&self) -> impl Iterator<Item = &Spillway> {
        self.sidecars.iter().filter_map(|sidecar| sidecar.process.as_ref())
    }

    pub fn sidecar(&self, number: usize) -> &Spillway {
        self.sidecars[number].process.as_ref().expect("it runs")
    }

    pub fn client(&self, number: usize) -> Client {
        self.sidecar(number).client()
    }

    /// Cuts a sidecar off from the store and from coordinators.
    pub fn cut_off(&mut self, number: usize) {
        self.sidecars[number].to_store.cut();
        self.unreachable.insert(number);
    }

    pub fn reconnect(&mut self, number: usize) {
        self.sidecars[number].to_store.lead_to(&[&self.store_address()]);
        self.unreachable.remove(&number);
    }

    /// Runs `spillway shards …` against all sidecars that run and can be reached, to its end.
    pub async fn try_shards(&self, arguments: &[&str]) -> Ended {
        let environment = self.environment();
        run_with(&[&["shards"], &*with_yes(arguments)].concat(), &environment).await
    }

    /// The same without `--yes`, and nobody at the terminal.
    pub async fn shards_unasked(&self, arguments: &[&str]) -> Ended {
        run_with(&[&["shards"], arguments].concat(), &self.environment()).await
    }

    /// The same with another secret.
    pub async fn shards_as(&self, secret: &str, arguments: &[&str]) -> Ended {
        let mut environment = self.environment();
        environment.push(("SPILLWAY_SECRET".to_owned(), secret.to_owned()));
        run_with(&[&["shards"], &*with_yes(arguments)].concat(), &environment).await
    }

    /// What `spillway explain` says of a GET, by this map.
    pub async fn explain(&self, target: &str, map: Option<&str>) -> Ended {
        let file = self.folder.path().join("routes.toml").display().to_string();
        let map: Vec<&str> = map.into_iter().flat_map(|map| ["--map", map]).collect();
        run_with(&[&["explain", "GET", target, "--routes", &file], &*map].concat(), &[]).await
    }

    /// Starts such a command, and kills it as soon as it has said the event; what it has left in its folder is
    /// gone, too. Whether it was killed before it came to its end.
    pub async fn kill_shards_at(&mut self, arguments: &[&str], event: &str) -> bool {
        let mut command = tokio::process::Command::new(support::program());
        command.args(["shards", "--json"]).args(with_yes(arguments)).envs(self.environment());
        command.current_dir(self.folder.path()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let said = format!("\"event\":\"{event}\"");
        while let Some(line) = lines.next_line().await.expect("text") {
            if line.contains(&said) {
                break;
            }
        }
        child.start_kill().expect("it was not waited for");
        let ended = child.wait().await.expect("a child");
        self.folder = folder();
        self.shards_file(&self.rules);
        ended.signal() == Some(SIGKILL)
    }

    /// Of a coordinator.
    fn environment(&self) -> Vec<(String, String)> {
        let file = self.folder.path().join("routes.toml").display().to_string();
        let running = self
            .sidecars
            .iter()
            .enumerate()
            .filter(|(number, _)| !self.unreachable.contains(number));
        let sidecars = running.filter_map(|(_, sidecar)| sidecar.process.as_ref());
        let sidecars: Vec<&str> = sidecars.map(Spillway::admin_address).collect();
        let own = [
            ("SPILLWAY_SECRET", support::SECRET.to_owned()),
            ("SPILLWAY_ROUTES", file),
            ("SPILLWAY_RESULTS", STORE.to_owned()),
            ("SPILLWAY_MAP_POLL", "1".to_owned()),
        ];
        let own = own
            .into_iter()
            .chain((!sidecars.is_empty()).then(|| ("SPILLWAY_SIDECARS", sidecars.join(","))));
        let mut environment = self.cloud.environment();
        environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
        environment
    }

    /// The same, and it must succeed.
    pub async fn shards(&self, arguments: &[&str]) -> String {
        let ended = self.try_shards(arguments).await;
        let said = format!("{arguments:?}: {}{}", ended.output, ended.errors);
        assert_eq!(ended.code, Some(0), "{said}");
        eprintln!("{said}");
        ended.output
    }

    /// Which shard the map in the store gives a key to.
    pub async fn owner(&self, key: i64) -> String {
        let line = self.shards(&["--json", "lookup", "market", &key.to_string()]).await;
        let found: serde_json::Value = serde_json::from_str(line.trim()).expect("one event");
        found["shard"].as_str().expect("an owner").to_owned()
    }

    /// A whole move, data and gates included, as reshard does it.
    pub async fn moves(&self, (from, until): Range, source: &str, target: &str) {
        for step in Step::ALL {
            self.step(step, (from, until), source, target).await;
        }
    }

    /// One step of a move.
    pub async fn step(&self, step: Step, range: Range, source: &str, target: &str) {
        self.before(step, range, source, target);
        self.shards(&words(&step.command(range, target))).await;
    }

    /// What happens to the data before the command of a step.
    pub fn before(&self, step: Step, range: Range, source: &str, target: &str) {
        match step {
            Step::NoReturn => {
                self.owners.close(source, range);
                self.owners.copy(source, target, range);
            }
            Step::Commit => self.owners.open(target, range),
            Step::Announce | Step::Fence => {}
        }
    }
}

pub fn words(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}

/// Waits until the kubelet would let traffic in.
pub async fn started(process: &Spillway) {
    eventually("it has started", || async {
        (process.admin().get("/startup").await.status == 200).then_some(())
    })
    .await;
}

/// The steps of a move, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Announce,
    Fence,
    NoReturn,
    Commit,
}

impl Step {
    pub const ALL: [Self; 4] = [Self::Announce, Self::Fence, Self::NoReturn, Self::Commit];

    /// What `spillway shards` is told.
    pub fn command(self, (from, until): Range, target: &str) -> String {
        match self {
            Self::Announce => format!("announce market --range {from}..{until} --to {target}"),
            Self::Fence => "fence market".to_owned(),
            Self::NoReturn => "no-return market".to_owned(),
            Self::Commit => "commit market".to_owned(),
        }
    }
}
