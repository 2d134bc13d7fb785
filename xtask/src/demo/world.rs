//! Three app shards, each with its sidecar, a consumer, and workerd in front.

use super::processes::Processes;
use crate::setup::{self, Result, say};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A process that is not up by then will not come up.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The shards of `routes.toml` and what each app is loaded with. The story moves the range that both a and b
/// have.
const SHARDS: [(&str, &str); 3] = [("a", "1-10000"), ("b", "9001-20000"), ("c", "20001-30000")];

pub(super) struct World {
    root: PathBuf,
    folder: PathBuf,
    processes: Processes,
    stop: Arc<AtomicBool>,
    /// Ports: apps, sidecars, admin ports of the sidecars.
    apps: [u16; 3],
    sidecars: [u16; 3],
    admins: [u16; 3],
    consumer_admin: u16,
    edge: u16,
}

impl World {
    pub(super) fn start(root: &Path, worker: &Path, stop: Arc<AtomicBool>) -> Result<Self> {
        let folder = root.join(".demo");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let ports = free_ports(11)?;
        let three = |from: usize| [ports[from], ports[from + 1], ports[from + 2]];
        let mut world = Self {
            root: root.to_owned(),
            processes: Processes::new(&folder),
            folder,
            stop,
            apps: three(0),
            sidecars: three(3),
            admins: three(6),
            consumer_admin: ports[9],
            edge: ports[10],
        };
        world.make_map()?;
        say("starting three app shards, their sidecars, a consumer and workerd");
        for shard in 0..SHARDS.len() {
            world.start_app(shard)?;
            world.start_sidecar(shard)?;
        }
        world.start_consumer()?;
        world.start_edge(worker)?;
        let mut addresses: Vec<(String, u16, &str)> = Vec::new();
        for (index, (shard, _)) in SHARDS.iter().enumerate() {
            addresses.push((format!("app {shard}"), world.apps[index], "/healthz"));
            addresses.push((format!("sidecar {shard}"), world.admins[index], "/ready"));
        }
        addresses.push(("the consumer".to_owned(), world.consumer_admin, "/ready"));
        addresses.push(("workerd".to_owned(), world.edge, "/healthz"));
        for (name, port, path) in addresses {
            world.wait_for(&name, port, path)?;
        }
        Ok(world)
    }

    pub(super) fn start_app(&mut self, shard: usize) -> Result<()> {
        let (name, instruments) = SHARDS[shard];
        let mut command = Command::new("python3");
        command
            .args(["-m", "market", "--port", &self.apps[shard].to_string()])
            .args(["--instruments", instruments, "--report-seconds", "3", "--db"])
            .arg(self.database(name))
            .env("MARKET_SECRET", "the demo's apps share their sessions")
            .current_dir(self.root.join("examples/market"));
        self.processes.start(&format!("app-{name}"), &mut command)
    }

    fn spillway(&self, shard: &str, app: u16) -> Command {
        let files = format!("file:{}", self.folder.join("jobs").display());
        let mut command = Command::new(setup::target(&self.root).join("demo/spillway"));
        command
            .current_dir(&self.root)
            .env("SPILLWAY_SECRET", "the-secret-of-the-demo-worth-nothing-elsewhere")
            .env("SPILLWAY_ROUTES", self.rules())
            .env("SPILLWAY_MAP_POLL", "1")
            .env("SPILLWAY_SPOOL", &self.folder)
            .env("SPILLWAY_QUEUE", format!("reports={files}"))
            .env("SPILLWAY_RESULTS", files)
            .env("SPILLWAY_SHARD", shard)
            .env("SPILLWAY_GRACE", "3")
            .env("SPILLWAY_APP", format!("http://127.0.0.1:{app}"));
        let upstreams = SHARDS.iter().zip(self.sidecars);
        let upstreams =
            upstreams.map(|((name, _), port)| format!("app-{name}=http://127.0.0.1:{port}"));
        command.env("SPILLWAY_UPSTREAM", upstreams.collect::<Vec<_>>().join(","));
        command
    }

