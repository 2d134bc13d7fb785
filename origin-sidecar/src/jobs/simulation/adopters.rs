//! Proxies that die while they execute adopted requests, while nothing else goes wrong.

use super::faults::{Rng, seed_system};
use super::log::What;
use super::process::Process;
use super::schedule::rules_of;
use super::variants::Variant;
use super::world::World;
use crate::jobs::record::Terminal;
use crate::message::body::Body;
use http::Request;
use std::sync::Arc;
use std::time::Duration;

/// Its receivers are told, and a route is `slow`.
const TELLING: usize = 0;
/// What docs/offload.md promises.
const ENDS_WITHIN_MS: u64 = 30_000;
const TOLD_WITHIN_MS: u64 = 35_000;
const GRACE: Duration = Duration::from_secs(10);
/// Longer than the pace of listings, of renewals, and of both together.
const OFFSETS: u64 = 40;

/// How long after the death of its proxy a job ended, and its receiver was told. The proxy dies so long
/// after it gave its 202, and the consumers have been idle for so long before.
fn after_a_death(seed: u64, idle: Duration, lives: Duration) -> Option<(u64, u64)> {
    seed_system(Some(seed));
    let rules = rules_of(TELLING);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let times = runtime.block_on(async {
        let world = Arc::new(World::new(Rng::new(seed), 100));
        world.state().calm(0);
        let start =
            |is_producer| Process::start(&world, &rules, is_producer, Variant::Whole, GRACE);
        let (producer, _consumers) = (start(true), [start(false), start(false)]);
        tokio::time::sleep(idle).await;
        let request = Request::post("/slow").header("host", "app").header("x-user", "7");
        let request = request.body(Body::full("1")).expect("a request");
        let answered = producer.serve(request).await.expect("answered");
        if answered.status() != 202 {
            return None;
        }
        tokio::time::sleep(lives).await;
        let has_ended = world.state().jobs.iter().any(|job| job.outcome.is_some());
        if has_ended {
            return None;
        }
        let died = world.now();
        producer.crash();
        tokio::time::sleep(Duration::from_millis(2 * ENDS_WITHIN_MS)).await;
        let state = world.state();
        let outcome = state.jobs.iter().find_map(|job| job.outcome.clone()).expect("an end");
        let (status, reason) = (outcome.outcome.status, outcome.outcome.reason.as_deref());
        assert_eq!((status, reason), (Terminal::Failed, Some("unknown")));
        let at = |is_it: fn(&What) -> bool| {
            let event = state.log.iter().find(|event| is_it(&event.what));
            event.expect("it happened").at - died
        };
        let ended = at(|what| matches!(what, What::Ended { .. }));
        Some((ended, at(|what| matches!(what, What::Told { .. }))))
    });
    drop(runtime);
    seed_system(None);
    times
}

#[test]
fn whenever_a_proxy_dies_its_adopted_job_ends_within_thirty_seconds_and_is_told() {
    let mut deaths = 0;
    for offset in 0..OFFSETS {
        let idle = Duration::from_millis(120_000 + offset * 400);
        for lives in [0, 1_300, 4_900, 5_100, 12_000, 26_000] {
            let Some((ended, told)) = after_a_death(offset, idle, Duration::from_millis(lives))
            else {
                // The application was quicker.
                continue;
            };
            deaths += 1;
            assert!(ended <= ENDS_WITHIN_MS, "{offset}, {lives}: ended after {ended} ms");
            assert!(told <= TOLD_WITHIN_MS, "{offset}, {lives}: told after {told} ms");
        }
    }
    assert!(deaths >= 50, "only {deaths} died in time");
}
