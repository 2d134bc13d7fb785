//! A market as its operators run it: three PostgreSQL shards, three applications behind three sidecars, a consumer of
//! its jobs, and the edge worker in front.

use crate::world::{TABLES, World};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{Client, Database, Edge, Postgres, Relay, Setup, Spillway, eventually, installed};
use tokio::process::{Child, Command};

/// c keeps what it has, b has the range that moves and more, and d is new.
pub const SHARDS: [&str; 3] = ["c", "b", "d"];
/// The least key of b: those below are c's.
pub const FIRST_OF_B: i64 = 50;
/// What lies in the range that moves before anybody writes; other keys than clients write.
const SEED: &str = "INSERT INTO prices (instrument_id, price, note)
    SELECT 150 + n % 50, n, 'seed' FROM generate_series(1, ROWS) n";
/// What a process does that did not hear of a commit: it looks every half second while a range moves. The rest is
/// for machines that do other work.
const UNAWARE: Duration = Duration::from_secs(5);

/// The two forms of docs/shards.md.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Each application knows all databases and takes the one that `X-Shard` names.
    Header,
    /// Each application knows one database, and its sidecar sends on what belongs to others.
    Deployments,
}

/// One move or its way back.
pub struct Switched {
    /// When the old owner's rows may have been read last by somebody who did not know of the new one.
    pub unaware: (Instant, Instant),
    pub pause: Duration,
}

pub struct Market {
    pub world: World,
    /// The database of c.
    third: Database,
    form: Form,
    pub sidecars: Vec<Spillway>,
    consumer: Vec<Spillway>,
    edge: Option<Edge>,
    services: BTreeMap<&'static str, Relay>,
    /// As a load balancer before all sidecars.
    front: Relay,
    _apps: Vec<Child>,
    _servers: [Postgres; 3],
}

fn rules(form: Form) -> String {
    let shards = SHARDS.map(|shard| match form {
        Form::Header => format!("{shard} = {{}}"),
        Form::Deployments => format!("{shard} = {{ upstream = \"app-{shard}\" }}"),
    });
    let shards = shards.join(", ");
    format!(
        r#"
        [[route]]
        name  = "prices"
        match = {{ path = "/prices" }}
        shard = {{ map = "market", from = ["query:id"], settle = "1s" }}

        [[route]]
        name    = "work"
        match   = {{ path = "/work", methods = ["POST"] }}
        shard   = {{ map = "market", from = ["query:id"] }}
        offload = {{ queue = "work", when = "always", auth = "none" }}

        [queue.work]
        concurrency = 4

        [shard_map.market]
        live     = true
        key_type = "int"
        ranges   = [ {{ from = 1, shard = "c" }}, {{ from = {FIRST_OF_B}, shard = "b" }} ]
        until    = 1001
        shards   = {{ {shards} }}
    "#
    )
}

/// An application that knows these databases.
async fn application(databases: &[(&str, &Database)]) -> (Child, String) {
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|own| own.local_addr()).expect("a port").port();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps");
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(installed("gunicorn"));
    command
        .args(["--threads", "8", "--bind", &address, "market_shards:application"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .kill_on_drop(true);
    for (shard, database) in databases {
        command.env(format!("SHARD_URL_{}", shard.to_uppercase()), database.url("postgres"));
    }
    let child = command.spawn().expect("gunicorn starts");
    eventually("gunicorn listens", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
    })
    .await;
    (child, format!("http://{address}"))
}

impl Market {
    /// With rows in the range that moves.
    pub async fn start(form: Form, rows: usize) -> Self {
        // Servers of its own: a transaction that takes long here would be in the way of other tests' moves.
        let [third, source] = [(); 2].map(|()| Postgres::start(&[]));
        let target = Postgres::start_taker(&[]);
        let mut own = Self {
            world: World::of(source.database().await, target.database().await, &rules(form)).await,
            third: third.database().await,
            form,
            sidecars: Vec::new(),
            consumer: Vec::new(),
            edge: None,
            services: BTreeMap::new(),
            front: Relay::new().await,
            _apps: Vec::new(),
            _servers: [third, source, target],
        };
        for shard in SHARDS {
            own.database(shard).sql(TABLES).await;
            own.services.insert(shard, Relay::new().await);
        }
        own.grow("b", rows).await;
        for shard in SHARDS {
            own.add(shard).await;
        }
        let sidecars: Vec<&str> = own.sidecars.iter().map(Spillway::address).collect();
        own.front.lead_to(&sidecars);
        for process in own.sidecars.iter().chain(&own.consumer) {
            own.world.sidecars.push(process.admin_address().to_owned());
            eventually("it has started", || async {
                (process.admin().get("/startup").await.status == 200).then_some(())
            })
            .await;
        }
        own
    }

    /// More rows of the range.
    pub async fn grow(&self, shard: &str, rows: usize) {
        self.database(shard).sql(&SEED.replace("ROWS", &rows.to_string())).await;
        self.database(shard).sql("ANALYZE prices").await;
    }

