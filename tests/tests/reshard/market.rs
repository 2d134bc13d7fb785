//! A whole move as its users see it: gunicorn and psycopg behind sidecars, and clients that never see an error.

use crate::world::{TABLES, World, numbered};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Client, Database, Postgres, Relay, Setup, Spillway, eventually, installed};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

const SHARDS: [&str; 2] = ["b", "d"];
/// Moves there and back, unless `SPILLWAY_RESHARD_MOVES` says how many.
const MOVES: usize = 2;

/// Two shards: each a database, an application and a sidecar beside it.
struct Market {
    world: World,
    sidecars: Vec<Spillway>,
    _apps: Vec<Child>,
    _services: Vec<Relay>,
}

async fn application(shard: &str, database: &Database) -> (Child, String) {
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|own| own.local_addr()).expect("a port").port();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps");
    let mut command = Command::new(installed("gunicorn"));
    command
        .args([
            "--threads",
            "8",
            "--bind",
            &format!("127.0.0.1:{port}"),
            "market_shards:application",
        ])
        .current_dir(folder)
        .env(format!("SHARD_URL_{}", shard.to_uppercase()), database.url("postgres"))
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let child = command.spawn().expect("gunicorn starts");
    eventually("gunicorn listens", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
    })
    .await;
    (child, format!("http://127.0.0.1:{port}"))
}

impl Market {
    async fn start() -> Self {
        let (source, target) = (Postgres::shared(0), Postgres::shared(1));
        let (source, target) = (source.database().await, target.database().await);
        let world = World::of(source, target, &numbered()).await;
        let mut own =
            Self { world, sidecars: Vec::new(), _apps: Vec::new(), _services: Vec::new() };
        let mut services = BTreeMap::new();
        for shard in SHARDS {
            own.database(shard).sql(TABLES).await;
            services.insert(shard, Relay::new().await);
        }
        for shard in SHARDS {
            let (child, address) = application(shard, own.database(shard)).await;
            let upstreams: Vec<String> = services
                .iter()
                .map(|(shard, to)| format!("app-{shard}=http://{}", to.address()))
                .collect();
            let setup: Setup = Spillway::proxy_to(&numbered(), &address)
                .with("--shard", shard)
                .with("--upstream", &upstreams.join(","))
                .with("--results", &own.world.results())
                .with("--map-poll", "1");
            let sidecar = setup.start().await;
            services[shard].lead_to(&[sidecar.address()]);
            own.world.sidecars.push(sidecar.admin_address().to_owned());
            own.sidecars.push(sidecar);
            own._apps.push(child);
        }
        own._services = services.into_values().collect();
        for sidecar in &own.sidecars {
            eventually("it has started", || async {
                (sidecar.admin().get("/startup").await.status == 200).then_some(())
            })
            .await;
        }
        own
    }

    fn database(&self, shard: &str) -> &Database {
        if shard == "b" { &self.world.source } else { &self.world.target }
    }

    async fn notes(&self, shard: &str) -> Vec<String> {
        let sql =
            "SELECT note FROM prices WHERE instrument_id >= 100 AND instrument_id < 200 ORDER BY 1";
        let rows = self.database(shard).client().await.query(sql, &[]).await.expect("rows");
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// Clients that write and read through every sidecar, at a steady rate.
struct Clients {
    ends: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<(Vec<String>, Vec<String>)>>,
}

impl Clients {
    fn begin(market: &Market) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let tasks = market.sidecars.iter().enumerate().map(|(number, sidecar)| {
            tokio::spawn(ask(sidecar.client(), number, Arc::clone(&ends)))
        });
        let tasks = tasks.collect();
        Self { ends, tasks }
    }

    /// Notes that were acknowledged in the range, and what went wrong.
    async fn end(self) -> (Vec<String>, Vec<String>) {
        self.ends.store(true, Ordering::Relaxed);
        let (mut kept, mut wrong) = (Vec::new(), Vec::new());
        for task in self.tasks {
            let (own, errors) = task.await.expect("no panic");
            kept.extend(own);
            wrong.extend(errors);
        }
        kept.sort();
        (kept, wrong)
    }
}

async fn ask(client: Client, number: usize, ends: Arc<AtomicBool>) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut wrong) = (Vec::new(), Vec::new());
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(8));
    for turn in 0.. {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        pace.tick().await;
        // Half of them lie in the range that moves.
        let key = 50 + (turn * 7) % 200;
        let target = format!("/prices?id={key}");
        let note = format!("write {number} {turn}");
        let written = client.post(&target, note.clone()).await;
        match written.status {
            200 if (100..200).contains(&key) => kept.push(note),
            200 => {}
            status => wrong.push(format!("{note}: {status} {}", written.text())),
        }
        let read = client.get(&target).await;
        if read.status != 200 {
            wrong.push(format!("read {target}: {} {}", read.status, read.text()));
        }
    }
    (kept, wrong)
}

#[tokio::test]
async fn a_range_moves_and_comes_back_and_no_client_sees_it() {
    let market = Market::start().await;
    let clients = Clients::begin(&market);
    let moves = std::env::var("SPILLWAY_RESHARD_MOVES").ok().and_then(|own| own.parse().ok());
    let moves: usize = moves.unwrap_or(MOVES);
    for number in 0..moves {
        let (source, target) = if number % 2 == 0 { ("b", "d") } else { ("d", "b") };
        let to = ["--to", target, "--tables", "prices:instrument_id,orders:instrument_id"];
        let run = [
            &["run", "--yes", "--measure", "1", "--map", "market", "--range", "100..200"],
            &to[..],
        ];
        market.world.succeeds(&run.concat()).await;
        market.world.succeeds(&["finish", "--yes", "--source", source]).await;
    }
    let (kept, wrong) = clients.end().await;
    assert_eq!(wrong, Vec::<String>::new());
    assert!(kept.len() > 100, "{} writes", kept.len());
    let (owner, other) = if moves.is_multiple_of(2) { ("b", "d") } else { ("d", "b") };
    assert_eq!(market.notes(owner).await, kept, "each acknowledged write is at the owner once");
    assert_eq!(market.notes(other).await, Vec::<String>::new());
    let mut held = 0.0;
    for sidecar in &market.sidecars {
        held += sidecar.metric(r#"spillway_shard_held_seconds_count{map="market"}"#).await;
    }
    assert!(held > 0.0, "no write was ever held: the test shows nothing");
    eprintln!("{} writes, {held} of them held", kept.len());
}
