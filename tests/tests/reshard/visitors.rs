//! Visitors of a market: each writes, starts jobs, and looks for what it has written.

use crate::market::{FIRST_OF_B, Market, SHARDS, Switched};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Client, eventually};
use tokio::task::JoinHandle;

/// Between two writes of one visitor.
const PACE: Duration = Duration::from_millis(8);
/// The keys that move and that visitors write; between 150 and 200 lie rows that were there before.
const MOVING: i64 = 100;

/// What one of them has seen.
#[derive(Default)]
pub struct Seen {
    /// Acknowledged writes with their keys.
    kept: Vec<(i64, String)>,
    /// Where the states of the jobs are found that were accepted.
    jobs: Vec<String>,
    /// Every answer that was not good.
    wrong: Vec<String>,
    /// When a write of another way in was not found at once.
    unaware: Vec<Instant>,
    /// The slowest write of the range that moves, and of the others.
    slowest: [Duration; 2],
}

/// Visitors that come by every way in, until they are told to stop.
pub struct Visitors {
    ends: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Seen>>,
}

impl Visitors {
    pub fn begin(market: &Market) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let ways = market.ways();
        let tasks = (0..ways.len()).map(|number| {
            let other = ways[(number + 1) % ways.len()].clone();
            // The edge leads to any sidecar.
            let is_straight = number < market.sidecars.len();
            let visitor = Visitor { number, own: ways[number].clone(), other, is_straight };
            tokio::spawn(visitor.visits(Arc::clone(&ends)))
        });
        let tasks = tasks.collect();
        Self { ends, tasks }
    }

    pub async fn end(self) -> Seen {
        self.ends.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for task in self.tasks {
            let seen = task.await.expect("no panic");
            all.kept.extend(seen.kept);
            all.jobs.extend(seen.jobs);
            all.wrong.extend(seen.wrong);
            all.unaware.extend(seen.unaware);
            for (all, own) in all.slowest.iter_mut().zip(seen.slowest) {
                *all = own.max(*all);
            }
        }
        all
    }
}

struct Visitor {
    number: usize,
    /// Where it writes.
    own: Client,
    /// Where it looks now and then.
    other: Client,
    /// Whether its own way in is always the same sidecar.
    is_straight: bool,
}

fn key(turn: i64) -> i64 {
    match turn % 4 {
        0 => 1 + turn % (FIRST_OF_B - 1),
        1 => 200 + turn % 50,
        _ => MOVING + turn % 50,
    }
}

impl Visitor {
    async fn visits(self, ends: Arc<AtomicBool>) -> Seen {
        let mut seen = Seen::default();
        let mut pace = tokio::time::interval(PACE);
        for turn in 0.. {
            if ends.load(Ordering::Relaxed) {
                break;
            }
            pace.tick().await;
            let (key, note) = (key(turn), format!("write {} {turn}", self.number));
            if turn % 16 == 10 {
                self.starts_job(&mut seen, key, note).await;
            } else {
                self.writes(&mut seen, key, note).await;
            }
            self.looks(&mut seen, turn).await;
        }
        seen
    }

    async fn writes(&self, seen: &mut Seen, key: i64, note: String) {
        let began = Instant::now();
        let written = self.own.try_send("POST", &format!("/prices?id={key}"), note.clone()).await;
        let slowest = &mut seen.slowest[usize::from(!(100..200).contains(&key))];
        *slowest = began.elapsed().max(*slowest);
        match written {
            Ok(answer) if answer.status == 200 => seen.kept.push((key, note)),
            Ok(answer) => seen.wrong.push(format!("{note}: {} {}", answer.status, answer.text())),
            Err(why) => seen.wrong.push(format!("{note}: {why}")),
        }
    }

    async fn starts_job(&self, seen: &mut Seen, key: i64, note: String) {
        let target = format!("/work?id={key}");
        match self.own.try_send("POST", &target, format!("job {note}")).await {
            Ok(answer) if answer.status == 202 => {
                seen.jobs.push(answer.header("location"));
                seen.kept.push((key, format!("job {note}")));
            }
            Ok(answer) => {
                seen.wrong.push(format!("job {note}: {} {}", answer.status, answer.text()));
            }
            Err(why) => seen.wrong.push(format!("job {note}: {why}")),
        }
    }

