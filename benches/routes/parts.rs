//! What the parts of a decision cost, each alone: 1,000 routes, and a map of 10,000 ranges, once of the rules file
//! and once live.

use crate::{CACHED, DECISIONS, TARGETS, rules, user};
use rules::cache::{self, Planned, ShardPart, Tier};
use rules::path::{self, Target};
use rules::shard::change::first;
use rules::shard::object::Changed;
use rules::shard::{Resolved, ShardKey, ShardKeys, ShardMap};
use rules::sidecar::{SidecarAction, decide};
use rules::{Head, Rules, UnixMillis};
use rules::{cors, head, hops};
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

const ROUTES: usize = 1_000;
const RANGES: usize = 10_000;
/// Rounds over some seconds, of which the least counts.
const ROUNDS: usize = 25;
/// So few requests again and again have all that they need in the processor's caches.
const FEW: usize = 16;

/// The same rules with the map as a live one, as a sidecar has them that has read its object.
fn live(rules: &Rules) -> Rules {
    let document = rules.document.shard_maps.get("users").expect("its map");
    let changed = Changed { by: "bench".to_owned(), at: UnixMillis(0), why: String::new() };
    let object = Arc::new(first("users", document, changed));
    object.check().expect("a map");
    let map = ShardMap::live(&"users".into(), document, &object).expect("a map of these shards");
    rules.with_map(Arc::new(map))
}

/// One request with what is known of it after each part.
struct Known<'a> {
    head: Head<'a>,
    user: String,
    number: i64,
    normal: Target<'a>,
    parameters: Vec<path::PathParameter<'a>>,
    resolved: Resolved,
}

impl<'a> Known<'a> {
    fn new(rules: &'a Rules, head: Head<'a>, user: usize) -> Self {
        let normal = path::normalize(head.target).expect("a target");
        let (path, _) = head.target.split_once('?').expect("a query");
        let parameters = rules.parameters(&head, path);
        let number = i64::try_from(user).unwrap_or_default();
        let keys = ShardKeys::One(ShardKey::Int(number));
        let resolved = Resolved::find(rules.shard_maps.get("users").expect("its map"), keys);
        let resolved = resolved.expect("a shard");
        Self { head, user: user.to_string(), number, normal, parameters, resolved }
    }
}

/// Nanoseconds of one call, by turns for each of the requests.
fn round<'a, T>(known: &'a [Known<'a>], mut part: impl FnMut(&'a Known<'a>) -> T) -> f64 {
    let began = Instant::now();
    for number in 0..DECISIONS {
        let known = &known[number * 7919 % known.len()];
        black_box(part(black_box(known)));
    }
    began.elapsed().as_secs_f64() * 1e9 / DECISIONS as f64
}

const PARTS: [&str; 6] =
    ["normal form", "checks", "route, its path", "shard key", "shard look-up", "cache key, plan"];
/// Of these the part that only requests have whose answers are cached.
const PLAN: usize = PARTS.len() - 1;

/// Nanoseconds of each part, and of whole decisions.
struct Figures {
    parts: [f64; PARTS.len()],
    cached: f64,
    uncached: f64,
}

impl Figures {
    /// The least of all rounds. Each round has all parts: the machine's speed changes within seconds.
    fn of<'a>(both: &'a Both, known: &'a [Known<'a>]) -> Self {
        let most = f64::INFINITY;
        let mut least = Self { parts: [most; PARTS.len()], cached: most, uncached: most };
        for _ in 0..ROUNDS {
            let parts = least.parts.iter_mut().zip(parts(&both.cached, known));
            parts.for_each(|(least, own)| *least = least.min(own));
            least.cached = least.cached.min(whole(&both.cached, known));
            least.uncached = least.uncached.min(whole(&both.uncached, known));
        }
        least
    }

    /// The parts of a request whose answer is cached, and of one whose is not.
    fn sums(&self) -> (f64, f64) {
        let all: f64 = self.parts.iter().sum();
        (all, all - self.parts[PLAN])
    }
}

/// Rules whose answers are cached, and the same without a cache.
struct Both {
    cached: Rules,
    uncached: Rules,
}

