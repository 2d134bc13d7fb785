//! How often a key is found: the sidecar's store policy beside `quick_cache` and a plain LRU, on a
//! Zipf trace through which scans pass. Same keys, same capacity, same process.

use lru::LruCache;
use memory_cache::segmented::{Segmented, Slot};
use quick_cache::unsync::Cache;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::num::NonZeroUsize;

/// Keys that are asked for by popularity.
const KEYS: usize = 100_000;
const REQUESTS: usize = 2_000_000;
/// A crawler passes after so many requests, and asks for so many keys that nobody else wants.
const SCAN_EVERY: usize = 20_000;
const SCAN_KEYS: usize = 2_000;
/// Shares of the keys that fit, in percent.
const CAPACITIES: [usize; 3] = [1, 5, 20];
/// Exponents of Zipf's law; web traffic lies between 0.6 and 1.1 (Breslau et al., INFOCOM 1999).
const SKEWS: [f64; 3] = [0.7, 0.9, 1.1];
const SEED: u64 = 0x005b_111a_7a9e;

/// Asks for a key and keeps it when it is not there; whether it was.
trait Policy {
    fn ask(&mut self, key: u64) -> bool;
}

struct Ours {
    entries: Segmented<()>,
    hasher: RandomState,
}

impl Policy for Ours {
    fn ask(&mut self, key: u64) -> bool {
        let key = self.hasher.hash_one(key);
        if self.entries.get(key).is_some() {
            return true;
        }
        self.entries.put(key, Slot { value: (), bytes: 1 });
        while self.entries.evict().is_some() {}
        false
    }
}

struct Quick(Cache<u64, ()>);

impl Policy for Quick {
    fn ask(&mut self, key: u64) -> bool {
        let is_hit = self.0.get(&key).is_some();
        if !is_hit {
            self.0.insert(key, ());
        }
        is_hit
    }
}

struct Lru(LruCache<u64, ()>);

impl Policy for Lru {
    fn ask(&mut self, key: u64) -> bool {
        let is_hit = self.0.get(&key).is_some();
        if !is_hit {
            self.0.put(key, ());
        }
        is_hit
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same trace each time.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Keys of the trace; those of scans lie above [`KEYS`].
fn trace(skew: f64) -> Vec<u64> {
    let mut sum = 0.0;
    let until: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += 1.0 / (rank as f64).powf(skew);
            sum
        })
        .collect();
    let (mut rng, mut trace, mut scanned) = (Rng(SEED), Vec::new(), KEYS as u64);
    for request in 0..REQUESTS {
        let drawn = rng.share() * sum;
        trace.push(until.partition_point(|until| *until < drawn) as u64);
        if request % SCAN_EVERY == SCAN_EVERY - 1 {
            for _ in 0..SCAN_KEYS {
                scanned += 1;
                trace.push(scanned);
            }
        }
    }
    trace
}

/// Hits among requests for popular keys, in percent; the first tenth of the trace fills the cache.
fn hit_ratio(policy: &mut dyn Policy, trace: &[u64]) -> f64 {
    let warm = trace.len() / 10;
    let (mut hits, mut asked) = (0_u64, 0_u64);
    for (at, key) in trace.iter().enumerate() {
        let is_hit = policy.ask(*key);
        if at >= warm && *key < KEYS as u64 {
            asked += 1;
            hits += u64::from(is_hit);
        }
    }
    hits as f64 * 100.0 / asked as f64
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "hit ratio in percent, Zipf over {KEYS} keys, scans of {SCAN_KEYS} keys passing through"
    )?;
    writeln!(
        out,
        "{:<10} {:<10} {:>12} {:>12} {:>12}",
        "skew", "capacity", "spillway", "quick_cache", "plain LRU"
    )?;
    for skew in SKEWS {
        let trace = trace(skew);
        for capacity in CAPACITIES {
            let size = KEYS * capacity / 100;
            let ours = Ours { entries: Segmented::new(size), hasher: RandomState::new() };
            let lru = LruCache::new(NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN));
            let mut policies: [Box<dyn Policy>; 3] =
                [Box::new(ours), Box::new(Quick(Cache::new(size))), Box::new(Lru(lru))];
            let ratios = policies.each_mut().map(|policy| hit_ratio(policy.as_mut(), &trace));
            let [ours, quick, lru] = ratios;
            writeln!(
                out,
                "{skew:<10} {:<10} {ours:>12.2} {quick:>12.2} {lru:>12.2}",
                format!("{capacity} %")
            )?;
        }
    }
    Ok(())
}
