//! What a move does to single requests: writes wait, reads go on, what began before is waited for, and stored
//! answers of other ranges stay.

use crate::load::MOVING;
use crate::world::{RULES, Step, World};
use support::{Answer, Client, Gate, Reply, eventually};
use tokio::task::JoinHandle;

/// A key of the range that moves, and one that does not.
const INSIDE: &str = "/entries?id=2500";
const OUTSIDE: &str = "/entries?id=9000";

fn posted(client: Client, target: &'static str, write: &'static str) -> JoinHandle<Answer> {
    tokio::spawn(async move { client.post(target, write).await })
}

/// Waits until so many writes wait at a sidecar.
async fn held(world: &World, number: usize, count: f64) {
    let sidecar = world.sidecar(number);
    eventually("writes wait", || async {
        (sidecar.metric(r#"spillway_shard_held{map="market"}"#).await >= count).then_some(())
    })
    .await;
}

async fn fenced(world: &World) {
    world.step(Step::Announce, MOVING, "a", "b").await;
    world.step(Step::Fence, MOVING, "a", "b").await;
}

async fn committed(world: &World) {
    world.step(Step::NoReturn, MOVING, "a", "b").await;
    world.step(Step::Commit, MOVING, "a", "b").await;
}

#[tokio::test]
async fn writes_of_the_range_wait_for_the_commit_and_all_else_goes_on() {
    let world = World::start().await;
    fenced(&world).await;
    let waiting = posted(world.client(0), INSIDE, "w1");
    held(&world, 0, 1.0).await;
    assert_eq!(world.client(0).get(INSIDE).await.status, 200);
    assert_eq!(world.client(0).post(OUTSIDE, "w2").await.status, 200);
    committed(&world).await;
    assert_eq!(waiting.await.expect("an answer").status, 200);
    assert_eq!(world.owners.get("b").entries(2500), ["w1"]);
    assert_eq!(world.owners.get("a").entries(9000), ["w2"]);
}

#[tokio::test]
async fn after_an_abort_the_writes_go_to_the_old_owner() {
    let world = World::start().await;
    fenced(&world).await;
    // Through a sidecar of another shard, too.
    let waiting = [posted(world.client(0), INSIDE, "w1"), posted(world.client(4), INSIDE, "w2")];
    held(&world, 0, 1.0).await;
    held(&world, 4, 1.0).await;
    world.shards(&["abort", "market"]).await;
    for waiting in waiting {
        assert_eq!(waiting.await.expect("an answer").status, 200);
    }
    let mut kept = world.owners.get("a").entries(2500);
    kept.sort();
    assert_eq!(kept, ["w1", "w2"]);
}

#[tokio::test]
async fn a_write_that_waits_too_long_or_finds_no_room_is_refused_by_name_and_not_sent() {
    let rules = format!("{RULES}\n    hold = {{ time = \"2s\", requests = 1 }}\n");
    let world = World::start_with(&rules).await;
    fenced(&world).await;
    let waiting = posted(world.client(0), INSIDE, "w1");
    held(&world, 0, 1.0).await;
    let refused = world.client(0).post(INSIDE, "w2").await;
    let late = waiting.await.expect("an answer");
    for answer in [refused, late] {
        assert_eq!((answer.status, answer.problem().as_str()), (503, "range-fenced"));
        assert_eq!(answer.header("retry-after"), "1");
    }
    world.shards(&["abort", "market"]).await;
    assert!(world.owners.get("a").entries(2500).is_empty());
    for reason in ["requests", "time"] {
        let series =
            format!(r#"spillway_shard_hold_refused_total{{map="market",reason="{reason}"}}"#);
        assert_eq!(world.sidecar(0).metric(&series).await, 1.0, "{reason}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_write_waits_has_written_nothing() {
    let world = World::start().await;
    fenced(&world).await;
    let leaving = posted(world.client(0), INSIDE, "w1");
    held(&world, 0, 1.0).await;
    leaving.abort();
    let sidecar = world.sidecar(0);
    eventually("it waits no longer", || async {
        (sidecar.metric(r#"spillway_shard_held{map="market"}"#).await == 0.0).then_some(())
    })
    .await;
    committed(&world).await;
    assert_eq!(world.client(0).post(INSIDE, "w2").await.status, 200);
    assert_eq!(world.owners.get("b").entries(2500), ["w2"]);
}

#[tokio::test]
async fn a_process_that_ends_refuses_the_writes_that_wait_at_once() {
    let world = World::start().await;
    fenced(&world).await;
    let waiting = posted(world.client(0), INSIDE, "w1");
    held(&world, 0, 1.0).await;
    world.sidecar(0).terminate().await;
    let answer = waiting.await.expect("an answer");
    assert_eq!((answer.status, answer.problem().as_str()), (503, "range-fenced"));
    assert!(answer.text().contains("draining"), "{}", answer.text());
}

#[tokio::test]
async fn a_write_that_began_before_the_announce_delays_the_fence() {
    let world = World::start().await;
    let gate = Gate::default();
    let reply = Reply::ok("kept").behind(&gate);
    world.owners.get("a").app.on("/slow", reply);
    let slow = posted(world.client(3), "/slow?id=2500", "w1");
    gate.until_waited(1).await;
    world.step(Step::Announce, MOVING, "a", "b").await;
    let ended = world.try_shards(&["fence", "market", "--wait", "1"]).await;
    assert_eq!(ended.code, Some(1));
    let said = format!("{}{}", ended.output, ended.errors);
    assert!(said.contains("the move was aborted: members-behind:"), "{said}");
    assert!(said.contains("writes in flight: POST on route slow"), "{said}");
    gate.open();
    assert_eq!(slow.await.expect("an answer").status, 200);
    world.moves(MOVING, "a", "b").await;
}

#[tokio::test]
async fn a_sidecar_whose_map_is_old_learns_of_the_new_one_by_its_first_request() {
    let mut world = World::start().await;
    // Number 4 hears of nothing, but the sidecars of the shards do.
    world.cut_off(4);
    world.moves(MOVING, "a", "b").await;
    let old = world.client(4);
    assert_eq!(world.owners.refused(), 0);
    // It can't learn where the range is: it says so, and the client may try again.
    let answer = old.post(INSIDE, "w1").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "map-behind"));
    assert_eq!(answer.header("retry-after"), "1");
    // What did not move goes on.
    assert_eq!(old.post(OUTSIDE, "w2").await.status, 200);
    // Once it reaches the store again the refusal teaches it, and the client sees nothing.
    world.reconnect(4);
    assert_eq!(old.post(INSIDE, "w3").await.status, 200);
    assert_eq!(world.owners.get("b").entries(2500), ["w3"]);
    let said = world.sidecar(4).metric(r#"spillway_shard_stale_total{side="sender"}"#).await;
    assert!(said >= 1.0, "{said}");
}

#[tokio::test]
async fn a_refusal_between_sidecars_reaches_no_client_of_a_cached_route() {
    let mut world = World::start().await;
    for shard in ["a", "b"] {
        world.owners.get(shard).app.on("/cached", Reply::ok(format!("of {shard}")));
    }
    world.cut_off(4);
    world.moves(MOVING, "a", "b").await;
    let old = world.client(4);
    let answer = old.get("/cached?id=2500").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "map-behind"));
    world.reconnect(4);
    assert_eq!(old.get("/cached?id=2500").await.text(), "of b");
}

#[tokio::test]
async fn a_fence_that_nobody_could_be_told_of_is_refused_before_anything_waits() {
    let mut world = World::start().await;
    world.step(Step::Announce, MOVING, "a", "b").await;
    world.unreachable.extend(0..6);
    let ended = world.try_shards(&["fence", "market"]).await;
    assert_eq!(ended.code, Some(78), "{}{}", ended.output, ended.errors);
    assert!(ended.errors.contains("no member is named"), "{}", ended.errors);
    world.unreachable.clear();
    assert_eq!(world.client(0).post(INSIDE, "w1").await.status, 200);
}

#[tokio::test]
async fn a_large_write_by_an_old_map_is_refused_and_reaches_nobody() {
    let mut world = World::start().await;
    world.cut_off(4);
    world.moves(MOVING, "a", "b").await;
    let large = "x".repeat(100 * 1024);
    let answer = world.client(4).post(INSIDE, large).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "map-behind"));
    for shard in ["a", "b"] {
        assert!(world.owners.get(shard).entries(2500).is_empty(), "{shard}");
    }
}

#[tokio::test]
async fn a_change_is_asked_for_and_a_dry_run_changes_nothing() {
    let world = World::start().await;
    let announce = ["announce", "market", "--range", "2001..4001", "--to", "b"];
    let asked = world.shards_unasked(&announce).await;
    assert_eq!(asked.code, Some(1));
    assert!(asked.errors.contains("nobody can be asked: add --yes"), "{}", asked.errors);
    let planned = world.shards_unasked(&[&announce[..], &["--dry-run"]].concat()).await;
    assert_eq!(planned.code, Some(0), "{}", planned.errors);
    assert!(planned.output.contains("epoch 3: announce 2001..4001 to b"), "{}", planned.output);
    let shown = world.shards(&["--json", "show", "market"]).await;
    let shown: serde_json::Value =
        serde_json::from_str(shown.lines().next().expect("a line")).expect("JSON");
    assert_eq!(shown["epoch"], 2, "{shown}");
}

#[tokio::test]
async fn stored_answers_of_other_ranges_stay_and_those_of_the_moved_range_are_asked_for_anew() {
    let world = World::start().await;
    for shard in ["a", "b"] {
        world.owners.get(shard).app.on("/cached", Reply::ok(format!("of {shard}")));
    }
    let client = world.client(0);
    for target in ["/cached?id=2500", "/cached?id=9000"] {
        assert_eq!(client.get(target).await.text(), "of a");
        assert!(client.get(target).await.cache().starts_with("hit"), "{target}");
    }
    world.moves(MOVING, "a", "b").await;
    assert!(client.get("/cached?id=9000").await.cache().starts_with("hit"));
    let moved = client.get("/cached?id=2500").await;
    assert_eq!(moved.text(), "of b");
    assert!(!moved.cache().starts_with("hit"), "{}", moved.cache());
}

#[tokio::test]
async fn a_fill_that_began_before_the_commit_is_not_served_after_it() {
    let world = World::start().await;
    let gate = Gate::default();
    world.owners.get("a").app.on("/cached", Reply::ok("of a").behind(&gate));
    world.owners.get("b").app.on("/cached", Reply::ok("of b"));
    let client = world.client(0);
    let filling = tokio::spawn({
        let client = client.clone();
        async move { client.get("/cached?id=2500").await }
    });
    gate.until_waited(1).await;
    world.moves(MOVING, "a", "b").await;
    gate.open();
    filling.await.expect("an answer");
    assert_eq!(client.get("/cached?id=2500").await.text(), "of b");
}

#[tokio::test]
async fn the_log_says_who_changed_what_and_a_map_that_the_store_lost_is_put_back() {
    let world = World::start().await;
    world.moves(MOVING, "a", "b").await;
    let log = world.shards(&["log", "market"]).await;
    assert!(log.contains("announce 2001..4001 to b") && log.contains("test"), "{log}");
    world.cloud.replace("results", "maps/shards/market", None);
    let sidecar = world.sidecar(1);
    eventually("the loss is seen", || async {
        (sidecar.metric(r#"spillway_shard_map_lost{map="market"}"#).await == 1.0).then_some(())
    })
    .await;
    // It goes on with what it knows.
    assert_eq!(sidecar.client().post(INSIDE, "w1").await.status, 200);
    let refused = world.try_shards(&["init", "market"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("spillway shards restore market"), "{}", refused.errors);
    world.shards(&["restore", "market"]).await;
    assert_eq!(world.owner(2500).await, "b");
    eventually("it is there again", || async {
        (sidecar.metric(r#"spillway_shard_map_lost{map="market"}"#).await == 0.0).then_some(())
    })
    .await;
    world.cloud.replace("results", "maps/shards/market", Some("half an obj".into()));
    let refused = world.try_shards(&["split", "market", "--at", "7001"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    world.shards(&["restore", "market"]).await;
    assert_eq!(world.owner(2500).await, "b");
}

#[tokio::test]
async fn of_two_coordinators_one_is_first_and_the_other_is_told_so() {
    let world = World::start().await;
    let one = ["announce", "market", "--range", "2001..4001", "--to", "b"];
    let other = ["announce", "market", "--range", "5001..6001", "--to", "c"];
    let (one, other) = tokio::join!(world.try_shards(&one), world.try_shards(&other));
    let (first, second) = if one.code == Some(0) { (one, other) } else { (other, one) };
    assert_eq!((first.code, second.code), (Some(0), Some(1)), "{}{}", first.errors, second.errors);
    let is_told = ["somebody else was first", "move-under-way"];
    assert!(is_told.iter().any(|text| second.errors.contains(text)), "{}", second.errors);
}

#[tokio::test]
async fn ranges_are_extended_split_and_merged_while_writes_go_on() {
    let world = World::start().await;
    let client = world.client(2);
    assert_eq!(client.post("/entries?id=30500", "w1").await.status, 404);
    world.shards(&["extend", "market", "--until", "31001", "--shard", "c"]).await;
    world.owners.open("c", (30_001, 31_001));
    assert_eq!(client.post("/entries?id=30500", "w1").await.status, 200);
    world.shards(&["split", "market", "--at", "5001"]).await;
    assert_eq!(client.post(OUTSIDE, "w2").await.status, 200);
    assert!(world.shards(&["show", "market"]).await.contains("[1,5001)"));
    world.shards(&["merge", "market", "--at", "5001"]).await;
    assert!(world.shards(&["show", "market"]).await.contains("[1,10001)"));
}

#[tokio::test]
async fn a_member_that_does_not_know_the_target_ends_the_move_by_name() {
    let world = World::start().await;
    world.shards_file(&RULES.replace("c = {", "d = { upstream = \"app-c\" }, c = {"));
    let ended =
        world.try_shards(&["announce", "market", "--range", "2001..4001", "--to", "d"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("unknown-shard: the object names shard `d`"), "{}", ended.errors);
    assert_eq!(world.owner(2500).await, "a");
    assert_eq!(world.client(0).post(INSIDE, "w1").await.status, 200);
}
