//! Consumers that have had nothing to do for a while, and then have to go or get a job.

use super::faults::{Rng, seed_system};
use super::log::What;
use super::process::Process;
use super::schedule::rules_of;
use super::variants::Variant;
use super::world::World;
use crate::message::body::Body;
use http::Request;
use std::sync::Arc;
use std::time::Duration;

const RULES: usize = 2;
/// Until polls are as long as they get.
const IDLE: Duration = Duration::from_secs(300);

/// A consumer that was idle, and a proxy.
async fn idle(grace: Duration, more: u64) -> (Arc<World>, Arc<Process>, Arc<Process>) {
    let world = Arc::new(World::new(Rng::new(more), 100));
    world.state().calm(0);
    let rules = rules_of(RULES);
    let start = |is_producer| Process::start(&world, &rules, is_producer, Variant::Whole, grace);
    let (producer, consumer) = (start(true), start(false));
    tokio::time::sleep(IDLE + Duration::from_millis(more * 700)).await;
    (world, producer, consumer)
}

async fn accept(producer: &Process) {
    let request = Request::post("/always").header("host", "app").body(Body::full("1"));
    let accepted = producer.serve(request.expect("a request")).await.expect("accepted");
    assert_eq!(accepted.status(), 202);
}

fn simulated(play: impl AsyncFn(u64)) {
    for seed in 0..30 {
        seed_system(Some(seed));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(play(seed));
        drop(runtime);
        seed_system(None);
    }
}

#[test]
fn a_consumer_that_was_idle_drains_within_its_grace() {
    simulated(async |seed| {
        for grace in [0, 4, 12, 20, 285] {
            let grace = Duration::from_secs(grace);
            let (world, _producer, consumer) = idle(grace, seed).await;
            let began = world.now();
            consumer.drain(grace).await;
            let took = Duration::from_millis(world.now() - began);
            // A receive of 5 s may be under way with any grace, and SQS knows none over 20 s.
            let most = grace.clamp(Duration::from_secs(5), Duration::from_secs(20));
            assert!(took <= most, "{took:?} with a grace of {grace:?}");
        }
    });
}

#[test]
fn what_comes_to_a_consumer_that_drains_is_another_ones_at_once() {
    simulated(async |seed| {
        let grace = Duration::from_secs(285);
        let (world, producer, consumer) = idle(grace, seed).await;
        let draining = tokio::spawn({
            let consumer = Arc::clone(&consumer);
            async move { consumer.drain(grace).await }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        accept(&producer).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        {
            let state = world.state();
            assert!(!state.log.iter().any(|event| matches!(event.what, What::Began { .. })));
            // No delivery hides it: it was given back, or never taken.
            let next = state.mailbox.next_visible().expect("its message");
            assert!(next <= world.now(), "hidden until {next}");
        }
        draining.await.expect("drained");
    });
}

#[test]
fn the_first_job_after_a_long_rest_is_begun_at_once() {
    simulated(async |seed| {
        let (world, producer, _consumer) = idle(Duration::from_secs(285), seed).await;
        accept(&producer).await;
        let sent = world.now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let state = world.state();
        let began = state.log.iter().find(|event| matches!(event.what, What::Received { .. }));
        assert!(began.expect("a receive").at <= sent + 50);
    });
}
