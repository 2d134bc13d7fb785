//! A job whose range is announced for hours, while nothing else goes wrong.

use super::faults::{Rng, seed_system};
use super::log::What;
use super::process::Process;
use super::variants::Variant;
use super::world::World;
use crate::jobs::receives::receives;
use crate::jobs::record::Terminal;
use crate::message::body::Body;
use crate::secrets::Purpose;
use http::Request;
use rules::Rules;
use rules::shard::change::{BY_HAND, MoveDriver, MovePlan, first};
use rules::shard::object::{Changed, MapObject};
use std::sync::Arc;
use std::time::Duration;

const RULES: &str = r#"
    [queue.jobs]
    max_attempts = 1
    concurrency  = 1
    wait_for_app = "15m"

    [[route]]
    name    = "work"
    match   = { path = "/work" }
    shard   = { map = "market", from = ["query:id"] }
    offload = { queue = "jobs", when = "always", auth = "none" }

    [shard_map.market]
    live     = true
    key_type = "int"
    ranges   = [ { from = 1, shard = "a" }, { from = 101, shard = "b" } ]
    until    = 201
    shards   = { a = {}, b = {} }
"#;
const MINUTE: Duration = Duration::from_secs(60);

fn changed() -> Changed {
    Changed { by: "test".to_owned(), at: rules::UnixMillis(0), why: "test".to_owned() }
}

/// The map of the rules, with the range of the keys 1 to 100 announced.
fn announced(rules: &Rules) -> MapObject {
    let object = first("market", &rules.document.shard_maps["market"], changed());
    let plan = MovePlan {
        id: "m1".to_owned(),
        from: Some("1".to_owned()),
        until: Some("101".to_owned()),
        target: "b".to_owned(),
        driver: BY_HAND.to_owned(),
    };
    object.announce(plan, changed()).expect("announced")
}

fn follow(processes: &[&Process], object: &MapObject) {
    for process in processes {
        let context = &process.worker.context;
        let secrets = context.secrets.as_ref().expect("secrets");
        let key = secrets.derived_all(Purpose::Map).remove(0);
        let taken = context.maps.offer(object.clone().signed(&key).json().as_bytes());
        assert!(taken.is_ok(), "{taken:?}");
    }
}

async fn accept(producer: &Process, target: &str) {
    let request = Request::post(target).header("host", "app").body(Body::full("1"));
    let accepted = producer.serve(request.expect("a request")).await.expect("accepted");
    assert_eq!(accepted.status(), 202);
}

/// Plays on a clock that steps to the next event, with a queue that drops what was received too often.
fn simulated(play: impl AsyncFn(Arc<Rules>, Arc<World>, Arc<Process>, Arc<Process>)) {
    seed_system(Some(1));
    let rules = Rules::from_toml(RULES).unwrap_or_else(|faults| panic!("{faults:?}"));
    let rules = Arc::new(rules);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let buried_after = receives(rules.document.queues.values().next());
        let world = Arc::new(World::new(Rng::new(1), buried_after));
        world.state().calm(0);
        let start = |is_producer| {
            let grace = Duration::from_secs(10);
            Process::start(&world, &rules, is_producer, Variant::Whole, grace)
        };
        let (producer, consumer) = (start(true), start(false));
        tokio::time::sleep(Duration::from_secs(1)).await;
        play(Arc::clone(&rules), Arc::clone(&world), producer, consumer).await;
    });
    drop(runtime);
    seed_system(None);
}

/// The deliveries so far, and the ends of jobs.
fn seen(world: &World) -> (usize, Vec<(Terminal, u64)>) {
    let state = world.state();
    assert!(state.mailbox.dead.is_empty(), "a message was dropped");
    let received = |what: &What| matches!(what, What::Received { .. });
    let count = state.log.iter().filter(|event| received(&event.what)).count();
    let ended = state.jobs.iter().filter_map(|job| job.outcome.as_ref());
    let ended = ended.map(|ending| (ending.outcome.status, ending.outcome.attempt));
    (count, ended.collect())
}

#[test]
fn a_job_whose_range_is_announced_for_longer_than_an_application_may_be_away_ends_by_its_first_attempt()
 {
    simulated(async |rules, world, producer, consumer| {
        let object = announced(&rules);
        follow(&[&*producer, &*consumer], &object);
        accept(&producer, "/work?id=7").await;
        tokio::time::sleep(MINUTE).await;
        assert_eq!(seen(&world), (1, vec![]), "a move of a minute costs one delivery");
        tokio::time::sleep(19 * MINUTE).await;
        let (deliveries, ended) = seen(&world);
        assert_eq!(ended, []);
        assert!((5..=8).contains(&deliveries), "{deliveries} deliveries");
        let aborted = object.abort("m1", MoveDriver::Named(BY_HAND), changed());
        follow(&[&*producer, &*consumer], &aborted.expect("aborted"));
        tokio::time::sleep(6 * MINUTE).await;
        let (_, ended) = seen(&world);
        assert_eq!(ended, [(Terminal::Succeeded, 1)]);
    });
}

#[test]
fn jobs_of_an_announced_range_leave_the_consumer_to_those_of_other_ranges() {
    simulated(async |rules, world, producer, consumer| {
        follow(&[&*producer, &*consumer], &announced(&rules));
        for _ in 0..200 {
            accept(&producer, "/work?id=7").await;
        }
        tokio::time::sleep(MINUTE / 2).await;
        accept(&producer, "/work?id=150").await;
        tokio::time::sleep(MINUTE / 2).await;
        let (_, ended) = seen(&world);
        assert_eq!(ended, [(Terminal::Succeeded, 1)]);
    });
}
