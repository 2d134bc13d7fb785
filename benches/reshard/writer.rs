//! Clients that write all the while, straight to the owner of a row.

use crate::lab::{KEYS, STEP};
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use support::Database;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Statement};

/// Between two writes of one writer.
const PAUSE: Duration = Duration::from_millis(10);
/// Before a write that was refused goes to the other database.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);
/// Numbers of new rows, above all that were filled in: no two writers have the same.
static NEW: AtomicI64 = AtomicI64::new(1_000_000_000);
/// From one row that is updated to the next, which lies at another page.
const FAR: i64 = 4_283;
/// The gate's answer.
const CLOSED: &str = "55006";
const INSERT: &str = "INSERT INTO market_data VALUES ($1, $2, now(), 1.5, 1, 'XNAS')";
const UPDATE: &str =
    "UPDATE market_data SET price = price + 1 WHERE id = $1 AND instrument_id = $2";

/// What one writer saw.
#[derive(Default)]
pub(crate) struct Written {
    /// Of writes that the first database took which was asked.
    pub(crate) latencies: Vec<Duration>,
    /// Of writes that met a closed gate.
    pub(crate) waited: Vec<Duration>,
    pub(crate) inserted: i64,
}

/// A writer that writes until it is ended.
pub(crate) struct Writer {
    stop: watch::Sender<bool>,
    task: JoinHandle<Written>,
    pids: Vec<u32>,
}

impl Written {
    pub(crate) fn extend(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.waited.extend(other.waited);
        self.inserted += other.inserted;
    }
}

/// One of the databases that may own the rows.
struct Owner {
    client: Client,
    pid: u32,
    insert: Statement,
    update: Statement,
}

impl Owner {
    async fn of(database: &Database) -> Self {
        let client = database.client().await;
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a session");
        let pid = u32::try_from(row.get::<_, i32>(0)).expect("a number of a process");
        let insert = client.prepare(INSERT).await.expect("an insert");
        let update = client.prepare(UPDATE).await.expect("an update");
        Self { client, pid, insert, update }
    }

    /// Whether it took the write.
    async fn writes(&self, is_new: bool, id: i64, key: i64) -> bool {
        let statement = if is_new { &self.insert } else { &self.update };
        match self.client.execute(statement, &[&id, &key]).await {
            Ok(rows) => {
                assert_eq!(rows, 1, "row {id} of {key} was lost");
                true
            }
            Err(why) => {
                let code = why.code().map(|code| code.code().to_owned());
                assert_eq!(code.as_deref(), Some(CLOSED), "{why:?}");
                false
            }
        }
    }
}

impl Writer {
    /// Starts to write rows of these keys; the first of the databases owns them now. Every second write is a new row.
    pub(crate) async fn start(databases: &[&Database], keys: Range<i64>, rows: i64) -> Self {
        let mut owners = Vec::new();
        for database in databases {
            owners.push(Owner::of(database).await);
        }
        let (stop, stopped) = watch::channel(false);
        let pids = owners.iter().map(|owner| owner.pid).collect();
        let task = tokio::spawn(write(owners, keys, rows, stopped));
        Self { stop, task, pids }
    }

    /// Its sessions at the servers.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.pids.clone()
    }

    pub(crate) async fn end(self) -> Written {
        self.stop.send_replace(true);
        self.task.await.expect("the writer did not fail")
    }
}

async fn write(
    owners: Vec<Owner>,
    keys: Range<i64>,
    rows: i64,
    stopped: watch::Receiver<bool>,
) -> Written {
    let (mut own, mut at, mut old) = (Written::default(), 0, 0);
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0_i64.. {
        ticks.tick().await;
        if *stopped.borrow() {
            break;
        }
        let is_new = number % 2 == 0;
        let (id, key) = if is_new {
            (NEW.fetch_add(1, Ordering::Relaxed), keys.start + number % (keys.end - keys.start))
        } else {
            old = next_of(&keys, rows, old);
            (old, key_of(old))
        };
        let (sent, mut was_refused) = (Instant::now(), false);
        while !owners[at].writes(is_new, id, key).await {
            was_refused = true;
            at = (at + 1) % owners.len();
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
        own.inserted += i64::from(is_new);
        let place = if was_refused { &mut own.waited } else { &mut own.latencies };
        place.push(sent.elapsed());
    }
    own
}

fn key_of(id: i64) -> i64 {
    1 + id * STEP % KEYS
}

/// A row of these keys behind another one.
fn next_of(keys: &Range<i64>, rows: i64, mut id: i64) -> i64 {
    loop {
        id = 1 + (id + FAR) % rows;
        if keys.contains(&key_of(id)) {
            return id;
        }
    }
}

/// The number that the next new row will have.
pub(crate) fn next_new() -> i64 {
    NEW.load(Ordering::Relaxed)
}

/// Rows that writers have made since then, as a database has them.
pub(crate) async fn new_rows(database: &Database, since: i64, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM market_data WHERE id >= {since} AND {condition}");
    database.client().await.query_one(&sql, &[]).await.expect("a count").get(0)
}
