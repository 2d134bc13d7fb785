//! Jobs of ranges of live shard maps: none starts while its range moves, and one that runs is a write in flight.

use super::context::JobWorker;
use super::job::Job;
use super::verdict::{DEADLINE_PASSED, ExecutionEnd, ExecutionVerdict, Until};
use crate::shards::admission::Entered;
use crate::writes::{WriteInFlight, WriteKind};
use rules::Problem;
use rules::document::Route;
use rules::shard::Resolved;
use std::sync::Arc;

/// A job of a range that is about to move does not start: it may run for hours, and the move would wait for
/// it. One that starts counts as a write in flight, unless its route says that it only reads.
pub(super) fn admitted(
    worker: &JobWorker,
    route: Option<&Route>,
    resolved: Option<Resolved>,
    job: &Job,
) -> Result<(Option<Resolved>, Option<WriteInFlight>), Box<ExecutionVerdict>> {
    let rule = route.and_then(|route| route.shard.as_ref());
    let rule = rule.filter(|rule| rule.writes != Some(false));
    let Some((rule, own)) = rule.zip(resolved.as_ref()).filter(|(_, own)| own.range.is_live) else {
        return Ok((resolved, None));
    };
    let ended = |problem: Problem| {
        Err(Box::new(ExecutionVerdict::Ended(ExecutionEnd::failed(problem.name()))))
    };
    let maps = &worker.context.maps;
    // A delivery keeps the rules that it began with: its range may have been fenced in them.
    let mut own = match maps.newest(own) {
        Ok(newest) => newest,
        Err(problem) => return ended(problem),
    };
    loop {
        let what = || WriteKind::Job(job.id.clone());
        match maps.enter(rule, own, false, what) {
            Ok(Entered::Go(resolved, write)) if resolved.may_start_job() => {
                return Ok((Some(resolved), Some(write)));
            }
            Ok(Entered::Go(own, mut write)) => {
                write.settled();
                return Err(Box::new(moves(&own)));
            }
            Ok(Entered::Wait(own)) => return Err(Box::new(moves(&own))),
            Ok(Entered::Changed(newest)) => own = newest,
            Err(problem) => return ended(problem),
        }
    }
}

fn moves(resolved: &Resolved) -> ExecutionVerdict {
    waits(Until::Moved(Arc::clone(resolved.map())))
}

/// Another sidecar follows a newer map: once this process does, the job goes where that says.
pub(super) async fn stale(worker: &JobWorker, resolved: Option<&Resolved>) -> ExecutionVerdict {
    if let Some(resolved) = resolved {
        worker.context.maps.refresh(resolved.map(), resolved.epoch()).await;
    }
    waits(Until::NewerMap)
}

/// The map will be known once the result store answers.
pub(super) fn map_unknown() -> ExecutionVerdict {
    waits(Until::KnownMap)
}

/// Only its deadline ends a job that waits for a shard map.
fn waits(until: Until) -> ExecutionVerdict {
    ExecutionVerdict::Later { until, last: ExecutionEnd::failed(DEADLINE_PASSED) }
}
