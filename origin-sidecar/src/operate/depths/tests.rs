//! A queue whose answers contain the time at which they were given. However it behaves, no metric
//! is older than a minute.

use super::{AGAIN, AGE_MAX, IDLE_INTERVAL, watch};
use crate::clock::System;
use crate::jobs::context::JobContext;
use crate::soundness::watched::WatchedQueue;
use net::boxed::Boxed;
use rules::UnixMillis;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stores::queue::{Depth, Message, Queue, QueueError, Received};
use tokio::time::{Instant, sleep};

const NAME: &str = "work";
const HOUR: u64 = 3_600;
/// Longer than a call to SQS takes with its retries.
const LATE: Duration = Duration::from_secs(4);

/// How the queue answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Well,
    Late,
    Refuses,
    Hangs,
}

struct Dated {
    began: Instant,
    how: Mutex<How>,
    asked: AtomicU64,
    /// A message is there for whoever receives.
    is_full: bool,
}

impl Dated {
    fn new(is_full: bool) -> Arc<Self> {
        let (began, how) = (Instant::now(), Mutex::new(How::Well));
        Arc::new(Self { began, how, asked: AtomicU64::new(0), is_full })
    }

    fn set(&self, how: How) {
        *self.how.lock().expect("no panic") = how;
    }

    fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs()
    }
}

/// The depth calls of an SQS queue.
struct Sqs(Arc<Dated>);

fn refused() -> QueueError {
    QueueError { name: "unavailable", detail: "a test wants it so".to_owned() }
}

impl Queue for Sqs {
    fn send(&self, _: Message) -> Boxed<'_, Result<String, QueueError>> {
        Box::pin(std::future::ready(Err(refused())))
    }

    fn receive(
        &self,
        _: usize,
        _: Duration,
        _: Duration,
    ) -> Boxed<'_, Result<Vec<Received>, QueueError>> {
        let message = Received {
            id: String::new(),
            receipt: String::new(),
            body: String::new(),
            attributes: Default::default(),
            group: None,
            receives: 1,
            sent: UnixMillis(0),
        };
        let messages = self.0.is_full.then_some(message).into_iter().collect();
        Box::pin(std::future::ready(Ok(messages)))
    }

    fn delete<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<(), QueueError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn set_visibility<'a>(&'a self, _: &'a str, _: Duration) -> Boxed<'a, Result<(), QueueError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn depth(&self) -> Boxed<'_, Result<Depth, QueueError>> {
        Box::pin(async {
            let (now, how) = (self.0.seconds(), *self.0.how.lock().expect("no panic"));
            self.0.asked.fetch_add(1, Relaxed);
            match how {
                How::Well => {}
                How::Late => sleep(LATE).await,
                How::Refuses => return Err(refused()),
                How::Hangs => std::future::pending().await,
            }
            Ok(Depth { visible: now, in_flight: 1, dead: now, oldest: None })
        })
    }

    fn dead_letters(&self) -> Boxed<'_, Result<Option<Arc<dyn Queue>>, QueueError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn is_billed(&self) -> bool {
        true
    }

    fn message_bytes_max(&self) -> usize {
        0
    }
}

fn app(queue: &Arc<Dated>) -> Arc<JobContext> {
    let mut context = JobContext::alone("", Arc::new(System));
    let queue =
        WatchedQueue::new(NAME, Arc::new(Sqs(Arc::clone(queue))), &context.backends.soundness);
    context.backends.queues.insert(NAME.to_owned(), Arc::new(queue));
    Arc::new(context)
}

fn page(context: &JobContext) -> String {
    String::from_utf8(context.metrics.render()).expect("text")
}

/// The value that the admin port shows for a state.
fn shown(context: &JobContext, state: &str) -> Option<u64> {
    let label = format!("spillway_queue_messages{{queue=\"{NAME}\",state=\"{state}\"}} ");
    let text = page(context);
    let value = text.lines().find_map(|line| line.strip_prefix(&label))?;
    Some(value.trim().parse().expect("a number"))
}

/// Checks every second for a time. Returns how often there was a number.
async fn watched(context: &JobContext, queue: &Dated, seconds: u64) -> u64 {
    let mut count = 0;
    for _ in 0..seconds {
        sleep(Duration::from_secs(1)).await;
        for state in ["visible", "dead"] {
            let Some(read) = shown(context, state) else { continue };
            let age = queue.seconds().saturating_sub(read);
            assert!(age <= AGE_MAX.as_secs(), "{state} is {age} s old");
            count += u64::from(state == "dead");
        }
    }
    count
}

#[tokio::test(start_paused = true)]
async fn the_depth_is_never_older_than_a_minute_with_traffic_or_without() {
    for is_full in [false, true] {
        let queue = Dated::new(is_full);
        let context = app(&queue);
        let watching = tokio::spawn(watch(Arc::clone(&context)));
        let receiving = tokio::spawn({
            let context = Arc::clone(&context);
            async move {
                loop {
                    let own = &context.backends.queues[NAME];
                    own.receive(1, Duration::ZERO, Duration::ZERO).await.expect("received");
                    sleep(Duration::from_secs(20)).await;
                }
            }
        });
        assert_eq!(watched(&context, &queue, HOUR).await, HOUR, "there is one at any time");
        let asked = queue.asked.load(Relaxed);
        let idle = HOUR / IDLE_INTERVAL.as_secs() + 1;
        assert!(if is_full { asked > 3 * idle } else { asked <= idle }, "asked {asked} times");
        watching.abort();
        receiving.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_depth_that_can_not_be_read_is_taken_away_after_a_minute_and_comes_back() {
    let queue = Dated::new(false);
    let context = app(&queue);
    let watching = tokio::spawn(watch(Arc::clone(&context)));
    for how in [How::Late, How::Refuses, How::Hangs] {
        queue.set(How::Well);
        watched(&context, &queue, 2 * AGE_MAX.as_secs()).await;
        assert!(shown(&context, "visible").is_some(), "before {how:?}");
        queue.set(how);
        let count = watched(&context, &queue, HOUR).await;
        if how == How::Late {
            assert_eq!(count, HOUR, "it is there at any time");
        } else {
            assert!(count <= AGE_MAX.as_secs(), "{how:?}: {count}");
            assert_eq!(page(&context).matches("spillway_queue_oldest_message").count(), 0);
        }
    }
    queue.set(How::Well);
    let most = AGE_MAX + AGAIN;
    sleep(most + Duration::from_secs(5)).await;
    assert!(shown(&context, "visible").is_some(), "it is asked again");
    watching.abort();
}
