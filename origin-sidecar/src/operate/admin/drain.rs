//! How a pod ends: `POST /drain`, which the sidecar's own preStop hook sends, and `GET /drained`,
//! for which the application's hook waits.
//!
//! Kubernetes runs the preStop hooks and removes the pod from its Services at the same time, and
//! the nodes learn of the removal one by one. Until they have, connections still arrive, and
//! refusing them would fail requests: they are answered, and told to use another connection next.
//!
//! The application's hook also runs when only its container is restarted. Then nothing drains, and
//! it must change nothing.

use crate::drain::DrainState;
use crate::jobs::context::JobContext;
use crate::message::body::Body;
use crate::message::reply;
use crate::operate::process::Process;
use crate::upstream::server::Upstream;
use http::Response;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a preStop hook blocks at most, the delay included; a pod's grace period is 30 s by
/// default.
pub const DRAIN_MAX: Duration = Duration::from_secs(25);
/// How long the application's hook waits for a drain to begin. Both hooks start at the same moment,
/// but the sidecar's starts a program, which takes seconds on a full node.
const BEGIN_MAX: Duration = Duration::from_secs(5);
/// Concurrent callers of `/drained`; a pod has one for each of its containers.
const WAITERS_MAX: usize = 128;
/// How often it is checked whether everything is done.
const POLL: Duration = Duration::from_millis(20);
/// How often it is checked whether the application is gone, the delay after its first refused
/// connection, and the time that a connection may take.
const GONE_POLL: Duration = Duration::from_millis(500);
const GONE_AGAIN: Duration = Duration::from_millis(100);
const GONE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a drained process stays that nobody ends: longer than most pods' grace period.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// Begins the drain. The answer comes when everything is done, or time is up.
pub(super) async fn drain(process: &Arc<Process>, delay: Duration) -> Response<Body> {
    let until = Instant::now() + DRAIN_MAX;
    if process.jobs.drain.leave() {
        let jobs = Arc::clone(&process.jobs);
        // A task of its own, because the caller may be gone by then.
        tokio::spawn(async move {
            tokio::select! {
                () = sleep(delay) => jobs.drain.drain(),
                () = gone(&jobs.destinations.servers.app) => jobs.drain.drain(),
                () = async { DrainState::begun(&mut jobs.drain.draining()).await } => {}
            }
        });
    }
    until_idle(process, until).await
}

/// Resolves when the application no longer listens: it has refused a connection twice. In a pod
/// that ends, the application lives until its hook returns; so this is a Job that has finished, and
/// nobody must wait.
async fn gone(app: &Upstream) {
    let (host, port) = (app.authority.host(), app.authority.port_u16());
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = (host, port.unwrap_or_else(|| app.protocol.port()));
    let mut was_refused = false;
    loop {
        let connected = timeout(GONE_TIMEOUT, TcpStream::connect(address)).await;
        let is_refused =
            matches!(connected, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused);
        if is_refused && was_refused {
            return;
        }
        was_refused = is_refused;
        sleep(if is_refused { GONE_AGAIN } else { GONE_POLL }).await;
    }
}

/// Permits for waiters of one admin port.
pub(super) struct DrainWaiters(Semaphore);

impl Default for DrainWaiters {
    fn default() -> Self {
        Self(Semaphore::new(WAITERS_MAX))
    }
}

impl DrainWaiters {
    /// Blocks while a drain goes on; it begins none.
    pub async fn drained(&self, process: &Process) -> Response<Body> {
        let Ok(_place) = self.0.try_acquire() else {
            return reply::text(503, "too many wait already\n");
        };
        let until = Instant::now() + DRAIN_MAX;
        if timeout(BEGIN_MAX, DrainState::begun(&mut process.jobs.drain.leaving())).await.is_err() {
            return reply::text(200, "there is no drain\n");
        }
        until_idle(process, until).await
    }
}

async fn until_idle(process: &Process, until: Instant) -> Response<Body> {
    let idle = timeout_at(until, async {
        DrainState::begun(&mut process.jobs.drain.draining()).await;
        while !is_idle(process) {
            sleep(POLL).await;
        }
    });
    match idle.await {
        Ok(()) => reply::text(200, "drained\n"),
        Err(_) => reply::text(503, "still busy\n"),
    }
}

/// Whether requests and jobs are done. Upgraded connections, event streams and gRPC streams last
/// until the application ends them, which it does after its hook.
fn is_idle(process: &Process) -> bool {
    // An answer whose body is in flight still has its connection.
    let metrics = &process.jobs.metrics;
    metrics.is_idle() && metrics.http.plain_connections() <= 0 && running(&process.jobs) == 0
}

fn running(jobs: &JobContext) -> i64 {
    let queues = jobs.backends.queues.keys();
    queues.map(|name| jobs.metrics.jobs.running.with_label_values(&[name.as_str()]).get()).sum()
}

/// Resolves when a drain was begun long ago, nothing is in flight any more, streams included, and
/// nobody has ended the process.
pub async fn abandoned(process: &Process) {
    DrainState::begun(&mut process.jobs.drain.draining()).await;
    sleep(ABANDONED_AFTER).await;
    while !is_idle(process) || process.jobs.metrics.has_streams() {
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::streams::Stream;
    use crate::upstream::servers::Servers;

    /// A process whose application listens without answering, and its listener.
    fn alone() -> (Process, std::net::TcpListener) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port").to_string();
        (Process::alone("", Servers::alone(&address)), listener)
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_nothing_follows_ends_the_process_when_all_streams_have_ended() {
        let (process, _listener) = alone();
        let process = Arc::new(process);
        let stream = process.jobs.metrics.stream(Stream::Upgrade);
        let draining = tokio::spawn({
            let process = Arc::clone(&process);
            async move { drain(&process, Duration::from_secs(5)).await }
        });
        let (began, end) = (Instant::now(), abandoned(&process));
        tokio::pin!(end);
        assert!(timeout(ABANDONED_AFTER * 3, end.as_mut()).await.is_err(), "a stream is open");
        assert_eq!(draining.await.expect("an answer").status(), 200);
        drop(stream);
        end.await;
        assert!(began.elapsed() >= ABANDONED_AFTER * 3);
        // It never resolves before its time.
        let ((process, _listener), began) = (alone(), Instant::now());
        process.jobs.drain.drain();
        abandoned(&process).await;
        assert!(began.elapsed() >= ABANDONED_AFTER);
    }

    #[tokio::test(start_paused = true)]
    async fn the_applications_hook_waits_for_a_drain_to_begin_but_not_for_long() {
        let (process, _listener) = alone();
        let (waiters, process) = (DrainWaiters::default(), Arc::new(process));
        let began = Instant::now();
        assert_eq!(waiters.drained(&process).await.status(), 200);
        assert_eq!(began.elapsed(), BEGIN_MAX);
        let late = tokio::spawn({
            let process = Arc::clone(&process);
            async move {
                sleep(Duration::from_secs(4)).await;
                drain(&process, Duration::from_secs(5)).await
            }
        });
        let began = Instant::now();
        assert_eq!(waiters.drained(&process).await.status(), 200);
        assert!(began.elapsed() >= Duration::from_secs(9), "the delay is waited for");
        late.await.expect("drained");
        let busy = process.jobs.metrics.in_flight();
        assert_eq!(waiters.drained(&process).await.status(), 503);
        drop(busy);
    }
}
