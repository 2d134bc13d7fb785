//! What a decision costs by the number of routes: the route, the cache key and the shard of a request, and
//! what a process keeps of the route, found by its index; and what each part of a decision costs alone.
//!
//! Each figure is the least of several rounds.

mod parts;

use rules::sidecar::{SidecarAction, decide};
use rules::{Head, Rules};
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

/// As the sidecar's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds, of which the least counts: others on the machine only ever add time.
const ROUNDS: usize = 9;
/// Decisions in a round.
const DECISIONS: usize = 20_000;
/// Different targets in either case: how many there are must not be what is measured.
const TARGETS: usize = 1_000;
/// Ranges of the map, where it is routes that are compared.
const RANGES: usize = 2;
/// A decision among 1,000 routes may take so much of one among 10.
const RATIO_MAX: f64 = 1.2;

/// Keys from one range to the next.
const KEYS: usize = 10;

/// How answers are cached.
const CACHED: &str = "cache = { sidecar = \"10s\" }\n";

/// Rules with so many routes, and a map of so many ranges; a request for one of them needs its template, a key and
/// a shard, and a cache key where `cache` says so.
fn rules(count: usize, ranges: usize, cache: &str) -> Rules {
    let shard = |number: usize| if number.is_multiple_of(2) { "low" } else { "high" };
    let bound = |number: usize| {
        let from = number * KEYS;
        format!("{{ from = {from}, shard = \"{}\" }}", shard(number))
    };
    let bounds: Vec<String> = (0..ranges).map(bound).collect();
    let mut text = format!(
        "[shard_map.users]\nkey_type = \"int\"\nranges = [{}]\n\
         [shard_map.users.shards]\nlow = {{ upstream = \"low\" }}\nhigh = {{ upstream = \"high\" }}\n\n",
        bounds.join(", ")
    );
    for number in 0..count {
        // Writing to a string can't fail.
        let _ = write!(
            text,
            "[[route]]\nname = \"r{number}\"\n\
             match = {{ path = \"/api/{number}/users/{{user}}/orders\", methods = [\"GET\"] }}\n\
             shard = {{ map = \"users\", from = [\"path:user\"] }}\n\
             {cache}\n"
        );
    }
    Rules::from_toml(&text).unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("the benchmark's rules: {}", faults.join("\n"))
    })
}

/// The user whom a request is for: somebody else each time, in another range.
fn user(number: usize, ranges: usize) -> usize {
    number * 6_007 % (ranges * KEYS)
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
            user(number, RANGES)
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

fn main() -> std::io::Result<()> {
    let (few, many) = (rules(10, RANGES, CACHED), rules(1_000, RANGES, CACHED));
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
    parts::run(&mut out)
}
