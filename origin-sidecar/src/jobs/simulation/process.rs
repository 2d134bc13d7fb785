//! Processes: the real sidecar on a handle to the world, to be crashed, drained and started again.

use super::application::application;
use super::log::What;
use super::mailbox::SimQueue;
use super::store::SimStore;
use super::variants::Variant;
use super::world::{Link, Vitals, Watch, World};
use crate::jobs::backends::Backends;
use crate::jobs::consumer::Consumer;
use crate::jobs::context::{JobContext, JobContextParts, JobWorker};
use crate::jobs::presence::Presence;
use crate::jobs::spool::Spool;
use crate::jobs::{accept, expire, state, status};
use crate::message::body::Body;
use crate::message::fields::View;
use crate::message::refused::Refused;
use crate::request::inbound::{Inbound, Peer};
use crate::request::sanitized::SanitizedRequest;
use crate::secrets::Secrets;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reporter::Telemetry;
use crate::upstream::client::Client;
use crate::upstream::network::Upstreams;
use crate::upstream::servers::Servers;
use http::{Request, Response};
use http1::head::RequestHead;
use rules::sidecar::{self, SidecarAction};
use rules::trust::Trust;
use rules::{Problem, Rules};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stores::queue::Queue;
use stores::results::Results;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The one queue of the rules.
pub(super) const QUEUE: &str = "jobs";
/// How far clocks are apart that are kept right.
const SKEW_MS: u64 = 500;
const DRAIN_POLL: Duration = Duration::from_millis(200);

pub(super) struct Process {
    pub link: Link,
    pub worker: Arc<JobWorker>,
    pub is_producer: bool,
    fell: Notify,
    consuming: Mutex<Option<JoinHandle<()>>>,
    /// What else a consumer does.
    besides: Vec<JoinHandle<()>>,
}

fn parts(link: &Link, rules: &Arc<Rules>, variant: Variant) -> JobContextParts {
    let queue: Arc<dyn Queue> = Arc::new(SimQueue(link.clone()));
    let results: Arc<dyn Results> = Arc::new(SimStore(link.clone()));
    let (queue, results) = variant.wrap(link, queue, results);
    let queues = BTreeMap::from([(QUEUE.to_owned(), queue)]);
    JobContextParts {
        rules: Arc::clone(rules),
        servers: Servers::alone("app:80").into(),
        backends: Backends { queues, results: Some(results), ..Backends::default() },
        metrics: Arc::new(Metrics::new().expect("one of each")),
        clock: Arc::new(Watch(link.clone())),
        secrets: Secrets::parse(&"s".repeat(32)).ok(),
        telemetry: Telemetry::default(),
        // Where the rules have a map, each process is beside the application of this shard.
        shard: Some("a".into()),
        spool: Spool::new("/nonexistent".into(), None),
    }
}

impl Process {
    pub(super) fn start(
        world: &Arc<World>,
        rules: &Arc<Rules>,
        is_producer: bool,
        variant: Variant,
        grace: Duration,
    ) -> Arc<Self> {
        let offset = world.draw(|rng| rng.below(SKEW_MS * 2)).cast_signed();
        let offset = offset - SKEW_MS.cast_signed();
        let process = {
            let mut state = world.state();
            state.processes.push(Vitals { is_alive: true, offset, ..Vitals::default() });
            state.processes.len() - 1
        };
        let link = Link { world: Arc::clone(world), process };
        world.note(process, What::Started { is_producer });
        let context = Arc::new(JobContext::new(parts(&link, rules, variant)).expect("a process"));
        let client = Client {
            upstreams: Upstreams::Local(application(link.clone())),
            limits: Arc::clone(&context.limits),
            metrics: Arc::clone(&context.metrics),
        };
        let worker = Arc::new(JobWorker { context, client });
        let (consuming, besides) = (!is_producer).then(|| consume(&worker, grace)).unzip();
        let besides = besides.unwrap_or_default();
        let (fell, consuming) = (Notify::new(), Mutex::new(consuming));
        Arc::new(Self { link, worker, is_producer, fell, consuming, besides })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.link.is_alive()
    }

    pub(super) fn takes_requests(&self) -> bool {
        self.is_producer && self.is_alive() && !*self.worker.context.drain.draining().borrow()
    }

