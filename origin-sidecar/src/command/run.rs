//! The commands that keep running: settings → rules → bindings → run → exit code.

use super::opening::{OfProxy, open};
use super::settings::{self, Common, Consume, Proxy};
use super::stop::Stop;
use crate::jobs::consumer::Consumer;
use crate::jobs::context::{JobContext, JobWorker};
use crate::jobs::expire;
use crate::jobs::presence::Presence;
use crate::message::fields::TrustedProxies;
use crate::operate::admin::Hosts;
use crate::operate::process::Process;
use crate::operate::reload::{self, RulesFile};
use crate::operate::{admin, depths};
use crate::proxy::serve::{self, Options};
use crate::request::signed::Signatures;
use crate::shards::peers::{self, Peers};
use crate::shards::{hold, poll};
use crate::soundness::checks::{self, CheckedDependencies as Watched};
use http1::server::Tolerance;
use net::cidr::Cidr;
use net::tls::Certificates;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stores::results::Results;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// How long a process that ends may take to say that it is no member of a move any more.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the sidecar until SIGTERM and the drain.
///
/// # Errors
/// Code 78 when settings or rules are wrong, 1 when running fails.
pub fn proxy(settings: &Proxy) -> Result<(), Stop> {
    let trusted = TrustedProxies::parse(&settings.trusted_proxy, settings.forwarded_field)
        .map_err(|fault| Stop::config(format!("--trusted-proxy: {fault}")))?;
    let hosts = hosts(&settings.common)?;
    let keys = settings::edge_keys(settings.edge_keys_file.as_deref()).map_err(Stop::config)?;
    let signatures = Signatures::new(keys, blocks(&settings.unsigned_from)?);
    let main = runtime()?;
    let cache_bytes = usize::try_from(settings.cache_mib).unwrap_or(0) * 1024 * 1024;
    let has_named_proxy = trusted.has_named();
    let own = OfProxy { signatures, cache_bytes, has_named_proxy, wish: settings.fallback };
    let (process, file) = main.block_on(open(&settings.common, Some(own)))?;
    let process = Arc::new(process);
    let admin = serve::listen(settings.common.admin)
        .map_err(|error| Stop::run(format!("--admin {}: {error}", settings.common.admin)))?;
    let listeners = listeners(settings)?;
    let certificates = Arc::new(Certificates::default());
    let tls = match &settings.tls_dir {
        Some(folder) => Some(acceptor(&certificates, folder)?),
        None => None,
    };
    let bound = listeners.first().and_then(|listener| listener.local_addr().ok());
    if bound.is_some_and(|bound| process.bound.servers.app.is_at(bound)) {
        let why = "is where this process listens: it would ask itself for ever";
        return Err(Stop::config(format!("--app {}: {why}", settings.common.app)));
    }
    let options = Options {
        trusted: trusted.into(),
        head: settings.common.head_limits(),
        grace: Duration::from_secs(settings.common.grace),
        tolerance: Arc::new(Tolerance::new(serve::CONNECTIONS_MAX * listeners.len())),
        tls,
    };
    announce("proxy", &process, bound, &admin);
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let (proxy, jobs) = (Arc::clone(&process.proxy), Arc::clone(&process.jobs));
            let options = options.clone();
            std::thread::spawn(move || -> Result<(), Stop> {
                runtime()?.block_on(serve::run(proxy, jobs, listener, options)).map_err(Stop::run)
            })
        })
        .collect();
    main.block_on(async {
        let delay = Duration::from_secs(settings.drain_delay);
        if let Some(folder) = settings.tls_dir.clone() {
            let metrics = Arc::clone(&process.jobs.metrics);
            tokio::spawn(reload::watch_certificate(metrics, certificates, folder));
        }
        let common = &settings.common;
        let following = start_following(&process.jobs, common);
        let port = AdminListener { listener: admin, hosts, drain_delay: delay };
        attend(&process, file, port).await;
        // This runtime serves the admin port while requests finish.
        let join = || threads.into_iter().map(std::thread::JoinHandle::join).collect::<Vec<_>>();
        for ended in tokio::task::spawn_blocking(join).await.map_err(Stop::run)? {
            ended.map_err(|_| Stop::run("a serving thread died"))??;
        }
        following.end().await;
        process.jobs.telemetry.flush().await;
        Ok(())
    })?;
    tracing::info!("drained");
    Ok(())
}