fn whole<'a>(rules: &'a Rules, known: &'a [Known<'a>]) -> f64 {
    round(known, |known| {
        let decision = decide(rules, &known.head);
        assert!(matches!(decision.action, SidecarAction::Proceed(_)), "not as it should be");
        decision
    })
}

fn parts<'a>(rules: &'a Rules, known: &'a [Known<'a>]) -> [f64; PARTS.len()] {
    let rule = rules.document.routes.first().and_then(|route| route.cache.as_ref());
    let map = || rules.shard_maps.get("users").expect("its map");
    let plan = |known: &'a Known<'a>| {
        let planned = Planned {
            rule,
            is_for_all_origins: false,
            policy_hash: "0123456789abcdef",
            tier: Tier::Sidecar,
            head: &known.head,
            target: &known.normal,
            parameters: &known.parameters,
            shard: Some(ShardPart::Resolved(&known.resolved)),
            shard_from: &[],
        };
        cache::plan(&planned).expect("a plan")
    };
    let checks = |known: &'a Known<'a>| {
        let fields = known.head.fields;
        (hops::count(fields), cors::preflight(&known.head), head::overrides_method(fields))
    };
    let key = |known: &'a Known<'a>| ShardKey::parse(map().key_type(), &known.user);
    let find =
        |known: &'a Known<'a>| Resolved::find(map(), ShardKeys::One(ShardKey::Int(known.number)));
    [
        round(known, |known| path::normalize(known.head.target).is_ok()),
        round(known, checks),
        round(known, |known| rules.parameters(&known.head, &known.normal.path)),
        round(known, key),
        round(known, find),
        round(known, plan),
    ]
}

/// Measures both maps, and says what the parts cost.
pub(crate) fn run(out: &mut impl Write) -> std::io::Result<()> {
    let of_file =
        Both { cached: rules(ROUTES, RANGES, CACHED), uncached: rules(ROUTES, RANGES, "") };
    let of_store = Both { cached: live(&of_file.cached), uncached: live(&of_file.uncached) };
    let fields: &[(String, String)] = &[
        ("host".to_owned(), "shop.example".to_owned()),
        ("accept".to_owned(), "*/*".to_owned()),
        ("user-agent".to_owned(), "bench".to_owned()),
    ];
    let target = |number| format!("/api/{number}/users/{}/orders?page=2", user(number, RANGES));
    let targets: Vec<String> = (0..TARGETS).map(target).collect();
    for (name, rules) in [("file", &of_file), ("live", &of_store)] {
        let head = |target| Head {
            method: "GET",
            scheme: "http",
            host: "shop.example",
            target,
            fields: &fields,
        };
        let known = targets.iter().enumerate();
        let known: Vec<Known<'_>> = known
            .map(|(number, target)| Known::new(&rules.cached, head(target), user(number, RANGES)))
            .collect();
        let (few, all) = (Figures::of(rules, &known[..FEW]), Figures::of(rules, &known));
        writeln!(out, "each part alone, {ROUTES} routes and a {name} map of {RANGES} ranges")?;
        writeln!(out, "  requests          {FEW:>6}     {TARGETS:>6}")?;
        show(out, &few, &all)?;
    }
    Ok(())
}

fn show(out: &mut impl Write, few: &Figures, all: &Figures) -> std::io::Result<()> {
    let mut line = |part, few, all| writeln!(out, "  {part:<16}  {few:>6.0} ns  {all:>6.0} ns");
    for (part, (few, all)) in PARTS.into_iter().zip(few.parts.into_iter().zip(all.parts)) {
        line(part, few, all)?;
    }
    let ((few_sum, few_uncached), (all_sum, all_uncached)) = (few.sums(), all.sums());
    line("their sum", few_sum, all_sum)?;
    line("whole decision", few.cached, all.cached)?;
    line("sum, no cache", few_uncached, all_uncached)?;
    line("whole, no cache", few.uncached, all.uncached)?;
    let mut ratio = |part, few, all| writeln!(out, "  {part:<16}  {few:>6.2}     {all:>6.2}");
    ratio("whole by sum", few.cached / few_sum, all.cached / all_sum)?;
    ratio("same, no cache", few.uncached / few_uncached, all.uncached / all_uncached)
}