    /// From one moment to the next, whatever it is at.
    pub(super) fn crash(&self) {
        if !self.is_alive() {
            return;
        }
        self.link.world.note(self.link.process, What::Crashed);
        self.link.world.state().processes[self.link.process].is_alive = false;
        if let Some(consuming) = self.consuming().take() {
            consuming.abort();
        }
        self.besides.iter().for_each(JoinHandle::abort);
        self.fell.notify_waiters();
    }

    fn consuming(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.consuming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As at SIGTERM: what is under way has its grace (`serve::run`, `Consumer::run`), then the
    /// process is gone.
    pub(super) async fn drain(&self, grace: Duration) {
        let ms = super::mailbox::millis(grace);
        self.link.world.note(self.link.process, What::Draining { grace: ms });
        self.link.world.state().processes[self.link.process].is_draining = true;
        self.worker.context.drain.end();
        let consuming = self.consuming().take();
        if let Some(mut consuming) = consuming {
            tokio::select! {
                biased;
                _ = &mut consuming => {}
                () = self.fallen() => consuming.abort(),
            }
        } else {
            let idle = async {
                while !self.worker.context.metrics.is_idle() {
                    tokio::time::sleep(DRAIN_POLL).await;
                }
            };
            let _ = tokio::time::timeout(grace, idle).await;
        }
        self.crash();
    }

    /// Resolves when the process has crashed.
    pub(super) async fn fallen(&self) {
        let mut fell = std::pin::pin!(self.fell.notified());
        fell.as_mut().enable();
        if self.is_alive() {
            fell.await;
        }
    }

    /// A request from its hygiene on (`proxy::handle`).
    pub(super) async fn serve(&self, request: Request<Body>) -> Result<Response<Body>, Refused> {
        let context = &self.worker.context;
        let _in_flight = context.metrics.in_flight();
        let in_force = context.active.in_force();
        let rules = &in_force.rules;
        let (parts, body) = request.into_parts();
        let http::request::Parts { method, uri, version, headers, .. } = parts;
        let mut head = RequestHead::new(method, uri, version, headers);
        let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), Trust::Nobody, false);
        let inbound = Inbound::read(&mut head, peer)?;
        let RequestHead { method, mut headers, mut came, .. } = head;
        let decision = sidecar::decide(rules, &inbound.head(&method, &View::of(&headers)));
        match decision.action {
            SidecarAction::Refuse(problem) => Err(Refused::new(problem, "")),
            SidecarAction::Preflight { .. } => Err(Refused::new(Problem::NoRoute, "")),
            SidecarAction::Reserved { path } => {
                let job = path.split("/jobs/").nth(1).unwrap_or_default();
                let (method, headers, inbound) = (&method, &headers, &inbound);
                let asked = state::JobRequest { method, headers, inbound, job };
                status::answer(&self.worker, rules, asked, body).await
            }
            SidecarAction::Proceed(mut proceed) => {
                let Some(route) = decision.route else {
                    return Err(Refused::new(Problem::NoRoute, ""));
                };
                let offload = proceed.offload;
                let route_state = in_force.route_state(decision.index);
                let clean = SanitizedRequest {
                    inbound,
                    method,
                    headers: &mut headers,
                    came: &mut came,
                    is_rebuilt: true,
                    body,
                    rules,
                    route_state,
                    marker: None,
                    read_ahead: 0,
                    write: None,
                    exchange: None,
                };
                accept::accept(&self.worker, clean, route, proceed.take_target(), None, offload)
                    .await
            }
        }
    }
}

/// What `commands::consume` starts.
fn consume(worker: &Arc<JobWorker>, grace: Duration) -> (JoinHandle<()>, Vec<JoinHandle<()>>) {
    let backends = &worker.context.backends;
    let (Some(queue), Some(results)) = (backends.queues.get(QUEUE), &backends.results) else {
        unreachable!("a process of a schedule has a queue and results");
    };
    let presence = Arc::new(Presence::new(Arc::clone(&worker.context.metrics)));
    let (own, queue, results) = (Arc::clone(worker), Arc::clone(queue), Arc::clone(results));
    let consumer = Consumer::new(own, QUEUE, queue, Arc::clone(&results), Arc::clone(&presence));
    let consuming = tokio::spawn(Arc::new(consumer.expect("random bytes")).run(grace));
    let seeker = Arc::clone(worker);
    let seeking = tokio::spawn(async move { presence.watch(&seeker).await });
    (consuming, vec![tokio::spawn(expire::reap(Arc::clone(worker), results)), seeking])
}