/// A certificate that can't be served must be found before a port reports ready.
fn acceptor(certificates: &Arc<Certificates>, folder: &Path) -> Result<TlsAcceptor, Stop> {
    certificates
        .serve_folder(folder)
        .map_err(|error| Stop::config(format!("--tls-dir: {error}")))?;
    let config = Arc::clone(certificates).server(&serve::ALPN).map_err(Stop::run)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Runs queued jobs until SIGTERM and the drain, or until the queue is empty.
///
/// # Errors
/// Code 78 when settings or rules are wrong, 1 when running fails.
pub fn consume(settings: &Consume) -> Result<(), Stop> {
    let (settings, is_until_empty) = (&settings.common, settings.until_empty);
    let hosts = hosts(settings)?;
    let runtime = runtime()?;
    let (process, file) = runtime.block_on(open(settings, None))?;
    let process = Arc::new(process);
    let Some(results) =
        process.jobs.backends.results.clone().filter(|_| !process.jobs.backends.queues.is_empty())
    else {
        return Err(Stop::config("nothing to consume: give --queue NAME=… and --results …"));
    };
    let admin = serve::listen(settings.admin)
        .map_err(|error| Stop::run(format!("--admin {}: {error}", settings.admin)))?;
    announce("consume", &process, None, &admin);
    let grace = Duration::from_secs(settings.grace);
    runtime.block_on(async {
        let mut consumers = start_consumers(&process.jobs, results, grace, is_until_empty)?;
        let following = start_following(&process.jobs, settings);
        let port = AdminListener { listener: admin, hosts, drain_delay: Duration::ZERO };
        let attended = attend(&process, file, port);
        let mut ended = std::pin::pin!(async { while consumers.join_next().await.is_some() {} });
        tokio::select! {
            () = attended => ended.await,
            refusal = checks::start_refused(&process.jobs.backends.soundness) => {
                return Err(Stop::config(refusal.to_string()));
            }
            // Consumers end by themselves only when they found their queues empty.
            () = &mut ended => {}
        }
        following.end().await;
        process.jobs.telemetry.flush().await;
        tracing::info!("drained");
        Ok(())
    })
}

/// Starts consumers for all bound queues, and their background tasks.
///
/// # Errors
/// The system gives no random bytes.
pub fn start_consumers(
    jobs: &Arc<JobContext>,
    results: Arc<dyn Results>,
    grace: Duration,
    is_until_empty: bool,
) -> Result<JoinSet<()>, Stop> {
    let worker = Arc::new(JobWorker::new(Arc::clone(jobs)));
    let presence = Arc::new(Presence::new(Arc::clone(&jobs.metrics)));
    let mut consumers = JoinSet::new();
    for (name, queue) in &jobs.backends.queues {
        let (worker, presence) = (Arc::clone(&worker), Arc::clone(&presence));
        let (queue, results) = (Arc::clone(queue), Arc::clone(&results));
        let consumer = Consumer::new(worker, name, queue, results, presence);
        let mut consumer = consumer.map_err(Stop::run)?;
        consumer.is_until_empty = is_until_empty;
        consumers.spawn(Arc::new(consumer).run(grace));
    }
    let seeker = Arc::clone(&worker);
    tokio::spawn(async move { presence.watch(&seeker).await });
    tokio::spawn(expire::reap(worker, Arc::clone(&results)));
    if results.keeps_for_good() {
        tokio::spawn(expire::sweep(Arc::clone(jobs), results));
    }
    Ok(consumers)
}

/// Follows the live shard maps in tasks of its own. The process has started once it knows them, or has looked
/// for long enough. A reload can't make a map live: where there is none, none will be.
fn start_following(jobs: &Arc<JobContext>, common: &Common) -> Following {
    let (over, is_over) = watch::channel(false);
    if jobs.maps.names().is_empty() {
        jobs.drain.set_ready();
        return Following { task: None, over };
    }
    let (maps, drain) = (Arc::clone(&jobs.maps), Arc::clone(&jobs.drain));
    tokio::spawn(hold::watch(Arc::clone(&maps), Arc::clone(&jobs.holds)));
    let peers = Peers { names: common.peers.clone(), token: common.admin_token.clone() };
    let interval = Duration::from_secs(common.map_poll);
    let task = tokio::spawn(async move {
        peers::find(&maps, &peers).await;
        drain.set_ready();
        poll::watch(maps, interval, is_over).await;
    });
    Following { task: Some(task), over }
}

/// The tasks that follow live shard maps.
struct Following {
    task: Option<JoinHandle<()>>,
    over: watch::Sender<bool>,
}

impl Following {
    /// Ends them, once nothing of this process is in flight any more: it is no member of a move from here on.
    async fn end(self) {
        self.over.send_replace(true);
        if let Some(task) = self.task {
            let _ = tokio::time::timeout(LEAVE_TIMEOUT, task).await;
        }
    }
}

/// Starts the periodic checks of queues and results.
pub fn start_watches(jobs: &Arc<JobContext>) {
    tokio::spawn(depths::watch(Arc::clone(jobs)));
    tokio::spawn(checks::watch(Watched {
        soundness: Arc::clone(&jobs.backends.soundness),
        queues: jobs.backends.queues.clone(),
        results: jobs.backends.results.clone(),
        spool: jobs.spool.folder().to_owned(),
        metrics: Arc::clone(&jobs.metrics),
    }));
}

fn hosts(common: &Common) -> Result<Hosts, Stop> {
    Hosts::new(&common.admin_host).map_err(Stop::config)
}

/// Parses address blocks; `none` stands for an empty list.
fn blocks(texts: &[String]) -> Result<Vec<Cidr>, Stop> {
    let named = texts.iter().filter(|text| !matches!(text.as_str(), "" | "none"));
    named.map(|text| Cidr::parse(text)).collect::<Result<_, _>>().map_err(Stop::config)
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Stop> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Stop::run)
}

