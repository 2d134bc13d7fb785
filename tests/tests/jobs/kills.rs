//! kill -9 of producers and consumers at random instants, hundreds of times, under load. Every job
//! that was answered 202 has an outcome and a result, and the app was asked for it.
//!
//! `SPILLWAY_KILLS_SEED` repeats a run's choices (not its timing); the seed is printed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};
use support::{App, Client, Cloud, Reply, Spillway, eventually, folder};
use tempfile::TempDir;
use tokio::sync::watch;

const RULES: &str = r#"
    [[route]]
    name    = "work"
    match   = { path = "/work", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none", retry = "safe" }

    [queue.work]
    visibility   = "2s"
    job_timeout  = "60s"
    concurrency  = 16
    max_attempts = 100
"#;

/// For each kill.
const JOBS: usize = 25;
/// Of all processes together; `SPILLWAY_KILLS` says another number.
const KILLS: usize = 200;
/// Jobs accepted or executed between two kills, on average; while a process starts there are as
/// many again.
const EVENTS: usize = 30;
const PRODUCERS: usize = 2;
const CONSUMERS: usize = 2;
/// Clients of each producer.
const CLIENTS: usize = 8;
/// Jobs that wait to be executed, at most about.
const BACKLOG: usize = 200;
/// Status requests at once, at the end.
const READERS: usize = 16;

/// Where queue and results are.
enum Place {
    Folder(TempDir),
    Cloud(Box<Cloud>),
}

/// Small and seeded; which one is killed when needs no better (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below the bound")
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seed() -> u64 {
    let given = setting("SPILLWAY_KILLS_SEED");
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    let seed = given.unwrap_or_else(|| now().subsec_nanos().into()) | 1;
    eprintln!("SPILLWAY_KILLS_SEED={seed}");
    seed
}

/// So far.
#[derive(Default)]
struct Progress {
    accepted: usize,
    /// Jobs that the app has been asked for at least once.
    executed: usize,
    /// Jobs accepted and requests to the app.
    events: usize,
}

struct World {
    place: Place,
    app: App,
    executions: Arc<Mutex<HashMap<String, usize>>>,
    /// Id and body of what was answered 202.
    accepted: Mutex<Vec<(String, String)>>,
    progress: Arc<watch::Sender<Progress>>,
    /// Where each producer listens now.
    producers: Mutex<Vec<Client>>,
    is_enough: AtomicBool,
}

impl World {
    async fn new(place: Place) -> Self {
        let app = App::start().await;
        let executions: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let progress: Arc<watch::Sender<Progress>> = Arc::default();
        let (counted, told) = (Arc::clone(&executions), Arc::clone(&progress));
        app.answer("/work", move |asked| {
            let id = asked.header("x-job-id").unwrap_or_default().to_owned();
            let executed = {
                let mut counted = counted.lock().expect("no panic");
                *counted.entry(id).or_default() += 1;
                counted.len()
            };
            told.send_modify(|progress| {
                progress.executed = executed;
                progress.events += 1;
            });
            Reply::ok(asked.body.clone())
        });
        let (accepted, producers, is_enough) = Default::default();
        Self { place, app, executions, accepted, progress, producers, is_enough }
    }

    async fn process(&self, is_producer: bool) -> Spillway {
        let setup = match is_producer {
            true => Spillway::proxy(RULES, &self.app),
            false => Spillway::consume(RULES, &self.app),
        };
        match &self.place {
            Place::Folder(folder) => setup.jobs("work", folder.path()),
            Place::Cloud(cloud) => setup.cloud("work", cloud),
        }
        .quiet()
        .start()
        .await
    }

    /// One client of one producer: posts until there are enough jobs, whatever becomes of it.
    async fn post(&self, producer: usize, client: usize) {
        for number in 0.. {
            if self.is_enough.load(Relaxed) {
                return;
            }
            // Not so far ahead of the consumers that the end would be waiting for them.
            let is_close = |progress: &Progress| progress.accepted < progress.executed + BACKLOG;
            self.until(is_close).await;
            let base = self.producers.lock().expect("no panic")[producer].clone();
            let body = format!("{producer}/{client}/{number}");
            match base.try_send("POST", "/work", body.clone()).await {
                Ok(answer) if answer.status == 202 => {
                    let id = answer.json()["id"].as_str().expect("an id").to_owned();
                    self.accepted.lock().expect("no panic").push((id, body));
                    self.progress.send_modify(|progress| {
                        progress.accepted += 1;
                        progress.events += 1;
                    });
                }
                Ok(answer) => {
                    assert_eq!(answer.problem(), "offload-unavailable", "{}", answer.status)
                }
                // It was killed and its successor is not there yet.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    }

    async fn until(&self, is_so: impl FnMut(&Progress) -> bool) {
        let mut progress = self.progress.subscribe();
        let so = tokio::time::timeout(support::PATIENCE, progress.wait_for(is_so)).await;
        so.expect("jobs are accepted and executed").expect("the sender lives");
    }

    /// Kills a process and starts another in its place, again and again, until there have been
    /// enough kills and jobs; how many kills. Both kinds of events of a job are spread over them.
    async fn kill(&self, processes: &mut [Spillway], mut dice: Dice) -> usize {
        let mut kills = 0;
        let wanted = setting("SPILLWAY_KILLS").map_or(KILLS, |kills| kills as usize);
        while kills < wanted || self.progress.borrow().accepted < wanted * JOBS {
            let until = self.progress.borrow().events + 1 + dice.below(2 * EVENTS - 1);
            self.until(|progress| progress.events >= until).await;
            let at = dice.below(processes.len());
            let is_producer = at < PRODUCERS;
            processes[at].kill_now().await;
            processes[at] = self.process(is_producer).await;
            if is_producer {
                self.producers.lock().expect("no panic")[at] = processes[at].client();
            }
            kills += 1;
        }
        self.is_enough.store(true, Relaxed);
        kills
    }

    /// Everything accepted has ended well, with the result that is its own.
    async fn account(&self) {
        let accepted = self.accepted.lock().expect("no panic").clone();
        let client = self.producers.lock().expect("no panic")[0].clone();
        let next = AtomicUsize::new(0);
        let readers = (0..READERS).map(|_| async {
            while let Some((id, body)) = accepted.get(next.fetch_add(1, Relaxed)) {
                let location = format!("/_spillway/jobs/{id}");
                let result = eventually(&format!("{id} has a result"), || async {
                    let result = client.get(&format!("{location}/result")).await;
                    (result.problem() != "job-unfinished").then_some(result)
                })
                .await;
                assert_eq!(result.status, 200, "{id}: {}", result.text());
                assert_eq!(&result.text(), body, "{id}");
                let times = self.executions.lock().expect("no panic").get(id).copied();
                assert!(times.is_some_and(|times| times >= 1), "{id} succeeded without the app");
            }
        });
        join_all(readers).await;
    }
}

async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

async fn storm(place: Place) {
    let (dice, started) = (Dice(seed()), Instant::now());
    let world = World::new(place).await;
    let mut processes = Vec::new();
    for at in 0..PRODUCERS + CONSUMERS {
        processes.push(world.process(at < PRODUCERS).await);
    }
    let clients = processes[..PRODUCERS].iter().map(Spillway::client).collect();
    *world.producers.lock().expect("no panic") = clients;
    let posting = (0..PRODUCERS * CLIENTS).map(|at| world.post(at / CLIENTS, at % CLIENTS));
    let (kills, ()) = tokio::join!(world.kill(&mut processes, dice), join_all(posting));
    let stormed = started.elapsed();
    world.account().await;
    let executions = world.executions.lock().expect("no panic");
    let repeated = executions.values().filter(|times| **times > 1).count();
    eprintln!(
        "{} jobs accepted, {} known to the app, {repeated} of them executed more than once; {kills} kills in {stormed:?}, accounted for after {:?}",
        world.accepted.lock().expect("no panic").len(),
        executions.len(),
        started.elapsed(),
    );
}

#[tokio::test]
async fn no_accepted_job_is_lost_by_kills_with_the_embedded_store() {
    storm(Place::Folder(folder())).await;
}

#[tokio::test]
async fn no_accepted_job_is_lost_by_kills_with_sqs_and_s3() {
    let cloud = Cloud::start().await;
    cloud.bucket("results");
    cloud.queue("work", &[]).await;
    storm(Place::Cloud(Box::new(cloud))).await;
}
