//! The queue and the results in a directory: the contract, and what several processes and crashes
//! do to it.

use super::directory::Directory;
use super::{queue_contract, results_contract};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use stores::queue::file::FileQueue;
use stores::queue::{Message, Queue};
use stores::results::dir::DirResults;
use stores::results::{Condition, Results};

const WAIT: Duration = Duration::from_secs(20);
const VISIBILITY: Duration = Duration::from_secs(600);

fn queue(dir: &Path) -> FileQueue {
    FileQueue::open(dir, queue_contract::MAX_RECEIVES).expect("a queue")
}

fn message(body: &str) -> Message {
    Message { body: body.to_owned(), ..Message::default() }
}

async fn bodies(queue: &FileQueue, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let messages = queue.receive(10, WAIT, VISIBILITY).await.expect("a receive");
        assert!(!messages.is_empty(), "only {bodies:?} came");
        bodies.extend(messages.into_iter().map(|message| message.body));
    }
    bodies.sort();
    bodies
}

#[tokio::test]
async fn the_file_queue_keeps_the_contract() {
    let mut faults = Vec::new();
    for (name, script) in queue_contract::CASES.iter().chain(queue_contract::RECEIPTS) {
        let dir = Directory::new();
        if let Err(fault) = queue_contract::run(&queue(dir.path()), script).await {
            faults.push(format!("{name}\n    {fault}"));
        }
    }
    assert!(faults.is_empty(), "\n  {}", faults.join("\n  "));
}

#[tokio::test]
async fn the_directory_keeps_the_contract() {
    let mut faults = Vec::new();
    for (name, script) in results_contract::CASES {
        let (dir, spool) = (Directory::new(), Directory::new());
        let results: Arc<dyn Results> = Arc::new(DirResults::open(dir.path()).expect("a store"));
        if let Err(fault) = results_contract::run(&results, spool.path(), script).await {
            faults.push(format!("{name}\n    {fault}"));
        }
    }
    assert!(faults.is_empty(), "\n  {}", faults.join("\n  "));
}

#[tokio::test]
async fn two_handles_are_one_queue() {
    let dir = Directory::new();
    let (one, other) = (queue(dir.path()), queue(dir.path()));
    let (received, sent) =
        tokio::join!(one.receive(1, WAIT, VISIBILITY), other.send(message("late")));
    sent.expect("sent");
    let received = received.expect("received").remove(0);
    assert_eq!(received.body, "late");
    assert!(other.receive(1, Duration::ZERO, VISIBILITY).await.expect("received").is_empty());
    other.delete(&received.receipt).await.expect("deleted by the other handle");
    assert_eq!(one.depth().await.expect("the depth").in_flight, 0);
}

#[tokio::test]
async fn two_handles_never_receive_the_same_message() {
    let dir = Directory::new();
    let (one, other) = (queue(dir.path()), queue(dir.path()));
    for at in 0..100 {
        one.send(message(&format!("{at:03}"))).await.expect("sent");
    }
    let take = async |queue: &FileQueue| {
        let mut bodies = Vec::new();
        loop {
            let messages = queue.receive(3, Duration::ZERO, VISIBILITY).await.expect("received");
            if messages.is_empty() {
                return bodies;
            }
            bodies.extend(messages.into_iter().map(|message| message.body));
        }
    };
    let (mut bodies, more) = tokio::join!(take(&one), take(&other));
    bodies.extend(more);
    assert_eq!(bodies.len(), 100);
    assert_eq!(bodies.into_iter().collect::<HashSet<_>>().len(), 100);
}

#[tokio::test]
async fn a_receive_given_up_leaves_the_message_to_the_next() {
    let dir = Directory::new();
    let queue = queue(dir.path());
    queue.send(message("a")).await.expect("sent");
    for _ in 0..20 {
        let mut receive = queue.receive(1, WAIT, VISIBILITY);
        // One poll hands the order to the writer; then it is dropped at some point of its work.
        tokio::select! {
            biased;
            received = &mut receive => panic!("the writer answered within one poll: {received:?}"),
            () = std::future::ready(()) => {}
        }
    }
    let received = queue.receive(1, WAIT, VISIBILITY).await.expect("received");
    assert_eq!((received.len(), received[0].receives), (1, 1));
}

