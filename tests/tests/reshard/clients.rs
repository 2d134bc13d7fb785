//! Clients that write while a range moves.

use crate::world::World;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use support::Database;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

/// The gate of a range that moves, and the CHECK of a table that keeps the ranges of others out.
const REFUSED: [&str; 2] = ["55006", "23514"];
/// How long a transaction takes that does not end with its first statement: longer than what follows a gate that closes.
const TRANSACTION: Duration = Duration::from_millis(150);

/// Clients that write in the range and beside it, until they are told to stop.
pub struct Writers {
    ends: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    pub fn begin(database: &Database) -> Self {
        let (ends, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let tasks = (0..2_i64).map(|number| {
            let (ends, acknowledged) = (Arc::clone(&ends), Arc::clone(&acknowledged));
            let database = database.clone();
            tokio::spawn(async move {
                let client = database.client().await;
                let mut turn = number;
                while !ends.load(Ordering::Relaxed) {
                    turn += 2;
                    let key = 95 + turn % 110;
                    let statement = match turn % 4 {
                        0 => "UPDATE prices SET price = price + 1 WHERE instrument_id = $1 AND id % 7 = 0",
                        1 => "DELETE FROM prices WHERE ctid = (SELECT ctid FROM prices WHERE instrument_id = $1 ORDER BY id LIMIT 1)",
                        _ => "INSERT INTO prices (instrument_id, price, note) VALUES ($1, 3, 'written meanwhile')",
                    };
                    client.execute(statement, &[&key]).await.expect("the source takes writes");
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let tasks = tasks.collect();
        Self { ends, acknowledged, tasks }
    }

    /// How many writes were acknowledged.
    pub async fn end(self) -> i64 {
        self.ends.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no write failed");
        }
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// Clients that know neither map nor sidecar: each writes where it is not refused. At no time may both databases take
/// its writes, and what was acknowledged must be found once where the range is.
pub struct Strays {
    ends: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Strays {
    pub fn begin(world: &World) -> Self {
        static COUNT: AtomicI64 = AtomicI64::new(0);
        let ends = Arc::new(AtomicBool::new(false));
        let tasks = [false, true].map(|takes_time| {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let ends = Arc::clone(&ends);
            let databases = [world.source.clone(), world.target.clone()];
            tokio::spawn(async move {
                let mut clients = [databases[0].client().await, databases[1].client().await];
                let (mut kept, mut at, mut turn) = (Vec::new(), 0, 0);
                while !ends.load(Ordering::Relaxed) {
                    turn += 1;
                    let note = format!("stray {number} {turn}");
                    let key = 100_i64 + turn % 100;
                    match insert(&clients[at], key, &note, takes_time).await {
                        Ok(()) => kept.push(note),
                        Err(why)
                            if why.code().is_some_and(|code| REFUSED.contains(&code.code())) =>
                        {
                            at = 1 - at;
                        }
                        // The server has crashed. Nobody knows whether it had written the row.
                        Err(why) => {
                            let code = why.code().map_or("", |code| code.code());
                            assert!(code.is_empty() || code.starts_with("57P"), "{why:?}");
                            clients[at] = databases[at].client_in_time().await;
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                kept
            })
        });
        Self { ends, tasks: tasks.into() }
    }

    /// Every write that was acknowledged is there once.
    pub async fn end_at(self, database: &Database) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        let mut kept = Vec::new();
        for task in self.tasks {
            kept.extend(task.await.expect("it was refused by a gate or a CHECK alone"));
        }
        let sql = "SELECT note FROM prices WHERE note LIKE 'stray %' AND instrument_id >= 100 AND instrument_id < 200";
        let rows = database.client().await.query(sql, &[]).await.expect("rows");
        let mut found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        kept.sort();
        found.sort();
        let lost: Vec<&String> =
            kept.iter().filter(|note| found.binary_search(note).is_err()).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "a write is there twice");
        kept.len()
    }
}

/// Writes a row, at once or in a transaction that ends some time after: a gate that closes meanwhile waits for it.
async fn insert(client: &Client, key: i64, note: &str, takes_time: bool) -> Result<(), Error> {
    let insert = "INSERT INTO prices (instrument_id, price, note) VALUES ($1, 1, $2)";
    if !takes_time {
        return client.execute(insert, &[&key, &note]).await.map(drop);
    }
    client.batch_execute("BEGIN").await?;
    let inserted = client.execute(insert, &[&key, &note]).await;
    if inserted.is_ok() {
        tokio::time::sleep(TRANSACTION).await;
    }
    client.batch_execute(if inserted.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    inserted.map(drop)
}
