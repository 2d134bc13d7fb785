//! A source with the table of the research, and two new shards.

use crate::cpu;
use std::time::{Duration, Instant};
use support::{Database, Postgres};

/// Those of the servers whose data fits into memory; durable, as commits of the writer are measured. Autovacuum would
/// fall into one way or another by chance.
const SETTINGS: [&str; 5] = [
    "fsync = on",
    "shared_buffers = 512MB",
    "max_wal_size = 8GB",
    "checkpoint_timeout = 1h",
    "autovacuum = off",
];
/// Keys are 1 to this; a third of them moves to each of the new shards.
pub(crate) const KEYS: i64 = 30_000;
/// Prime, so that rows that follow each other have distant keys: the heap is in the order of time.
pub(crate) const STEP: i64 = 7_919;
const TABLE: &str = "CREATE TABLE market_data (id bigint NOT NULL, instrument_id bigint NOT NULL, \
    ts timestamptz NOT NULL, price numeric NOT NULL, volume bigint, venue text)";
/// What is made after the load where it may be.
pub(crate) const INDEXES: &str = "ALTER TABLE market_data ADD PRIMARY KEY (instrument_id, id); \
    CREATE INDEX market_data_ts ON market_data (ts)";

/// A range that moves: its shard's letter, its first key, and the first one behind it.
#[derive(Clone, Copy)]
pub(crate) struct MovingRange {
    pub(crate) shard: &'static str,
    pub(crate) from: i64,
    pub(crate) until: i64,
}

pub(crate) const RANGES: [MovingRange; 2] = [
    MovingRange { shard: "b", from: KEYS / 3 + 1, until: KEYS / 3 * 2 + 1 },
    MovingRange { shard: "c", from: KEYS / 3 * 2 + 1, until: KEYS + 1 },
];

impl MovingRange {
    pub(crate) fn condition(&self) -> String {
        format!("instrument_id >= {} AND instrument_id < {}", self.from, self.until)
    }
}

/// What something took: time, CPU of the servers, and of those who called them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) servers: Duration,
    pub(crate) client: Duration,
}

pub(crate) struct Lab {
    source: Postgres,
    targets: [Postgres; 2],
    template: Database,
    pub(crate) rows: i64,
}

/// One round: its source, as it was filled.
pub(crate) struct Round {
    pub(crate) source: Database,
}

impl Lab {
    pub(crate) async fn start(rows: i64) -> Self {
        let source = Postgres::start(&SETTINGS);
        let targets = [Postgres::start(&SETTINGS), Postgres::start(&SETTINGS)];
        let template = source.database().await;
        let fill = format!(
            "INSERT INTO market_data SELECT n, 1 + n * {STEP} % {KEYS}, timestamptz '2026-01-01' + n * interval '1 ms', \
             (n % 100000) / 100.0, n % 1000, 'XNAS' FROM generate_series(1::bigint, {rows}) n"
        );
        for statement in [TABLE, &fill, INDEXES, "VACUUM (FREEZE, ANALYZE) market_data"] {
            // Each by itself: VACUUM stands in no transaction.
            for one in statement.split("; ") {
                template.sql(one).await;
            }
        }
        Self { source, targets, template, rows }
    }

    /// The source as it was filled, once more.
    pub(crate) async fn round(&self) -> Round {
        let how = format!("TEMPLATE {} STRATEGY file_copy", self.template.name);
        Round { source: self.source.database_with(&how).await }
    }

    /// A database for a range at its new shard, with the table.
    pub(crate) async fn target(&self, number: usize, indexed: bool) -> Database {
        let target = self.targets[number].database().await;
        target.sql(TABLE).await;
        if indexed {
            target.sql(INDEXES).await;
        }
        target
    }

    /// A database of the source with the empty table.
    pub(crate) async fn empty(&self) -> Database {
        let own = self.source.database().await;
        own.sql(TABLE).await;
        own.sql(INDEXES).await;
        own
    }

    pub(crate) async fn drop(&self, number: Option<usize>, database: Database) {
        let server = number.map_or(&self.source, |number| &self.targets[number]);
        let first = Database { port: server.port(), name: "postgres".to_owned() };
        first.sql(&format!("DROP DATABASE {} WITH (FORCE)", database.name)).await;
    }

    /// What was written before is on the disk, and is not counted in what follows.
    pub(crate) async fn settle(&self) {
        for server in self.servers() {
            let first = Database { port: server.port(), name: "postgres".to_owned() };
            first.sql("CHECKPOINT").await;
        }
    }

    fn servers(&self) -> impl Iterator<Item = &Postgres> {
        std::iter::once(&self.source).chain(&self.targets)
    }

    /// CPU time of all servers so far.
    fn cpu(&self) -> Duration {
        let pids: Vec<u32> = self.servers().map(postmaster).collect();
        cpu::of_trees(&pids)
    }

    /// The same without some of the servers' sessions.
    pub(crate) fn cpu_without(&self, sessions: &[u32]) -> Duration {
        self.cpu() - sessions.iter().map(|pid| cpu::of(*pid)).sum::<Duration>()
    }

    /// Does something whose clients are processes that it waits for; these sessions of the servers are not counted.
    pub(crate) async fn cost(&self, sessions: &[u32], work: impl Future<Output = ()>) -> Cost {
        self.settle().await;
        let (client, began) = (cpu::of_ended_children(), Instant::now());
        let servers = self.cpu_without(sessions);
        work.await;
        Cost {
            wall: began.elapsed(),
            servers: self.cpu_without(sessions) - servers,
            client: cpu::of_ended_children() - client,
        }
    }
}

fn postmaster(server: &Postgres) -> u32 {
    let text = std::fs::read_to_string(server.data().join("postmaster.pid")).expect("it runs");
    text.lines().next().and_then(|line| line.parse().ok()).expect("its number")
}