#[tokio::test]
async fn a_disk_that_stands_still_refuses_instead_of_piling_up() {
    let dir = Directory::new();
    let queue = Arc::new(queue(dir.path()));
    let lock = rusqlite::Connection::open(dir.path().join("queue.db")).expect("the file");
    lock.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    let mut sends = tokio::task::JoinSet::new();
    for at in 0..2000 {
        let queue = queue.clone();
        sends.spawn(async move { queue.send(message(&at.to_string())).await });
    }
    let mut refused = 0;
    // Those refused answer first: the others wait for the lock.
    while refused < 2000 - 1024 - 2 * 256 {
        let outcome = sends.join_next().await.expect("a send").expect("no panic");
        assert_eq!(outcome.expect_err("the disk stands still").name, "queue-full");
        refused += 1;
    }
    lock.execute_batch("ROLLBACK").expect("the lock back");
    let outcomes = sends.join_all().await;
    let sent = outcomes.into_iter().filter(|outcome| outcome.is_ok()).count();
    assert!(sent >= 1024, "{sent}");
    assert_eq!(queue.depth().await.expect("the depth").visible, sent as u64);
}

#[tokio::test]
async fn a_file_of_another_format_is_refused() {
    let dir = Directory::new();
    drop(queue(dir.path()));
    drop(DirResults::open(dir.path()).expect("a store"));
    for name in ["queue.db", "results.db"] {
        let db = rusqlite::Connection::open(dir.path().join(name)).expect("the file");
        db.pragma_update(None, "user_version", 99).expect("another format");
    }
    let error = FileQueue::open(dir.path(), 1).err().expect("format 99");
    assert!(error.contains("format 99") && error.contains("queue.db"), "{error}");
    let error = DirResults::open(dir.path()).err().expect("format 99");
    assert!(error.contains("format 99") && error.contains("results.db"), "{error}");
}

/// What a power cut leaves of writes that nobody had been told of: the log up to some byte of them,
/// and anything after it.
#[tokio::test]
async fn a_torn_write_takes_nothing_that_was_acknowledged() {
    let dir = Directory::new();
    let queue = queue(dir.path());
    let acknowledged = ["a", "b", "c"];
    for name in acknowledged {
        queue.send(message(name)).await.expect("sent");
    }
    let log = dir.path().join("queue.db-wal");
    let safe = std::fs::metadata(&log).expect("the log").len() as usize;
    for _ in 0..5 {
        queue.send(message(&"torn".repeat(1000))).await.expect("sent");
    }
    let whole = std::fs::read(&log).expect("the log");
    let file = std::fs::read(dir.path().join("queue.db")).expect("the file");
    for cut in (safe..whole.len()).step_by(997) {
        for rest in [&[][..], &[0; 4096][..], &[0xA5; 5000][..]] {
            let torn = Directory::new();
            std::fs::write(torn.path().join("queue.db"), &file).expect("written");
            let log = [&whole[..cut], rest].concat();
            std::fs::write(torn.path().join("queue.db-wal"), log).expect("written");
            let found = self::queue(torn.path());
            let mut bodies = Vec::new();
            loop {
                let messages = found.receive(10, Duration::ZERO, VISIBILITY).await.expect("intact");
                if messages.is_empty() {
                    break;
                }
                bodies.extend(messages.into_iter().map(|message| message.body));
            }
            assert_eq!(bodies[..3], acknowledged, "cut at {cut}");
            assert!(bodies[3..].iter().all(|body| *body == "torn".repeat(1000)), "cut at {cut}");
            found.send(message("after")).await.expect("it goes on");
        }
    }
}

#[tokio::test]
async fn racing_creates_of_two_handles_have_one_winner() {
    let dir = Directory::new();
    let open = || Arc::new(DirResults::open(dir.path()).expect("a store")) as Arc<dyn Results>;
    assert_eq!(results_contract::race(&[open(), open()], "a", 12).await, 1);
}