    /// The demo's rules, with a map that can change while everything runs.
    fn rules(&self) -> PathBuf {
        self.folder.join("routes.toml")
    }

    /// Makes the live map from the ranges in the rules.
    fn make_map(&self) -> Result<()> {
        let own = self.root.join("routes.toml");
        let text =
            std::fs::read_to_string(&own).map_err(|why| format!("{}: {why}", own.display()))?;
        let table = "[shard_map.market_data]";
        let text = text.replace(table, &format!("{table}\nlive = true"));
        let rules = self.rules();
        std::fs::write(&rules, text).map_err(|why| format!("{}: {why}", rules.display()))?;
        self.shards(&["init", "market_data", "--yes"]).map(|_| ())
    }

    /// What `spillway shards` prints, asked of all that follow the map.
    pub(super) fn shards(&self, arguments: &[&str]) -> Result<String> {
        let members = self.admins.into_iter().chain([self.consumer_admin]);
        let members: Vec<_> = members.map(|port| format!("127.0.0.1:{port}")).collect();
        let mut command = self.spillway(SHARDS[0].0, self.apps[0]);
        command.arg("shards").args(arguments);
        // While the map is made nobody runs yet.
        if arguments.first() != Some(&"init") {
            command.env("SPILLWAY_SIDECARS", members.join(","));
        }
        said(&mut command)
    }

    /// Moves the ticks of a range of instruments from one database to another, as a copy that has caught up.
    pub(super) fn move_ticks(
        &self,
        source: &str,
        target: &str,
        (from, until): (u32, u32),
    ) -> Result<()> {
        let lines = format!(
            "import sqlite3\n\
             database = sqlite3.connect({:?}, timeout=10)\n\
             database.execute('ATTACH ? AS source', ({:?},))\n\
             where = 'WHERE instrument_id >= {from} AND instrument_id < {until}'\n\
             with database:\n    \
                 database.execute(f'INSERT INTO ticks (instrument_id, ts, price) SELECT instrument_id, ts, price FROM source.ticks {{where}}')\n    \
                 database.execute(f'DELETE FROM source.ticks {{where}}')\n",
            self.database(target),
            self.database(source)
        );
        said(Command::new("python3").args(["-c", &lines])).map(|_| ())
    }

    /// How many ticks of an instrument lie on a shard.
    pub(super) fn ticks(&self, shard: &str, instrument: u32) -> Result<u64> {
        let lines = format!(
            "import sqlite3\n\
             count = 'SELECT count(*) FROM ticks WHERE instrument_id = ?'\n\
             print(sqlite3.connect({:?}).execute(count, ({instrument},)).fetchone()[0])",
            self.database(shard)
        );
        let count = said(Command::new("python3").args(["-c", &lines]))?;
        count.trim().parse().map_err(|_| format!("no number of ticks: {count}"))
    }

    fn database(&self, shard: &str) -> PathBuf {
        self.folder.join(format!("market-{shard}.db"))
    }

    fn start_sidecar(&mut self, shard: usize) -> Result<()> {
        let (name, _) = SHARDS[shard];
        let mut command = self.spillway(name, self.apps[shard]);
        command
            .arg("proxy")
            .args(["--listen", &format!("127.0.0.1:{}", self.sidecars[shard])])
            .args(["--admin", &format!("127.0.0.1:{}", self.admins[shard])])
            .args(["--trusted-proxy", "127.0.0.1/32", "--threads", "1"]);
        self.processes.start(&format!("sidecar-{name}"), &mut command)
    }

    fn start_consumer(&mut self) -> Result<()> {
        let mut command = self.spillway(SHARDS[0].0, self.apps[0]);
        command.arg("consume").args(["--admin", &format!("127.0.0.1:{}", self.consumer_admin)]);
        self.processes.start("consumer", &mut command)
    }