fn listeners(settings: &Proxy) -> Result<Vec<std::net::TcpListener>, Stop> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if settings.threads == 0 { cores } else { settings.threads };
    let failed =
        |error: std::io::Error| Stop::run(format!("--listen {}: {error}", settings.listen));
    // The port is shared by our own threads only: a second process on it is a mistake, which must
    // be reported.
    drop(serve::listen(settings.listen).map_err(failed)?);
    let first = serve::listen_shared(settings.listen).map_err(failed)?;
    // With port 0 all listeners must share the port that the first one got.
    let address = first.local_addr().map_err(failed)?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(serve::listen_shared(address).map_err(failed)?);
    }
    Ok(listeners)
}

/// Prints one line with all bound addresses, for people and for tests.
fn announce(
    command: &str,
    process: &Process,
    listen: Option<std::net::SocketAddr>,
    admin: &std::net::TcpListener,
) {
    let listen = listen.map(|address| address.to_string()).unwrap_or_default();
    let admin = admin.local_addr().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(
        command,
        listen,
        admin,
        config_hash = process.jobs.active.rules().hash,
        shard = process.bound.shard.as_deref(),
        "listening"
    );
}

/// The admin port before it is served.
struct AdminListener {
    listener: std::net::TcpListener,
    hosts: Hosts,
    drain_delay: Duration,
}

/// Serves the admin port and watches rules and depths, until SIGTERM, SIGINT, or a drain that
/// neither followed.
async fn attend(process: &Arc<Process>, file: RulesFile, port: AdminListener) {
    tokio::spawn(admin::run(Arc::clone(process), port.listener, port.drain_delay, port.hosts));
    tokio::spawn(file.watch(Arc::clone(process)));
    start_watches(&process.jobs);
    tokio::select! {
        () = terminated() => tracing::info!("draining"),
        () = admin::drain::abandoned(process) => {
            tracing::warn!("no SIGTERM came after the drain, and nothing is in flight");
        }
    }
    process.jobs.drain.end();
}

/// Resolves on SIGTERM or SIGINT.
pub(crate) async fn terminated() {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => tracing::error!("signals can't be handled"),
    }
}