#[tokio::test]
async fn bodies_without_a_row_are_swept_when_nobody_else_is_at_work() {
    let (dir, large) = (Directory::new(), Bytes::from(vec![7; 100_000]));
    let results = DirResults::open(dir.path()).expect("a store");
    let stray = dir.path().join("objects/stray");
    let files = || std::fs::read_dir(dir.path().join("objects")).expect("a listing").count();
    for _ in 0..3 {
        results.put("kept", large.clone(), Condition::Always).await.expect("put");
    }
    let lost = results.put("kept", large.clone(), Condition::IfAbsent).await;
    assert!(lost.is_err());
    results.put("gone", large.clone(), Condition::Always).await.expect("put");
    results.delete("gone").await.expect("deleted");
    assert_eq!(files(), 1, "replaced, refused and deleted bodies are gone");

    std::fs::write(&stray, "left by a crash").expect("a stray file");
    let second = DirResults::open(dir.path()).expect("a second handle");
    assert!(stray.exists(), "it could be the first handle's");
    drop((results, second));
    let results = DirResults::open(dir.path()).expect("a store");
    assert!(!stray.exists());
    let object = results.get("kept", None).await.expect("read").expect("kept");
    assert_eq!(object.body.collect().await.expect("the body").to_bytes(), large);
}

#[tokio::test]
async fn a_body_being_read_outlives_its_replacement() {
    let dir = Directory::new();
    let results = DirResults::open(dir.path()).expect("a store");
    let (old, new) = (Bytes::from(vec![1; 1 << 20]), Bytes::from(vec![2; 1 << 20]));
    results.put("a", old.clone(), Condition::Always).await.expect("put");
    let object = results.get("a", None).await.expect("read").expect("there");
    results.put("a", new, Condition::Always).await.expect("replaced");
    assert_eq!(object.body.collect().await.expect("the body").to_bytes(), old);
}

/// The environment variable that tells the child below where to write.
const CHILD_DIR: &str = "SPILLWAY_TEST_CHILD_DIR";

/// Not a test: the process that [`what_was_acknowledged_survives_kill_9`] kills.
#[tokio::test]
#[ignore = "the child process of another test"]
async fn child_that_writes_until_it_is_killed() {
    let dir = std::env::var_os(CHILD_DIR).expect("run by the other test only");
    let dir = Path::new(&dir);
    let (queue, results) = (queue(dir), DirResults::open(dir).expect("a store"));
    for at in 0.. {
        let name = at.to_string();
        let body = Bytes::from(name.repeat(20_000));
        queue.send(message(&name)).await.expect("sent");
        results.put(&name, body, Condition::IfAbsent).await.expect("put");
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nacknowledged {name}").expect("the parent reads");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = Directory::new();
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("stores::embedded::child_that_writes_until_it_is_killed")
        .env(CHILD_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    // Another process on the same directory all the while.
    let (queue, results) = (queue(dir.path()), DirResults::open(dir.path()).expect("a store"));
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut next = || {
        let line = lines.next()?.expect("a line");
        Some(line.strip_prefix("acknowledged ").map(str::to_owned))
    };
    while acknowledged.len() < 50 {
        acknowledged.extend(next().expect("the child writes on"));
    }
    child.kill().expect("kill -9");
    child.wait().expect("its end");
    while let Some(line) = next() {
        acknowledged.extend(line);
    }
    drop((queue, results));

    let (queue, results) =
        (self::queue(dir.path()), DirResults::open(dir.path()).expect("a store"));
    let found = bodies(&queue, acknowledged.len()).await;
    for name in &acknowledged {
        assert!(found.contains(name), "the message {name} was lost");
        let object = results.get(name, None).await.expect("read").expect("acknowledged");
        let body = object.body.collect().await.expect("the body").to_bytes();
        assert_eq!(body, name.repeat(20_000), "the result {name}");
    }
}
