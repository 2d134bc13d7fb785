//! What a decision costs by the number of routes: the route, the cache key and the shard of a request, and
//! what a process keeps of the route, found by its index.
//!
//! Each figure is the least of several rounds.

use rules::document::KeyType;
use rules::shard::{Resolved, ShardKey, ShardKeys};
use rules::sidecar::{SidecarAction, decide};
use rules::{Head, Rules};
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

/// Rounds, of which the least counts: others on the machine only ever add time.
const ROUNDS: usize = 9;
/// Decisions in a round.
const DECISIONS: usize = 20_000;
/// Different targets in either case: how many there are must not be what is measured.
const TARGETS: usize = 1_000;
/// A decision among 1,000 routes may take so much of one among 10.
const RATIO_MAX: f64 = 1.2;

/// Ranges of the larger map.
const RANGES: usize = 10_000;

/// A map of so many ranges, each of one key but the first and the last.
fn map(ranges: usize) -> String {
    let mut text =
        "[shard_map.users]\nkey_type = \"int\"\nranges = [{ from = \"min\", shard = \"low\" }"
            .to_owned();
    for number in 1..ranges {
        let (from, shard) = (number * 10_000 / ranges, ["low", "high"][number % 2]);
        let _ = write!(text, ", {{ from = {from}, shard = \"{shard}\" }}");
    }
    text.push_str("]\n[shard_map.users.shards]\nlow = { upstream = \"low\" }\nhigh = { upstream = \"high\" }\n\n");
    text
}

/// Rules with so many routes and ranges; a request for one of them needs its template, a key and a shard.
fn rules(count: usize, ranges: usize, is_sharded: bool) -> Rules {
    let mut text = map(ranges);
    let shard =
        if is_sharded { "shard = { map = \"users\", from = [\"path:user\"] }\n" } else { "" };
    for number in 0..count {
        // Writing to a string can't fail.
        let _ = write!(
            text,
            "[[route]]\nname = \"r{number}\"\n\
             match = {{ path = \"/api/{number}/users/{{user}}/orders\", methods = [\"GET\"] }}\n\
             {shard}\
             cache = {{ sidecar = \"10s\" }}\n\n"
        );
    }
    Rules::from_toml(&text).unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("the benchmark's rules: {}", faults.join("\n"))
    })
}

/// The time of one decision among `count` routes, of which `asked` have requests, with what is kept of its
/// route.
fn decision(rules: &Rules, count: usize, asked: usize) -> Duration {
    let fields: &[(String, String)] = &[
        ("host".to_owned(), "shop.example".to_owned()),
        ("accept".to_owned(), "*/*".to_owned()),
        ("user-agent".to_owned(), "bench".to_owned()),
    ];
    let target = |number: usize| {
        format!(
            "/api/{}/users/{}/orders?page=2",
            number % asked * (count / asked),
            number * 37 % 10_000
        )
    };
    let targets: Vec<String> = (0..TARGETS).map(target).collect();
    let states: Vec<usize> = (0..count).collect();
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for number in 0..DECISIONS {
            // Another route each time, and none of them in turn.
            let target = &targets[number * 7919 % TARGETS];
            let head = Head {
                method: "GET",
                scheme: "http",
                host: "shop.example",
                target,
                fields: &fields,
            };
            let decision = decide(rules, black_box(&head));
            let state = decision.index.and_then(|index| states.get(index));
            let is_right = matches!(decision.action, SidecarAction::Proceed(_)) && state.is_some();
            assert!(is_right, "{target} was not decided as it should be");
            black_box(state);
        }
        least = least.min(began.elapsed());
    }
    least / u32::try_from(DECISIONS).unwrap_or(u32::MAX)
}

/// The time of one look-up of a key in the rules' map, its text read first.
fn look_up(rules: &Rules) -> Duration {
    let map = rules.shard_maps.get("users").expect("the benchmark's map");
    let keys: Vec<String> = (0..TARGETS).map(|number| (number * 37 % 10_000).to_string()).collect();
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for number in 0..DECISIONS {
            let key = ShardKey::parse(KeyType::Int, black_box(&keys[number * 7919 % TARGETS]));
            let found = key.map(|key| Resolved::find(map, ShardKeys::One(key)));
            assert!(black_box(found).is_some_and(|found| found.is_ok()), "a key that nobody holds");
        }
        least = least.min(began.elapsed());
    }
    least / u32::try_from(DECISIONS).unwrap_or(u32::MAX)
}

/// A decision with a shard among many ranges, beside one without and the look-up alone.
fn ranges(out: &mut impl Write) -> std::io::Result<()> {
    let (sharded, plain) = (rules(1_000, RANGES, true), rules(1_000, RANGES, false));
    let whole = decision(&sharded, 1_000, 10);
    let (without, alone) = (decision(&plain, 1_000, 10), look_up(&sharded));
    let ratio = whole.as_secs_f64() / (without + alone).as_secs_f64();
    writeln!(out, "with {RANGES} ranges and 1,000 routes")?;
    writeln!(out, "  route, key and shard {:>5} ns", whole.as_nanos())?;
    writeln!(out, "  route and key        {:>5} ns", without.as_nanos())?;
    writeln!(out, "  the shard alone      {:>5} ns", alone.as_nanos())?;
    writeln!(out, "  the whole is {ratio:.2} times its parts")?;
    Ok(())
}

fn main() -> std::io::Result<()> {
    let (few, many) = (rules(10, 2, true), rules(1_000, 2, true));
    let of_few = decision(&few, 10, 10);
    // The same ten again: what grows now is a look through routes, not what the processor's caches lack.
    let of_many = decision(&many, 1_000, 10);
    let all = decision(&many, 1_000, 1_000);
    let ratio = of_many.as_secs_f64() / of_few.as_secs_f64();
    let mut out = std::io::stdout().lock();
    writeln!(out, "a decision with route, key and shard, of requests for")?;
    writeln!(out, "  10 of    10 routes  {:>6} ns", of_few.as_nanos())?;
    writeln!(
        out,
        "  10 of 1,000 routes  {:>6} ns  {ratio:.2} times the first",
        of_many.as_nanos()
    )?;
    writeln!(out, " all of 1,000 routes  {:>6} ns", all.as_nanos())?;
    assert!(ratio <= RATIO_MAX, "more than {RATIO_MAX} times: something looks through all routes");
    ranges(&mut out)
}
