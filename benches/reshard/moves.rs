//! `reshard` as a person calls it, and what each of its steps costs.

use crate::cpu;
use crate::lab::{Cost, KEYS, Lab, MovingRange, RANGES, Round};
use crate::writer::{self, Writer, Written};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{Database, SECRET, run_with};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// All keys are those of shard a.
const RULES: &str = r#"
    [[route]]
    name  = "prices"
    match = { path = "/prices" }
    shard = { map = "market", from = ["query:id"] }

    [shard_map.market]
    live     = true
    key_type = "int"
    ranges   = [ { from = 1, shard = "a" } ]
    until    = 30001
    shards   = { a = { upstream = "app-a" }, b = { upstream = "app-b" }, c = { upstream = "app-c" } }
"#;

/// Shorter parts of a move are not said.
const PART_MIN: Duration = Duration::from_millis(100);

/// What both moves took, and what clients saw.
#[derive(Default)]
pub(crate) struct Moved {
    /// Looks for faults, a second of it to measure the WAL.
    pub(crate) preflight: Duration,
    /// From the first gate until the target follows.
    pub(crate) brought: Cost,
    pub(crate) verified: Cost,
    /// From there until the source follows.
    pub(crate) switched: Cost,
    /// Compares again, and removes the source's rows.
    pub(crate) finished: Cost,
    pub(crate) peak_kib: u64,
    pub(crate) pauses: Vec<Duration>,
    pub(crate) inside: Written,
    pub(crate) outside: Written,
}

/// A live map in a folder.
pub(crate) struct Map {
    folder: TempDir,
}

/// What was true when the tool printed something.
struct Mark {
    name: String,
    at: Instant,
    servers: Duration,
    tool: Duration,
}

impl Map {
    pub(crate) async fn init() -> Self {
        let folder = support::folder();
        std::fs::write(folder.path().join("routes.toml"), RULES).expect("a rules file");
        let own = Self { folder };
        let init = run_with(&["shards", "init", "market", "--yes"], &own.environment()).await;
        assert_eq!(init.code, Some(0), "{}{}", init.output, init.errors);
        own
    }

    fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let own = [
            ("SPILLWAY_SECRET", SECRET.to_owned()),
            ("SPILLWAY_MAP_POLL", "1".to_owned()),
            ("SPILLWAY_ROUTES", path("routes.toml")),
            ("SPILLWAY_RESULTS", format!("file:{}", path("results"))),
            ("RESHARD_SPILLWAY", support::program().display().to_string()),
        ];
        own.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// `reshard COMMAND` between these databases.
    fn command(&self, command: &str, source: &Database, to: (&str, &Database)) -> Command {
        let program: PathBuf = support::reshard();
        let mut own = Command::new(program);
        own.args([command, "--yes", "--json"]).envs(self.environment());
        own.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        for (shard, database) in [("a", source), to] {
            own.arg("--shard").arg(format!("{shard}={}", database.url("postgres")));
        }
        own
    }

    /// Brings a range to its new shard.
    pub(crate) fn run(&self, source: &Database, range: &MovingRange, target: &Database) -> Command {
        let mut own = self.command("run", source, (range.shard, target));
        own.args(["--measure", "1", "--accept", "members-unknown", "--map", "market"]);
        own.args(["--to", range.shard, "--tables", "market_data:instrument_id"]);
        own.arg("--range").arg(format!("{}..{}", range.from, range.until));
        own
    }

    /// Ends a move of shard a: `finish`, `abort`.
    pub(crate) fn end(&self, command: &str, source: &Database, to: (&str, &Database)) -> Command {
        let mut own = self.command(command, source, to);
        own.args(["--source", "a"]);
        own
    }
}

/// Runs a command to its end, which must be a good one.
pub(crate) async fn succeeds(mut command: Command) {
    let status = command.stdout(Stdio::null()).status().await.expect("reshard");
    assert!(status.success(), "{command:?}");
}

/// Both ranges, one move after the other, with writers inside and outside of the range.
pub(crate) async fn both(lab: &Lab, round: &Round) -> Moved {
    let (map, mut moved) = (Map::init().await, Moved::default());
    for (number, range) in RANGES.iter().enumerate() {
        let target = lab.target(number, true).await;
        one(lab, &map, (range, &round.source, &target), &mut moved).await;
        lab.drop(Some(number), target).await;
    }
    moved
}

async fn one(
    lab: &Lab,
    map: &Map,
    (range, source, target): (&MovingRange, &Database, &Database),
    moved: &mut Moved,
) {
    lab.settle().await;
    let since = writer::next_new();
    let outside = Writer::start(&[source], 1..KEYS / 3 + 1, lab.rows).await;
    let inside = Writer::start(&[source, target], range.from..range.until, lab.rows).await;
    let mut command = map.run(source, range, target);
    let writers = [outside.pids(), inside.pids()].concat();
    let servers = || lab.cpu_without(&writers);
    let marks = follow(&mut command, &servers, moved).await;
    let (outside, inside) = (outside.end().await, inside.end().await);
    let at = |name: &str| {
        let own = marks.iter().find(|mark| mark.name == name);
        own.unwrap_or_else(|| panic!("no {name}"))
    };
    moved.preflight += at("begins").at - at("").at;
    moved.brought.add(at("begins"), at("following"));
    moved.verified.add(at("following"), at("verified"));
    moved.switched.add(at("verified"), at("switched"));
    let there = writer::new_rows(target, since, &range.condition()).await;
    assert_eq!(there, inside.inserted, "rows that were acknowledged and are at the target");
    moved.inside.extend(inside);
    moved.outside.extend(outside);
    let end = map.end("finish", source, (range.shard, target));
    moved.finished.sum(lab.cost(&[], succeeds(end)).await);
}

/// Runs the tool to its end, which must be a good one; what was true at each line that it printed.
async fn follow(
    command: &mut Command,
    servers: &impl Fn() -> Duration,
    moved: &mut Moved,
) -> Vec<Mark> {
    let mark = |name: &str, tool: Duration| Mark {
        name: name.to_owned(),
        at: Instant::now(),
        servers: servers(),
        tool,
    };
    let mut marks = vec![mark("", Duration::ZERO)];
    let mut child = command.spawn().expect("reshard");
    let pid = child.id().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    while let Some(line) = lines.next_line().await.expect("a line") {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        if let Some(pause) = line["milliseconds"].as_u64() {
            moved.pauses.push(Duration::from_millis(pause));
        }
        let name =
            [&line["step"], &line["event"]].into_iter().find_map(Value::as_str).unwrap_or_default();
        marks.push(mark(name, cpu::of(pid)));
        moved.peak_kib = moved.peak_kib.max(cpu::peak_kib(pid).unwrap_or(0));
    }
    let status = child.wait().await.expect("it ends");
    assert!(status.success(), "{command:?}: {status}");
    say_parts(&marks);
    marks
}

/// What came between two lines that the tool printed, where it took time.
fn say_parts(marks: &[Mark]) {
    for pair in marks.windows(2) {
        let (from, to) = (&pair[0], &pair[1]);
        let mut part = Cost::default();
        part.add(from, to);
        if part.wall >= PART_MIN {
            crate::said(&format!("  {} to {}", from.name, to.name), part);
        }
    }
}

impl Cost {
    fn add(&mut self, from: &Mark, to: &Mark) {
        self.sum(Self {
            wall: to.at - from.at,
            servers: to.servers.saturating_sub(from.servers),
            client: to.tool - from.tool,
        });
    }

    pub(crate) fn sum(&mut self, other: Self) {
        self.wall += other.wall;
        self.servers += other.servers;
        self.client += other.client;
    }
}