    /// Looks for its newest write or for an older one, by its own way or by another.
    async fn looks(&self, seen: &mut Seen, turn: i64) {
        let writes = seen.kept.iter().filter(|(_, note)| note.starts_with("write "));
        let writes: Vec<_> = writes.collect();
        let place = if turn % 3 == 0 { writes.len() / 2 } else { writes.len().saturating_sub(1) };
        let Some((key, note)) = writes.get(place).map(|&own| own.clone()) else { return };
        let target = format!("/prices?id={key}&note={}", note.replace(' ', "+"));
        let (way, is_straight) = match turn % 3 {
            1 => (&self.other, false),
            _ => (&self.own, self.is_straight),
        };
        let mut found = read(way, &target).await;
        if found == "0" && !is_straight {
            seen.unaware.push(Instant::now());
            found = eventually("what was written is found", || async {
                Some(read(way, &target).await).filter(|found| found != "0")
            })
            .await;
        }
        if found != "1" {
            seen.wrong.push(format!("read {target}: {found}"));
        }
    }
}

/// How often a write is there, or what went wrong.
async fn read(way: &Client, target: &str) -> String {
    match way.try_send("GET", target, "").await {
        Ok(answer) if answer.status == 200 => answer.text(),
        Ok(answer) => format!("{} {}", answer.status, answer.text()),
        Err(why) => why,
    }
}

impl Seen {
    /// Nobody saw an error, and every write and job that was acknowledged was done once, where its key belongs: those
    /// of the range at this shard.
    pub async fn check(&self, market: &Market, owner: &str, switches: &[Switched]) {
        assert_eq!(self.wrong, Vec::<String>::new());
        assert!(self.kept.len() > 100 && self.jobs.len() > 10, "{} writes", self.kept.len());
        self.jobs_end(market).await;
        let mut wanted: BTreeMap<&str, BTreeSet<(i64, String)>> = BTreeMap::new();
        for (key, note) in &self.kept {
            let shard = match key {
                ..FIRST_OF_B => "c",
                100..200 => owner,
                _ => "b",
            };
            wanted.entry(shard).or_default().insert((*key, note.clone()));
        }
        for shard in SHARDS {
            let (wanted, found) =
                (wanted.remove(shard).unwrap_or_default(), market.written(shard).await);
            let lost: Vec<_> = wanted.difference(&found).collect();
            assert!(lost.is_empty(), "lost at {shard}: {lost:?}");
            let more: Vec<_> = found.difference(&wanted).collect();
            assert!(more.is_empty(), "not of {shard}: {more:?}");
        }
        let is_known = |moment: &&Instant| {
            switches.iter().any(|own| (own.unaware.0..own.unaware.1).contains(*moment))
        };
        let outside = self.unaware.iter().filter(|moment| !is_known(moment)).count();
        assert_eq!(outside, 0, "{outside} reads missed a write while no owner changed");
        let held = market.held().await;
        assert!(held > 0.0, "no write was ever held: the test shows nothing");
        eprintln!(
            "{} writes, {} jobs, {held} writes held, {} reads by another way that came too soon; slowest write in the range {:?}, beside it {:?}",
            self.kept.len() - self.jobs.len(),
            self.jobs.len(),
            self.unaware.len(),
            self.slowest[0],
            self.slowest[1]
        );
    }

    async fn jobs_end(&self, market: &Market) {
        let way = market.sidecars[0].client();
        for location in &self.jobs {
            let state = eventually("a job has ended", || async {
                let state = way.get(location).await.json();
                let status = state["status"].as_str().unwrap_or_default().to_owned();
                (status != "queued" && status != "running").then_some(state)
            })
            .await;
            assert_eq!(state["status"], "succeeded", "{location}: {state}");
        }
    }
}
