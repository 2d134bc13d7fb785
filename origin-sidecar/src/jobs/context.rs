//! The parts of the process that accepting and running jobs needs.

use super::backends::Backends;
use super::intake::Intake;
use super::latency::Latencies;
use super::permissions::Permissions;
use super::spool::Spool;
use crate::clock::Clock;
use crate::drain::DrainState;
use crate::request::active_rules::ActiveRules;
use crate::request::destination::Destinations;
use crate::secrets::{Purpose, Secrets, random_hex};
use crate::shards::hold::Holds;
use crate::shards::live_maps::{LiveMaps, LiveMapsParts};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reporter::Telemetry;
use crate::upstream::client::Client;
use crate::upstream::limits::ConcurrencyLimits;
use crate::upstream::servers::Servers;
use rules::Rules;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Shared by all threads.
pub struct JobContext {
    pub active: Arc<ActiveRules>,
    pub backends: Backends,
    pub limits: Arc<ConcurrencyLimits>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub secrets: Option<Arc<Secrets>>,
    pub telemetry: Arc<Telemetry>,
    pub destinations: Destinations,
    /// Live shard maps.
    pub maps: Arc<LiveMaps>,
    /// Writes that wait while a range moves.
    pub holds: Arc<Holds>,
    pub drain: Arc<DrainState>,
    pub spool: Spool,
    /// Memory and spool for request bodies that are read before they are forwarded.
    pub intake: Intake,
    pub latencies: Latencies,
    /// Recent permissions of the application.
    pub permissions: Permissions,
    /// Permits for clients that wait for the end of a job.
    pub watchers: Arc<Semaphore>,
}

/// What [`JobContext::new`] is made from.
pub struct JobContextParts {
    pub rules: Arc<Rules>,
    pub servers: Arc<Servers>,
    pub backends: Backends,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub secrets: Option<Secrets>,
    pub telemetry: Telemetry,
    pub shard: Option<Arc<str>>,
    pub spool: Spool,
}

impl JobContext {
    /// Builds the context.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(parts: JobContextParts) -> Result<Self, String> {
        let metrics = parts.metrics;
        let secrets = parts.secrets.map(Arc::new);
        let limits = Arc::new(ConcurrencyLimits::new(&parts.servers, Arc::clone(&metrics)));
        let active = ActiveRules::new(
            parts.rules,
            Arc::clone(&metrics),
            Arc::clone(&limits),
            Arc::clone(&parts.servers),
        );
        let active = Arc::new(active);
        let maps = LiveMaps::new(LiveMapsParts {
            active: Arc::clone(&active),
            writes: Arc::default(),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&parts.clock),
            results: parts.backends.results.clone(),
            pod: pod().map_err(|error| error.to_string())?,
            keys: secrets.as_ref().map_or_else(Vec::new, |own| own.derived_all(Purpose::Map)),
            bound: parts.servers.named.keys().cloned().collect(),
            shard: parts.shard.clone(),
        });
        let destinations = Destinations {
            servers: parts.servers,
            shard: parts.shard,
            secrets: secrets.clone(),
            clock: Arc::clone(&parts.clock),
            metrics: Arc::clone(&metrics),
        };
        Ok(Self {
            active,
            maps: Arc::new(maps),
            holds: Arc::new(Holds::new(Arc::clone(&metrics))),
            backends: parts.backends,
            limits,
            metrics,
            clock: parts.clock,
            secrets,
            destinations,
            telemetry: Arc::new(parts.telemetry),
            drain: Arc::default(),
            spool: parts.spool,
            intake: Intake::default(),
            latencies: Latencies::default(),
            permissions: Permissions::new().map_err(|error| error.to_string())?,
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
        })
    }

    /// A context with these rules and nothing bound.
    #[cfg(test)]
    pub fn alone(rules: &str, clock: Arc<dyn Clock>) -> Self {
        Self::new(JobContextParts {
            rules: Arc::new(Rules::from_toml(rules).expect("good rules")),
            servers: Arc::new(Servers::alone("127.0.0.1:1")),
            backends: Backends::default(),
            metrics: Arc::new(Metrics::new().expect("one of each")),
            clock,
            secrets: None,
            telemetry: Telemetry::default(),
            shard: None,
            spool: Spool::new(std::env::temp_dir(), None),
        })
        .expect("random bytes")
    }
}

/// Identifies this process among the members of a move: several may run on one host, or one after
/// another.
fn pod() -> std::io::Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.');
    let host: String =
        host.trim().chars().filter(|letter| legal(*letter)).take(HOST_CHARS_MAX).collect();
    let host = if host.is_empty() { "pod" } else { &host };
    Ok(format!("{host}-{}", random_hex(4)?))
}

/// The longest host name in characters: a label of the DNS has no more.
const HOST_CHARS_MAX: usize = 63;

/// The state of one thread: its own connections to the servers, and everything shared.
pub struct JobWorker {
    pub context: Arc<JobContext>,
    pub client: Client,
}

impl JobWorker {
    pub fn new(context: Arc<JobContext>) -> Self {
        let (limits, metrics) = (Arc::clone(&context.limits), Arc::clone(&context.metrics));
        let client = Client::new(&context.destinations.servers, limits, metrics);
        Self { context, client }
    }
}

/// Clients that wait at the same time. Each costs one read of the store per second. Beyond the
/// limit a `Prefer: wait` is answered at once, and a stream is refused.
pub const WATCHERS_MAX: usize = 1_000;
