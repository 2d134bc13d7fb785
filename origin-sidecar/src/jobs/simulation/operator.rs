//! The operator: runs failed jobs again, with the command that is shipped.

use super::schedule::Stage;
use super::world::Job;
use crate::jobs::operator::opened::Stores;
use crate::jobs::record::Terminal;
use std::time::Duration;

/// How often failed jobs are looked for while faults last.
const LOOKS: u64 = 4;

/// Retries what has failed, in some schedules.
pub(super) async fn run(stage: &Stage, until: u64) {
    if !stage.world.draw(|rng| rng.chance(300)) {
        return;
    }
    for _ in 0..LOOKS {
        let pause = stage.world.draw(|rng| rng.below(until / LOOKS + 1));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let failed = {
            let state = stage.world.state();
            state.jobs.iter().position(|job| {
                let end = job.outcome.as_ref().map(|end| end.outcome.status);
                job.is_sent && end == Some(Terminal::Failed)
            })
        };
        if let Some(job) = failed {
            retry(stage, job).await;
        }
    }
}

/// Does again what a fault cut short: a job whose end was taken back may have no message.
pub(super) async fn finish(stage: &Stage) {
    loop {
        let open = {
            let state = stage.world.state();
            let is_open = |job: &Job| job.is_requeued && !job.is_retried;
            state.jobs.iter().position(is_open).filter(|_| state.violation.is_none())
        };
        let Some(job) = open else { return };
        if retry(stage, job).await {
            stage.world.state().jobs[job].is_retried = true;
        }
    }
}

/// `spillway jobs retry`; a job that has ended by now needs none.
async fn retry(stage: &Stage, job: usize) -> bool {
    let process = stage.producer().await;
    let app = &process.worker.context;
    let Some(results) = app.backends.results.clone() else { return true };
    let (queues, now) = (app.backends.queues.clone(), app.clock.now());
    let id = {
        let state = stage.world.state();
        if state.jobs[job].outcome.as_ref().is_some_and(|end| {
            end.outcome.status != Terminal::Failed || state.jobs[job].is_requeued
        }) {
            return true;
        }
        state.jobs[job].id.clone()
    };
    let (rules, secrets) = (app.active.rules(), app.secrets.clone());
    let stores = Stores { queues, results, rules, secrets, now };
    let mut out = Vec::new();
    tokio::select! {
        biased;
        () = process.fallen() => false,
        done = stores.retry(&mut out, &id) => done.is_ok(),
    }
}