    fn start_edge(&mut self, worker: &Path) -> Result<()> {
        let config = self.edge_configuration(worker)?;
        let mut command = Command::new(self.root.join("node_modules/.bin/wrangler"));
        command
            .arg("dev")
            .arg("--config")
            .arg(config)
            .args(["--ip", "127.0.0.1", "--port", &self.edge.to_string(), "--inspector-port", "0"])
            .args(["--var", &format!("SPILLWAY_ORIGIN:{}", self.sidecar_url())])
            .arg("--persist-to")
            .arg(self.folder.join("wrangler"))
            .env("PATH", setup::path_with_node(&self.root)?)
            .env("CI", "1")
            .env("WRANGLER_SEND_METRICS", "false")
            .env("WRANGLER_SEND_ERROR_REPORTS", "false")
            .env("CLOUDFLARE_CF_FETCH_ENABLED", "false")
            .current_dir(&self.root);
        self.processes.start("workerd", &mut command)
    }

    /// The repository's own but for what is built: wrangler would build the worker that is deployed.
    fn edge_configuration(&self, worker: &Path) -> Result<PathBuf> {
        let (own, file) = (self.root.join("wrangler.toml"), self.folder.join("wrangler.toml"));
        let failed = |path: &Path, error| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(&own).map_err(|error| failed(&own, error))?;
        let date = text.lines().find(|line| line.starts_with("compatibility_date = "));
        let date = date.ok_or_else(|| format!("{}: no compatibility_date", own.display()))?;
        let text = format!("name = \"spillway-demo\"\nmain = {worker:?}\n{date}\n");
        std::fs::write(&file, text).map_err(|error| failed(&file, error))?;
        Ok(file)
    }

    pub(super) fn wait_for(&mut self, name: &str, port: u16, path: &str) -> Result<()> {
        let until = Instant::now() + START_TIMEOUT;
        let url = format!("http://127.0.0.1:{port}{path}");
        loop {
            self.check_stop()?;
            self.processes.check_alive()?;
            if ureq::get(&url)
                .config()
                .timeout_global(Some(Duration::from_secs(2)))
                .build()
                .call()
                .is_ok()
            {
                return Ok(());
            }
            if Instant::now() > until {
                let folder = self.folder.display();
                return Err(format!(
                    "{name} did not answer {url} within {START_TIMEOUT:?}; logs are in {folder}"
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::SeqCst) { Err("stopped".to_owned()) } else { Ok(()) }
    }

    /// While people look around they may well kill something: that is no reason to end.
    pub(super) fn report_ended(&mut self) {
        for (name, status) in self.processes.take_ended() {
            say(&format!("{name} ended with {status}"));
        }
    }

    pub(super) fn kill_app(&mut self, shard: usize) {
        self.processes.kill(&format!("app-{}", SHARDS[shard].0));
    }

    pub(super) fn restart_app(&mut self, shard: usize) -> Result<()> {
        self.start_app(shard)?;
        self.wait_for("the restarted app", self.apps[shard], "/healthz")
    }

    pub(super) fn edge_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.edge)
    }

    pub(super) fn app_url(&self, shard: usize) -> String {
        format!("http://127.0.0.1:{}", self.apps[shard])
    }

    fn sidecar_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.sidecars[0])
    }

    /// For people.
    pub(super) fn addresses(&self) -> String {
        format!(
            "  dashboard  {}/   (log in as alice / alice, ask for a report)\n  \
             sidecar a  {}/api/prices/15000\n  metrics    http://127.0.0.1:{}/metrics\n  logs       {}",
            self.edge_url(),
            self.sidecar_url(),
            self.admins[0],
            self.folder.display()
        )
    }
}

/// What a command prints that must succeed.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|why| format!("{command:?}: {why}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{command:?}: {}{}", text(&output.stdout), text(&output.stderr)))
}

/// Ports the system gives. They are all held at once, so that they differ, and let go together.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let failed = |error: std::io::Error| format!("no free port on 127.0.0.1: {error}");
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").map_err(failed))
        .collect::<Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr().map_err(failed)?.port())).collect()
}
