//! The data of the shards: an application for each, whose store has a gate as PostgreSQL gets it from
//! reshard. It refuses a write of a range that it does not hold, whatever the sidecars believe.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{App, Asked, Reply};

/// Keys from the first up to, and without, the second.
pub type Range = (i64, i64);

/// What one shard holds.
#[derive(Default)]
struct Data {
    /// Ranges whose writes are taken.
    open: Vec<Range>,
    /// Writes by key, in their order.
    entries: BTreeMap<i64, Vec<String>>,
    /// Requests whose `X-Shard` names another shard.
    misrouted: Vec<String>,
    /// Writes that the gate refused.
    refused: usize,
}

/// One shard with its application.
pub struct Owner {
    pub app: App,
    shard: &'static str,
    data: Arc<Mutex<Data>>,
}

fn key(asked: &Asked) -> i64 {
    let id = asked.target.split_once("id=").expect("a key").1;
    id.split('&').next().expect("a key").parse().expect("a number")
}

impl Data {
    fn is_open(&self, key: i64) -> bool {
        self.open.iter().any(|(from, until)| (*from..*until).contains(&key))
    }

    fn reached(&mut self, shard: &str, named: Option<&str>) {
        if named != Some(shard) {
            self.misrouted.push(format!("{named:?}"));
        }
    }

    /// False if the gate refuses it.
    fn write(&mut self, key: i64, write: String) -> bool {
        if !self.is_open(key) {
            self.refused += 1;
            return false;
        }
        self.entries.entry(key).or_default().push(write);
        true
    }

    fn answer(&mut self, shard: &str, asked: &Asked) -> Reply {
        self.reached(shard, asked.header("x-shard"));
        let key = key(asked);
        if asked.method == http::Method::GET {
            return Reply::ok(self.entries.get(&key).cloned().unwrap_or_default().join(" "));
        }
        if self.write(key, String::from_utf8_lossy(&asked.body).into_owned()) {
            Reply::ok("kept")
        } else {
            Reply::status(503).with("Retry-After", "1").body("55006")
        }
    }
}

impl Owner {
    async fn start(shard: &'static str, holds: Range) -> Self {
        let app = App::start().await;
        let data = Arc::new(Mutex::new(Data { open: vec![holds], ..Data::default() }));
        for (path, after) in [("/entries", Duration::ZERO), ("/slow", Duration::from_secs(1))] {
            let data = Arc::clone(&data);
            app.answer(path, move |asked| {
                data.lock().expect("no panic").answer(shard, asked).after(after)
            });
        }
        Self { app, shard, data }
    }

    fn data(&self) -> std::sync::MutexGuard<'_, Data> {
        self.data.lock().expect("no panic")
    }

    /// For another application of the same shard: takes writes with the shard that the request names.
    pub fn writer(&self) -> impl Fn(Option<&str>, i64, String) -> bool + Clone + Send + 'static {
        let (shard, data) = (self.shard, Arc::clone(&self.data));
        move |named, key, write| {
            let mut data = data.lock().expect("no panic");
            data.reached(shard, named);
            data.write(key, write)
        }
    }

    /// Writes of the key, in their order.
    pub fn entries(&self, key: i64) -> Vec<String> {
        self.data().entries.get(&key).cloned().unwrap_or_default()
    }
}

/// The shards a, b and c.
pub struct Owners(BTreeMap<&'static str, Owner>);

pub const SHARDS: [&str; 3] = ["a", "b", "c"];

impl Owners {
    /// Each holds 10,000 keys.
    pub async fn start() -> Self {
        let mut owners = BTreeMap::new();
        for (shard, from) in SHARDS.into_iter().zip([1, 10_001, 20_001]) {
            owners.insert(shard, Owner::start(shard, (from, from + 10_000)).await);
        }
        Self(owners)
    }

    pub fn get(&self, shard: &str) -> &Owner {
        self.0.get(shard).expect("one of the shards")
    }

    /// The gate of a shard takes no writes of the range any more.
    pub fn close(&self, shard: &str, (from, until): Range) {
        let mut data = self.get(shard).data();
        let open = std::mem::take(&mut data.open);
        let rest = open
            .into_iter()
            .flat_map(|(low, high)| [(low, high.min(from)), (low.max(until), high)]);
        data.open = rest.filter(|(low, high)| low < high).collect();
    }

    /// The gate takes writes of the range.
    pub fn open(&self, shard: &str, range: Range) {
        self.get(shard).data().open.push(range);
    }

    /// Moves the rows of a range, as a copy that has caught up.
    pub fn copy(&self, source: &str, target: &str, (from, until): Range) {
        let mut moved = self.get(source).data().entries.split_off(&from);
        let mut beyond = moved.split_off(&until);
        self.get(source).data().entries.append(&mut beyond);
        self.get(target).data().entries.append(&mut moved);
    }

    /// Requests that reached another shard than their sidecar had named.
    pub fn misrouted(&self) -> Vec<String> {
        self.0.values().flat_map(|owner| owner.data().misrouted.clone()).collect()
    }

    /// Writes that a gate refused.
    pub fn refused(&self) -> usize {
        self.0.values().map(|owner| owner.data().refused).sum()
    }

    /// Which shards hold each write, one name for each time.
    pub fn holders(&self) -> BTreeMap<String, Vec<&'static str>> {
        let mut found: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
        for (shard, owner) in &self.0 {
            for write in owner.data().entries.values().flatten() {
                found.entry(write.clone()).or_default().push(shard);
            }
        }
        found
    }

    /// Shards that take writes of the key.
    pub fn open_for(&self, key: i64) -> BTreeSet<&'static str> {
        let open = self.0.iter().filter(|(_, owner)| owner.data().is_open(key));
        open.map(|(shard, _)| *shard).collect()
    }
}
