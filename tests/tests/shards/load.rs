//! Clients that write and read while a range moves, and what must be true of their writes at the end.

use crate::owners::Range;
use crate::world::World;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::Client;
use tokio::task::JoinSet;

/// What the clients have seen.
#[derive(Default)]
pub struct Seen {
    /// Acknowledged writes with their keys.
    pub kept: Vec<(String, i64)>,
    /// Every answer that was not good.
    pub failed: Vec<String>,
    /// The slowest answer for keys that never move, and for those that do.
    pub slowest: [Duration; 2],
}

/// Clients that write and read until they are told to stop.
pub struct Load {
    is_over: Arc<AtomicBool>,
    clients: JoinSet<Seen>,
}

/// Keys of the range that moves.
pub const MOVING: Range = (2_001, 4_001);
/// Between two writes of one client.
const PACE: Duration = Duration::from_millis(15);

/// Every third key is one that moves; the others are of all shards.
fn key(number: u64) -> i64 {
    let number = i64::try_from(number % 1_000).expect("a small number");
    match number % 3 {
        0 => MOVING.0 + number,
        1 => 10_001 + number * 7,
        _ => 20_001 + number * 5,
    }
}

async fn client(
    own: Client,
    name: String,
    is_over: Arc<AtomicBool>,
    numbers: Arc<AtomicU64>,
) -> Seen {
    let mut seen = Seen::default();
    while !is_over.load(Ordering::Relaxed) {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let (key, write) = (key(number), format!("{name}-{number}"));
        let target = format!("/entries?id={key}");
        let began = Instant::now();
        let is_read = number.is_multiple_of(4);
        let answered = if is_read {
            own.try_send("GET", &target, "").await
        } else {
            own.try_send("POST", &target, write.clone()).await
        };
        let is_moving = usize::from((MOVING.0..MOVING.1).contains(&key));
        seen.slowest[is_moving] = seen.slowest[is_moving].max(began.elapsed());
        match answered {
            Ok(answer) if answer.status == 200 && is_read => {}
            Ok(answer) if answer.status == 200 => seen.kept.push((write, key)),
            Ok(answer) => {
                seen.failed.push(format!("{write} {key}: {} {}", answer.status, answer.text()))
            }
            Err(why) => seen.failed.push(format!("{write} {key}: {why}")),
        }
        tokio::time::sleep(PACE).await;
    }
    seen
}

impl Load {
    /// Two clients of every sidecar that runs.
    pub fn begin(world: &World, label: &str) -> Self {
        let (is_over, numbers, mut clients) = (Arc::default(), Arc::default(), JoinSet::new());
        for (number, sidecar) in world.running().enumerate() {
            for twin in 0..2 {
                let name = format!("{label}-{number}.{twin}");
                clients.spawn(client(
                    sidecar.client(),
                    name,
                    Arc::clone(&is_over),
                    Arc::clone(&numbers),
                ));
            }
        }
        Self { is_over, clients }
    }

    /// Stops the clients and tells what they have seen.
    pub async fn end(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for seen in self.clients.join_all().await {
            all.kept.extend(seen.kept);
            all.failed.extend(seen.failed);
            for (all, own) in all.slowest.iter_mut().zip(seen.slowest) {
                *all = own.max(*all);
            }
        }
        all
    }
}

/// Every acknowledged write lies once where the map says, and no request reached a shard that its sidecar
/// had not named.
pub async fn check(world: &World, seen: &Seen) {
    let holders = world.owners.holders();
    assert_eq!(world.owners.misrouted(), Vec::<String>::new());
    let mut owners: BTreeMap<i64, String> = BTreeMap::new();
    // One of each range that there may be.
    for key in [1, MOVING.0, MOVING.1, 10_001, 20_001] {
        owners.insert(key, world.owner(key).await);
    }
    for (write, key) in &seen.kept {
        let (_, owner) = owners.range(..=*key).next_back().expect("a range");
        assert_eq!(
            holders.get(write).map(Vec::as_slice),
            Some(&[owner.as_str()][..]),
            "{write} {key}"
        );
    }
    let twice = holders.iter().find(|(_, places)| places.len() > 1);
    assert_eq!(twice, None, "a write was done twice");
    for key in owners.keys() {
        assert_eq!(world.owners.open_for(*key).len(), 1, "gates of {key}");
    }
}
