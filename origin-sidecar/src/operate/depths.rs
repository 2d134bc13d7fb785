//! How full the queues are, as metrics, and what was learned of slow routes. No number is older than a
//! minute: what can't be read any more is taken away.

use crate::jobs::context::JobContext;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use stores::queue::{Depth, Queue};
use tokio::time::{Instant, sleep, timeout};

/// How often metrics are set, and a queue of this node is read, which costs nothing.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between two questions to a queue that is billed, while this process sends or receives messages.
const BUSY_INTERVAL: Duration = Duration::from_secs(15);
/// … and while it does not. One question is two requests where there are dead letters: 0.04 $ a month.
/// Each process asks for itself, or nobody would know of a queue whose consumers are all gone.
const IDLE_INTERVAL: Duration = Duration::from_secs(55);
/// … and after one that was not answered.
const AGAIN: Duration = Duration::from_secs(10);
/// A number is shown for so long.
const AGE_MAX: Duration = Duration::from_secs(60);

const STATES: [&str; 3] = ["visible", "in-flight", "dead"];

/// Sets them as long as the process runs. Never returns.
pub async fn watch(context: Arc<JobContext>) {
    let queues = context.backends.queues.iter();
    let queues = queues.map(|(name, queue)| watch_queue(&context, name, queue.as_ref()));
    tokio::join!(join_all(queues), watch_learned(&context));
}

/// What is known of one queue.
#[derive(Default)]
struct QueueReading {
    /// When it was asked last.
    asked: Option<Instant>,
    is_refused: bool,
    /// When it was asked what it answered, and that.
    depth: Option<(Instant, Depth)>,
}

impl QueueReading {
    /// How long until it is asked again.
    fn until_due(&self, pause: Duration) -> Duration {
        let pause = if self.is_refused { AGAIN.min(pause) } else { pause };
        self.asked.map_or(Duration::ZERO, |asked| pause.saturating_sub(asked.elapsed()))
    }

    /// How long the number may still be shown.
    fn rest(&self) -> Duration {
        self.depth.map_or(AGE_MAX, |(asked, _)| AGE_MAX.saturating_sub(asked.elapsed()))
    }

    async fn ask(&mut self, name: &str, queue: &dyn Queue) {
        let now = Instant::now();
        self.asked = Some(now);
        // No answer waits for one that would come too late.
        let answer = timeout(self.rest(), queue.depth()).await;
        let error = match answer {
            Ok(Ok(depth)) => {
                (self.depth, self.is_refused) = (Some((now, depth)), false);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if !std::mem::replace(&mut self.is_refused, true) {
            tracing::warn!(queue = name, error, "could not read the queue's depth; retrying");
        }
    }
}

async fn watch_queue(context: &JobContext, name: &str, queue: &dyn Queue) {
    let mut known = QueueReading::default();
    loop {
        let pause = match queue.is_billed() {
            false => INTERVAL,
            true if context.backends.soundness.has_traffic() => BUSY_INTERVAL,
            true => IDLE_INTERVAL,
        };
        if known.until_due(pause).is_zero() {
            known.ask(name, queue).await;
        }
        if known.rest().is_zero() {
            known.depth = None;
            hide(context, name);
        }
        if let Some((_, depth)) = known.depth {
            show(context, name, depth);
        }
        // Traffic may begin at any time.
        sleep(known.rest().min(known.until_due(pause)).min(INTERVAL)).await;
    }
}

fn show(context: &JobContext, name: &str, depth: Depth) {
    let jobs = &context.metrics.jobs;
    let counts = [depth.visible, depth.in_flight, depth.dead];
    for (state, count) in STATES.into_iter().zip(counts) {
        let gauge = jobs.messages.with_label_values(&[name, state]);
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    // A queue that can't tell: the consumer does, by what it receives.
    let age = match depth.oldest {
        Some(oldest) => i64::try_from((context.clock.now() - oldest).as_secs()),
        None if depth.visible + depth.in_flight == 0 => Ok(0),
        None => Ok(jobs.received_age_seconds.with_label_values(&[name]).get()),
    };
    jobs.oldest_seconds.with_label_values(&[name]).set(age.unwrap_or(i64::MAX));
}

fn hide(context: &JobContext, name: &str) {
    let jobs = &context.metrics.jobs;
    // One that is not there is as it should be.
    for state in STATES {
        let _ = jobs.messages.remove_label_values(&[name, state]);
    }
    let _ = jobs.oldest_seconds.remove_label_values(&[name]);
}

async fn watch_learned(context: &JobContext) {
    loop {
        for (route, p95) in context.latencies.slowest(context.clock.now()) {
            let learned = context.metrics.jobs.learned_seconds.with_label_values(&[route.as_str()]);
            learned.set(p95.0 as f64 / 1000.0);
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
