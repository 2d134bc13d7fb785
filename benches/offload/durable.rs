//! Durable sends of the embedded queue beside the same rows written raw: one thread that commits
//! whatever waits, which is as fast as SQLite goes for 64 clients.

use rusqlite::{Connection, params};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use stores::queue::file::FileQueue;
use stores::queue::{Message, Queue};

const CLIENTS: usize = 64;
const TIME: Duration = Duration::from_secs(3);
/// Taken in turns, so that a disk that changes its mind hits both; the median counts.
const ROUNDS: usize = 5;
const BODY_BYTES: usize = 600;

/// Sends a second.
pub(crate) struct Durable {
    pub(crate) queue: f64,
    pub(crate) raw: f64,
}

pub(crate) async fn measure() -> Durable {
    let (mut queue, mut raw) = (Vec::new(), Vec::new());
    // Removed at the very end: freeing a large file keeps the disk busy for seconds.
    let folders: Vec<_> = (0..2 * ROUNDS).map(|_| folder()).collect();
    for pair in folders.chunks(2) {
        let [one, other] = pair else { continue };
        settle().await;
        let path = one.path().to_owned();
        raw.push(tokio::task::spawn_blocking(move || raw_sends(&path)).await.expect("no panic"));
        settle().await;
        queue.push(queue_sends(other.path()).await);
    }
    Durable { queue: median(queue), raw: median(raw) }
}

/// What others left to be written must not be written during the measurement.
async fn settle() {
    let synced = tokio::process::Command::new("sync").status().await;
    assert!(synced.is_ok_and(|status| status.success()), "sync failed");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn folder() -> tempfile::TempDir {
    let disk = std::env::var_os("BENCH_DISK").expect("run by `cargo xtask bench offload`");
    tempfile::tempdir_in(disk).expect("a folder")
}

async fn queue_sends(folder: &Path) -> f64 {
    let queue = Arc::new(FileQueue::open(folder, 5).expect("a queue"));
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                let mut sent = 0_u32;
                while began.elapsed() < TIME {
                    let message = Message { body: "x".repeat(BODY_BYTES), ..Message::default() };
                    queue.send(message).await.expect("sent");
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let mut sent = 0;
    for client in clients {
        sent += client.await.expect("no panic");
    }
    f64::from(sent) / began.elapsed().as_secs_f64()
}

fn raw_sends(folder: &Path) -> f64 {
    let db = Connection::open(folder.join("raw.db")).expect("a file");
    db.pragma_update(None, "journal_mode", "wal").expect("a log");
    db.pragma_update(None, "synchronous", "full").expect("durable");
    db.execute_batch("CREATE TABLE jobs (id INTEGER PRIMARY KEY, body TEXT NOT NULL, visible_at INTEGER NOT NULL) STRICT; CREATE INDEX visible ON jobs (visible_at)").expect("a table");
    let (send, waiting) = channel::<Sender<()>>();
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let send = send.clone();
            std::thread::spawn(move || {
                let (answer, answered) = channel();
                let mut sent = 0_u32;
                while began.elapsed() < TIME {
                    send.send(answer.clone()).expect("the writer runs");
                    answered.recv().expect("the writer answers");
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    drop(send);
    let body = "x".repeat(BODY_BYTES);
    while let Ok(first) = waiting.recv() {
        let batch: Vec<Sender<()>> = std::iter::once(first).chain(waiting.try_iter()).collect();
        db.execute_batch("BEGIN IMMEDIATE").expect("begun");
        let insert = "INSERT INTO jobs (body, visible_at) VALUES (?1, ?2)";
        let mut insert = db.prepare_cached(insert).expect("a statement");
        for _ in &batch {
            insert.execute(params![body, 1]).expect("a row");
        }
        drop(insert);
        db.execute_batch("COMMIT").expect("durable");
        for client in batch {
            // A client whose time is up has gone.
            let _ = client.send(());
        }
    }
    let sent: u32 = clients.into_iter().map(|client| client.join().expect("no panic")).sum();
    f64::from(sent) / began.elapsed().as_secs_f64()
}
