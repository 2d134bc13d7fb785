//! Waiting for a job: `Prefer: wait=N`, and a stream of events (HTML standard, server-sent events).
//! Both poll the store, soon at first and then less and less often.

use super::auth::{JobOwner, Still};
use super::context::JobContext;
use super::record::{self, JobEnd};
use super::state;
use super::state::JobState;
use crate::drain::DrainState;
use crate::message::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use std::sync::Arc;
use std::time::Duration;
use stores::results::Results;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// The first interval between two polls, and the longest.
const POLL_MIN: Duration = Duration::from_millis(100);
const POLL_MAX: Duration = Duration::from_secs(1);
/// The interval of comment lines that keep proxies from closing a silent stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream ends after this time, and the browser reconnects: no connection lasts for ever.
const STREAM_MAX: Duration = Duration::from_secs(10 * 60);
/// How often the application is asked whether the client may still watch.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// How soon the browser reconnects, in milliseconds.
const RECONNECT_MS: u32 = 1_000;

/// The interval until the next poll.
struct PollInterval(Duration);

impl PollInterval {
    fn new() -> Self {
        Self(POLL_MIN)
    }

    async fn pause(&mut self, until: Instant) {
        tokio::time::sleep_until(until.min(Instant::now() + self.0)).await;
        self.0 = (self.0 * 3 / 2).min(POLL_MAX);
    }
}

/// Waits until the job has ended, the time is over, or `reader` may no longer see it. False, at
/// once, when too many wait.
pub(super) async fn end(
    context: &JobContext,
    results: &dyn Results,
    id: &str,
    limit: Duration,
    reader: Option<&JobOwner>,
) -> bool {
    let Ok(_place) = context.watchers.try_acquire() else { return false };
    let until = Instant::now() + limit;
    let mut pace = PollInterval::new();
    let mut asked = Instant::now();
    let draining = context.drain.draining();
    // A process that is to stop lets nobody wait.
    while Instant::now() < until && !*draining.borrow() {
        if let Some(reader) = reader.filter(|_| asked.elapsed() >= ASK_AGAIN) {
            asked = Instant::now();
            if reader.still().await == Still::Refused {
                return true;
            }
        }
        let looked = tokio::time::timeout_at(until, record::end(results, id)).await;
        if matches!(looked, Ok(Ok(JobEnd::Is(_)))) {
            return true;
        }
        pace.pause(until).await;
    }
    true
}

/// Whether the client asks for a stream of events.
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// A stream with an event `status` for each change of the job's status; its data is the answer to a
/// GET. `None` when too many watch.
pub(super) fn stream(
    context: &Arc<JobContext>,
    results: &Arc<dyn Results>,
    id: &str,
    reader: JobOwner,
    report: impl Fn(&JobState) -> serde_json::Value + Send + 'static,
) -> Option<Response<Body>> {
    let place = Arc::clone(&context.watchers).try_acquire_owned().ok()?;
    let (sender, body) = Channel::new(2);
    let events = EventStream {
        context: Arc::clone(context),
        results: Arc::clone(results),
        id: id.to_owned(),
        reader,
        sender,
        _place: place,
    };
    tokio::spawn(events.run(report));
    let body = body.map_err(|never: std::convert::Infallible| match never {});
    let mut response = Response::new(Body::boxed(body.boxed_unsync()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would otherwise buffer the events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Some(response)
}

struct EventStream {
    context: Arc<JobContext>,
    results: Arc<dyn Results>,
    id: String,
    reader: JobOwner,
    sender: Sender<Bytes, std::convert::Infallible>,
    _place: OwnedSemaphorePermit,
}

impl EventStream {
    async fn run(mut self, report: impl Fn(&JobState) -> serde_json::Value) {
        let until = Instant::now() + STREAM_MAX;
        let mut draining = self.context.drain.draining();
        let mut silent_since = Instant::now();
        let mut last = String::new();
        let mut pace = PollInterval::new();
        let mut text = format!("retry: {RECONNECT_MS}\n\n");
        let mut asked = Instant::now();
        loop {
            let mut still = Still::Authorized;
            if asked.elapsed() >= ASK_AGAIN {
                still = self.reader.still().await;
            }
            let state = match still {
                Still::Refused => return,
                // Nothing is sent while the permission is unknown; the next poll asks again.
                Still::Unknown => None,
                Still::Authorized => {
                    if asked.elapsed() >= ASK_AGAIN {
                        asked = Instant::now();
                    }
                    state::state(&self.context, self.results.as_ref(), &self.id).await.ok()
                }
            };
            if let Some(state) = &state {
                let data = report(state).to_string();
                if data != last {
                    let id = state.name();
                    text.push_str(&format!("event: status\nid: {id}\ndata: {data}\n\n"));
                    last = data;
                }
            }
            if text.is_empty() && silent_since.elapsed() >= KEEP_ALIVE {
                text.push_str(": waiting\n\n");
            }
            if !text.is_empty() {
                silent_since = Instant::now();
                // The client has disconnected.
                if self.sender.send_data(Bytes::from(std::mem::take(&mut text))).await.is_err() {
                    return;
                }
            }
            let has_ended = matches!(state, Some(JobState::Ended(_)));
            if has_ended || Instant::now() >= until || *draining.borrow() {
                return;
            }
            tokio::select! {
                biased;
                () = DrainState::begun(&mut draining) => return,
                () = pace.pause(until) => {}
            }
        }
    }
}
