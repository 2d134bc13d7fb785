//! Starts, reloads and what is pushed: a process follows a live map, or says why it can't.

use crate::load::MOVING;
use crate::world::{RULES, Step, World, started};
use support::{App, Client, Fault, Reply, SECRET, Spillway, eventually, folder};

const TARGET: &str = "/entries?id=2500";

#[tokio::test]
async fn a_live_map_needs_a_store_and_a_secret() {
    let app = App::start().await;
    let folder = folder();
    let upstreams = "app-a=http://127.0.0.1:1,app-b=http://127.0.0.1:1,app-c=http://127.0.0.1:1";
    let setup = || Spillway::proxy(RULES, &app).with("--upstream", upstreams);
    let ended = setup().refused().await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.errors.contains("shard map `market` is live: add --results"), "{}", ended.errors);
    let results = format!("file:{}", folder.path().display());
    let ended = setup().with("--results", &results).env("SPILLWAY_SECRET", "").refused().await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.errors.contains("SPILLWAY_SECRET"), "{}", ended.errors);
}

#[tokio::test]
async fn until_the_map_is_made_its_routes_say_that_it_is_unknown_and_others_work() {
    let rules = format!(
        "{RULES}\n    [[route]]\n    name = \"plain\"\n    match = {{ path = \"/plain\" }}\n"
    );
    // The table of the map comes last in RULES.
    let mut world = World::new(&rules).await;
    world.owners.get("a").app.on("/plain", Reply::ok("plain"));
    world.add("a").await;
    let client = world.client(0);
    let answer = client.get(TARGET).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "map-unknown"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(client.get("/plain").await.status, 200);
    world.shards(&["init", "market"]).await;
    eventually("the map is known", || async {
        (client.get(TARGET).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_its_store_a_newcomer_asks_its_siblings() {
    let mut world = World::start().await;
    world.moves(MOVING, "a", "b").await;
    world.cloud.s3().set(Fault::Refuse);
    world.add("a").await;
    let newcomer = world.client(world.sidecars.len() - 1);
    assert_eq!(newcomer.post(TARGET, "w1").await.status, 200);
    assert_eq!(world.owners.get("b").entries(2500), ["w1"]);
    world.cloud.s3().clear();
}

#[tokio::test]
async fn without_store_and_siblings_it_has_not_started_until_one_of_them_is_there() {
    let world = World::new(RULES).await;
    world.shards(&["init", "market"]).await;
    world.cloud.s3().set(Fault::Refuse);
    let (setup, _to_store) = world.setup("a").await;
    let newcomer = setup.start().await;
    let startup = newcomer.admin().get("/startup").await;
    assert_eq!(startup.status, 503, "{}", startup.text());
    world.cloud.s3().clear();
    started(&newcomer).await;
    assert_eq!(newcomer.client().get(TARGET).await.status, 200);
}

#[tokio::test]
async fn a_file_that_takes_the_live_map_for_its_own_does_not_start() {
    let world = World::start().await;
    let old = RULES.replace("live     = true", "");
    let (setup, _to_store) = world.setup("a").await;
    let ended = setup.with_rules(&old).refused().await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.errors.contains("map-is-live: [shard_map.market]"), "{}", ended.errors);
}

#[tokio::test]
async fn a_reload_takes_new_shards_and_refuses_a_changed_seed() {
    let world = World::start().await;
    let sidecar = world.sidecar(0);
    sidecar.change_rules(&RULES.replace("from = 10001", "from = 9001"));
    sidecar.until_said("`spillway shards` changes it").await;
    assert_eq!(world.owner(9_500).await, "a");
    let more = RULES.replace("c = {", "d = { upstream = \"app-c\" }, c = {");
    sidecar.change_rules(&more);
    sidecar.until_said("rules changed").await;
    assert_eq!(sidecar.client().post(TARGET, "w1").await.status, 200);
}

/// A client that may change something on an admin port.
fn pusher(sidecar: &Spillway) -> Client {
    json(sidecar).with("x-spillway-admin", "1")
}

fn json(sidecar: &Spillway) -> Client {
    sidecar.admin().with("content-type", "application/json")
}

#[tokio::test]
async fn what_is_pushed_and_is_no_map_of_ours_is_not_taken_and_said_so() {
    let world = World::start().await;
    let sidecar = world.sidecar(0);
    let known = sidecar.admin().get("/shards/map?map=market").await.text();
    let mac = known.split_once("\"mac\":\"").expect("a mac").1;
    let wrong_mac = known.replace(&mac[..8], "00000000");
    let other_map = known.replace("\"map\":\"market\"", "\"map\":\"other\"");
    let pushes = [
        ("", "unreadable"),
        (&known[..known.len() / 2], "unreadable"),
        (&*wrong_mac, "signature"),
        (&*other_map, "not-live"),
    ];
    for (body, reason) in pushes {
        let answer = pusher(sidecar).post("/shards/map", body.to_owned()).await;
        assert_eq!(answer.status, 400, "{reason}: {}", answer.text());
        assert!(answer.text().starts_with(reason), "{reason}: {}", answer.text());
    }
    let large = vec![b' '; 1024 * 1024 + 1];
    assert_eq!(pusher(sidecar).post("/shards/map", large).await.status, 413);
    // Without the field that no page of a browser can send.
    assert_eq!(json(sidecar).post("/shards/map", known.clone()).await.status, 403);
    // The same twice changes nothing.
    for _ in 0..2 {
        let ack = pusher(sidecar).post("/shards/map", known.clone()).await;
        assert_eq!((ack.status, ack.json()["epoch"].as_u64()), (200, Some(2)), "{}", ack.text());
    }
    assert_eq!(sidecar.client().get(TARGET).await.status, 200);
}

#[tokio::test]
async fn explain_says_who_owns_a_key_by_the_live_map() {
    let world = World::start().await;
    let unknown = world.explain(TARGET, None).await;
    assert!(unknown.output.contains("503 map-unknown"), "{}{}", unknown.output, unknown.errors);
    assert!(unknown.output.contains("--map FILE|URL"), "{}", unknown.output);
    world.step(Step::Announce, MOVING, "a", "b").await;
    let url = format!("http://{}/shards/map?map=market", world.sidecar(0).admin_address());
    let moving = world.explain(TARGET, Some(&url)).await;
    let owner = "a  key 2500 of market in [2001,4001) (announced, owned since epoch 1), epoch 3";
    assert!(moving.output.contains(owner), "{}{}", moving.output, moving.errors);
    let other = world.explain(TARGET, Some("/dev/null")).await;
    assert_eq!(other.code, Some(78));
    assert!(other.errors.contains("--map /dev/null"), "{}", other.errors);
}

#[tokio::test]
async fn the_secret_is_rotated_while_a_newcomer_starts() {
    let world = World::start().await;
    let new = "rotated-rotated-rotated-rotated-rot";
    let both = format!("{new},{SECRET}");
    let (setup, _store) = world.setup("a").await;
    let newcomer = setup.env("SPILLWAY_SECRET", &both).start().await;
    started(&newcomer).await;
    let signed = r#"spillway_shard_map_signed_by_first_key{map="market"}"#;
    assert_eq!(newcomer.metric(signed).await, 0.0);
    assert_eq!(newcomer.client().get(TARGET).await.status, 200);
    let signing = world.shards_as(&both, &["sign", "market"]).await;
    assert_eq!(signing.code, Some(0), "{}", signing.errors);
    eventually("the map is signed anew", || async {
        (newcomer.metric(signed).await == 1.0).then_some(())
    })
    .await;
    // From now on the old secret is needed no more.
    let (setup, _store) = world.setup("a").await;
    let last = setup.env("SPILLWAY_SECRET", new).start().await;
    started(&last).await;
    assert_eq!(last.client().get(TARGET).await.status, 200);
}

#[tokio::test]
async fn a_map_is_retired_once_every_member_starts_with_its_ranges() {
    let world = World::start().await;
    world.shards(&["split", "market", "--at", "5001"]).await;
    let file = RULES.replace(
        r#"{ from = 1, shard = "a" }"#,
        r#"{ from = 1, shard = "a" }, { from = 5001, shard = "a" }"#,
    );
    let refused = world.try_shards(&["retire", "market"]).await;
    assert!(refused.errors.contains("spillway shards export market"), "{}", refused.errors);
    world.shards_file(&file);
    let refused = world.try_shards(&["retire", "market"]).await;
    assert!(refused.errors.contains("members-behind"), "{}", refused.errors);
    assert_eq!(refused.errors.matches("its rules file has other ranges").count(), 6);
    assert_eq!(world.client(0).get(TARGET).await.status, 200);
    for sidecar in world.running() {
        sidecar.change_rules(&file);
        sidecar.until_said("`spillway shards` changes it").await;
    }
    world.shards(&["retire", "market"]).await;
    let gone = world.try_shards(&["show", "market"]).await;
    assert_eq!(gone.code, Some(1), "{}", gone.output);
    assert!(gone.errors.contains("spillway shards init"), "{}", gone.errors);
}