    /// An application and its sidecar; beside c's, which is never in a move, the consumer.
    async fn add(&mut self, shard: &'static str) {
        let known = SHARDS.map(|other| (other, self.database(other)));
        let known =
            known.into_iter().filter(|(other, _)| self.form == Form::Header || *other == shard);
        let (app, address) = application(&known.collect::<Vec<_>>()).await;
        self._apps.push(app);
        let sidecar = self.process(shard, &address).start().await;
        self.services[shard].lead_to(&[sidecar.address()]);
        self.sidecars.push(sidecar);
        if shard == "c" {
            self.consumer.push(self.process(shard, &address).consuming().start().await);
        }
    }

    fn process(&self, shard: &str, app: &str) -> Setup {
        let queue = format!("work=file:{}", self.world.path("queue"));
        let setup = Spillway::proxy_to(&rules(self.form), app)
            .with("--results", &self.world.results())
            .with("--queue", &queue)
            .with("--spool", &self.world.path("spool"))
            .with("--map-poll", "1");
        if self.form == Form::Header {
            return setup;
        }
        let services = self.services.iter();
        let upstreams: Vec<String> =
            services.map(|(shard, to)| format!("app-{shard}=http://{}", to.address())).collect();
        setup.with("--shard", shard).with("--upstream", &upstreams.join(","))
    }

    /// Puts the edge worker before all sidecars.
    pub async fn with_edge(mut self) -> Self {
        let origin = format!("http://{}", self.front.address());
        let edge = Edge::start(&rules(self.form), &origin).await;
        // The first request compiles the worker.
        let first = edge.client().get("/prices?id=1&note=none").await;
        assert_eq!(first.text(), "0", "{}", first.status);
        self.edge = Some(edge);
        self
    }

    /// Every way in: the sidecars, then the edge where there is one.
    pub fn ways(&self) -> Vec<Client> {
        let sidecars = self.sidecars.iter().map(Spillway::client);
        sidecars.chain(self.edge.as_ref().map(Edge::client)).collect()
    }

    pub fn database(&self, shard: &str) -> &Database {
        match shard {
            "b" => &self.world.source,
            "c" => &self.third,
            _ => &self.world.target,
        }
    }

    /// What clients wrote to this shard, with its keys.
    pub async fn written(&self, shard: &str) -> BTreeSet<(i64, String)> {
        let sql = "SELECT instrument_id, note FROM prices WHERE note <> 'seed'";
        let rows = self.database(shard).client().await.query(sql, &[]).await.expect("rows");
        let written: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let (count, written) = (written.len(), written.into_iter().collect::<BTreeSet<_>>());
        assert_eq!(written.len(), count, "a write was done twice at {shard}");
        written
    }

    /// How many of the rows are at this shard that were there before anybody wrote.
    pub async fn seeds(&self, shard: &str) -> usize {
        let sql = "SELECT count(*) FROM prices WHERE note = 'seed'";
        let row = self.database(shard).client().await.query_one(sql, &[]).await.expect("a row");
        usize::try_from(row.get::<_, i64>(0)).expect("a count")
    }

    /// Gives the range to another shard.
    pub async fn moves(&self, target: &str) -> Switched {
        let run = ["run", "--yes", "--json", "--measure", "1", "--map", "market"];
        let tables = "prices:instrument_id,orders:instrument_id";
        let what = ["--range", "100..200", "--to", target, "--tables", tables];
        self.switches(&[&run[..], &what].concat(), r#""step":"fencing""#).await
    }

    /// The way back of a move from b.
    pub async fn rolls_back(&self) -> Switched {
        let rollback = ["rollback", "--yes", "--json", "--source", "b"];
        self.switches(&rollback, r#""step":"back-fencing""#).await
    }

    async fn switches(&self, arguments: &[&str], fence: &str) -> Switched {
        let mut running = self.world.starts(arguments);
        let is_fenced = running.says(fence).await;
        let from = Instant::now();
        let ended = running.end().await;
        let said = format!("{arguments:?}: {}{}", ended.output, ended.errors);
        assert!(is_fenced && ended.code == Some(0), "{said}");
        let events = ended.output.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut pauses = events.filter(|event: &serde_json::Value| event["event"] == "pause");
        let pause = pauses.find_map(|event| event["milliseconds"].as_u64()).expect(&said);
        Switched { unaware: (from, Instant::now() + UNAWARE), pause: Duration::from_millis(pause) }
    }

    /// How many writes have waited for a move.
    pub async fn held(&self) -> f64 {
        let mut held = 0.0;
        for sidecar in &self.sidecars {
            held += sidecar.metric(r#"spillway_shard_held_seconds_count{map="market"}"#).await;
            let waits = sidecar.metric(r#"spillway_shard_held{map="market"}"#).await;
            assert!(waits < 0.5, "{waits} writes wait and nobody answers them");
        }
        held
    }
}
