//! What is counted of sharded requests: by range, where they came in, and by the shard that answered.

use crate::load::MOVING;
use crate::world::{RULES, World};
use std::collections::BTreeMap;
use support::Spillway;

/// Requests by range, as one sidecar has counted them.
async fn by_range(sidecar: &Spillway) -> BTreeMap<String, u64> {
    let page = sidecar.admin().get("/metrics").await.text();
    let ranges = page.lines().filter_map(|line| {
        let labels =
            line.strip_prefix("spillway_shard_range_requests_total{map=\"market\",range=\"")?;
        let (range, count) = labels.split_once("\"} ")?;
        Some((range.to_owned(), count.parse().expect("a number")))
    });
    ranges.collect()
}

fn counts<const N: usize>(of: [(&str, u64); N]) -> BTreeMap<String, u64> {
    of.map(|(range, count)| (range.to_owned(), count)).into()
}

async fn ask(sidecar: &Spillway, key: i64, times: usize) {
    for _ in 0..times {
        assert_eq!(sidecar.client().get(&format!("/entries?id={key}")).await.status, 200);
    }
}

#[tokio::test]
async fn requests_are_counted_by_range_and_a_move_begins_the_count_of_what_it_cuts_out() {
    let world = World::start().await;
    let sidecar = world.sidecar(0);
    ask(sidecar, 2500, 3).await;
    ask(sidecar, 15_000, 1).await;
    assert_eq!(by_range(sidecar).await, counts([("1", 3), ("10001", 1)]));
    world.moves(MOVING, "a", "b").await;
    ask(sidecar, 2500, 2).await;
    ask(sidecar, 1, 1).await;
    ask(sidecar, 9000, 1).await;
    let found = by_range(sidecar).await;
    assert_eq!(found, counts([("1", 4), ("10001", 1), ("2001", 2), ("4001", 1)]));
    // What one sidecar sends to another is one request.
    for number in [2, 3] {
        assert_eq!(by_range(world.sidecar(number)).await, counts([]), "{number}");
    }
    let answered = |shard: &str| {
        format!(r#"spillway_shard_request_duration_seconds_count{{map="market",shard="{shard}"}}"#)
    };
    assert_eq!(sidecar.metric(&answered("a")).await, 5.0);
    assert_eq!(sidecar.metric(&answered("b")).await, 3.0);
    let came = r#"spillway_shard_requests_total{map="market",output="forward",shard="b"}"#;
    assert_eq!(sidecar.metric(came).await, 3.0);
}

#[tokio::test]
async fn of_text_keys_the_bound_is_said_to_operators_and_eight_digits_to_metrics() {
    let rules = RULES.replace("\"int\"", "\"text\"").replace("until    = 30001", "");
    let rules = rules
        .replace("from = 10001", "from = \"k\"")
        .replace("from = 20001", "from = \"s\"")
        .replace("from = 1,", "from = \"adam\",");
    let mut world = World::new(&rules).await;
    world.shards(&["init", "market"]).await;
    world.add("a").await;
    // As `printf %s adam | sha256sum` says.
    let shown = world.shards(&["show", "market"]).await;
    assert!(shown.contains("[adam,k)  a  since epoch 1  f7f376a1 in metrics"), "{shown}");
    world.owners.get("a").app.on("/entries", support::Reply::ok("read"));
    assert_eq!(world.client(0).get("/entries?id=bob").await.status, 200);
    assert_eq!(by_range(world.sidecar(0)).await, counts([("f7f376a1", 1)]));
    let page = world.sidecar(0).admin().get("/metrics").await.text();
    assert!(!page.contains("adam"), "{page}");
}
