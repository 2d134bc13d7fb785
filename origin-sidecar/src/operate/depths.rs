//! Publishes the depths of queues and the latencies of slow routes as metrics. No number is older
//! than a minute: one that can't be updated is removed.

use crate::jobs::context::JobContext;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use stores::queue::{Depth, Queue};
use tokio::time::{Instant, sleep, timeout};

/// How often metrics are set, and local queues are read, which costs nothing.
const INTERVAL: Duration = Duration::from_secs(5);
/// The interval between reads of a billed queue, while this process sends or receives messages.
const BUSY_INTERVAL: Duration = Duration::from_secs(15);
/// The interval while it does not. A read is two requests where there are dead letters: 0.04 $ a
/// month. Each process reads for itself, or nobody would notice a queue whose consumers are all
/// gone.
const IDLE_INTERVAL: Duration = Duration::from_secs(55);
/// The pause after a failed read.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a number is published.
const AGE_MAX: Duration = Duration::from_secs(60);

const STATES: [&str; 3] = ["visible", "in-flight", "dead"];

/// Updates the metrics as long as the process runs. Never returns.
pub async fn watch(context: Arc<JobContext>) {
    let queues = context.backends.queues.iter();
    let queues = queues.map(|(name, queue)| watch_queue(&context, name, queue.as_ref()));
    tokio::join!(join_all(queues), watch_learned(&context));
}

/// The last reading of one queue.
#[derive(Default)]
struct QueueReading {
    /// When it was last read.
    asked: Option<Instant>,
    is_refused: bool,
    /// The depth, and the time of its read.
    depth: Option<(Instant, Depth)>,
}

impl QueueReading {
    /// The time until it is read again.
    fn until_due(&self, pause: Duration) -> Duration {
        let pause = if self.is_refused { AGAIN.min(pause) } else { pause };
        self.asked.map_or(Duration::ZERO, |asked| pause.saturating_sub(asked.elapsed()))
    }

    /// The time for which the number may still be published.
    fn rest(&self) -> Duration {
        self.depth.map_or(AGE_MAX, |(asked, _)| AGE_MAX.saturating_sub(asked.elapsed()))
    }

    async fn ask(&mut self, name: &str, queue: &dyn Queue) {
        let now = Instant::now();
        self.asked = Some(now);
        // The read is abandoned when its answer would come too late.
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
    // The queue can't tell; the consumer records the age of what it receives.
    let age = match depth.oldest {
        Some(oldest) => i64::try_from((context.clock.now() - oldest).as_secs()),
        None if depth.visible + depth.in_flight == 0 => Ok(0),
        None => Ok(jobs.received_age_seconds.with_label_values(&[name]).get()),
    };
    jobs.oldest_seconds.with_label_values(&[name]).set(age.unwrap_or(i64::MAX));
}

fn hide(context: &JobContext, name: &str) {
    let jobs = &context.metrics.jobs;
    // A backend without entry works.
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
