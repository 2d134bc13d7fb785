//! An application that is away for hours, while nothing else goes wrong.

use super::faults::{Rng, seed_system};
use super::log::What;
use super::process::Process;
use super::schedule::rules_of;
use super::variants::Variant;
use super::world::World;
use crate::jobs::receives::{ROUND, receives};
use crate::jobs::record::Outcome;
use crate::message::body::Body;
use http::Request;
use std::sync::Arc;
use std::time::Duration;

/// The rules whose `wait_for_app` is a day.
const PATIENT: usize = 1;
const HOUR: u64 = 3_600_000;
const LOOK: Duration = Duration::from_secs(1);
/// A delivery, a look at the application, the writing of an end.
const SLACK: u64 = 30_000;

/// What became of one job.
struct Course {
    outcome: Outcome,
    /// When it ended, in milliseconds since it was accepted.
    ended: u64,
    /// When its message was received.
    received: Vec<u64>,
    /// The numbers of the attempts that the application was asked in.
    attempts: Vec<u64>,
    is_dead: bool,
}

/// One job, accepted as the application goes away for so many hours.
fn one_job(hours: u64) -> Course {
    seed_system(Some(1));
    let rules = rules_of(PATIENT);
    let buried_after = receives(rules.document.queues.values().next());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let course = runtime.block_on(async {
        let world = Arc::new(World::new(Rng::new(1), buried_after));
        world.state().calm(0);
        let start = |is_producer| {
            let grace = Duration::from_secs(10);
            Process::start(&world, &rules, is_producer, Variant::Whole, grace)
        };
        let (producer, _consumer) = (start(true), start(false));
        // It is there when the consumer looks first.
        tokio::time::sleep(LOOK).await;
        let began = world.now();
        world.state().app_out_until = began + hours * HOUR;
        let request = Request::post("/always").header("host", "app").body(Body::full("1"));
        let accepted = producer.serve(request.expect("a request")).await.expect("accepted");
        assert_eq!(accepted.status(), 202);
        loop {
            let ending = world.state().jobs.first().and_then(|job| job.outcome.clone());
            if let Some(ending) = ending {
                // Its message is deleted, or it would come again.
                tokio::time::sleep(LOOK * 60).await;
                break course(&world, began, ending.outcome);
            }
            assert_eq!(world.state().violation, None);
            tokio::time::sleep(LOOK).await;
        }
    });
    drop(runtime);
    seed_system(None);
    course
}

fn course(world: &World, began: u64, outcome: Outcome) -> Course {
    let state = world.state();
    let (mut ended, mut received, mut attempts) = (0, Vec::new(), Vec::new());
    for event in &state.log {
        match event.what {
            What::Received { .. } => received.push(event.at - began),
            What::Began { attempt, .. } => attempts.push(attempt),
            What::Ended { .. } => ended = event.at - began,
            _ => {}
        }
    }
    Course { outcome, ended, received, attempts, is_dead: !state.mailbox.dead.is_empty() }
}

#[test]
fn a_job_waits_three_hours_for_its_application_and_its_first_attempt_is_its_first() {
    let course = one_job(3);
    assert_eq!(course.attempts, [1_u64]);
    assert_eq!(course.outcome.attempt, 1);
    assert!(course.ended >= 3 * HOUR && !course.is_dead);
    let round = u64::try_from(ROUND.as_millis()).expect("minutes");
    let gaps = course.received.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| gap >= round), "received at {:?}", course.received);
    assert!(course.received.len() > 1, "it was given back");
    // It is received once the application is back, not only in the next round of looks.
    assert!(course.ended <= 3 * HOUR + round + SLACK, "ended after {} ms", course.ended);
}

#[test]
fn a_job_that_has_waited_for_a_day_ends_though_its_application_is_still_away() {
    let course = one_job(40);
    assert!(course.attempts.is_empty(), "{:?}", course.attempts);
    let (status, reason) = (course.outcome.status.as_str(), course.outcome.reason.as_deref());
    assert_eq!((status, reason), ("failed", Some("app-unavailable")));
    assert_eq!(course.outcome.attempt, 0);
    let round = u64::try_from(ROUND.as_millis()).expect("minutes");
    assert!(
        (24 * HOUR..=24 * HOUR + 2 * round + SLACK).contains(&course.ended),
        "{}",
        course.ended
    );
    assert!(course.received.len() as u64 <= 1 + course.ended / round && !course.is_dead);
}
