//! Everything a running process holds; the only wiring there is.

use super::bindings::Bindings;
use crate::clock::Clock;
use crate::jobs::intake::Intake;
use crate::jobs::latency::Latencies;
use crate::jobs::permission::Permissions;
use crate::jobs::spool::Spool;
use crate::jobs::watch::WATCHERS_MAX;
use crate::memory;
use crate::operate::bound::Bound;
use crate::proxy::flights::Flights;
use crate::request::in_force::InForce;
use crate::request::signed::Signatures;
use crate::secrets::{self, Secrets};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::Telemetry;
use crate::upstream::limits::Limits;
use memory_cache::store::Store;
use memory_cache::varies::Varies;
use rules::Rules;
use rules::cache::TokenKey;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Semaphore, watch};

/// Of the key that tokens are hashed with: as many as the hash has.
const TOKEN_KEY_BYTES: usize = 32;

pub struct App {
    in_force: RwLock<Arc<InForce>>,
    pub bindings: Bindings,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub store: Store,
    pub flights: Arc<Flights>,
    pub varies: Varies,
    /// By which cached answers for bearers of tokens are kept apart.
    pub token_key: TokenKey,
    pub latencies: Latencies,
    /// Where bodies find room that are read before they are sent on.
    pub intake: Intake,
    pub limits: Limits,
    /// Clients that wait for the end of a job.
    pub watchers: Arc<Semaphore>,
    pub secrets: Option<Secrets>,
    /// Of a proxy: by what it knows its edge.
    pub signatures: Option<Signatures>,
    pub telemetry: Telemetry,
    /// The shard whose data the app beside us holds.
    pub shard: Option<String>,
    has_named_proxy: bool,
    pub spool: Spool,
    pub admin_token: Option<String>,
    /// Whom the application lets in.
    pub permissions: Permissions,
    ready: AtomicBool,
    /// Turns true once: not ready any more, and no connection is kept beyond its next answer.
    leaving: watch::Sender<bool>,
    /// The same, for what each request asks.
    is_leaving: AtomicBool,
    /// Turns true once: stop taking new work.
    draining: watch::Sender<bool>,
    /// Turns true once: what is in hand has no more than the grace period.
    ending: watch::Sender<bool>,
    /// Changes when much memory was freed.
    freed: watch::Sender<()>,
}

/// What [`App::new`] is made from.
pub struct Parts {
    pub rules: Arc<Rules>,
    pub bindings: Bindings,
    pub clock: Arc<dyn Clock>,
    pub secrets: Option<Secrets>,
    pub signatures: Option<Signatures>,
    pub telemetry: Telemetry,
    pub shard: Option<String>,
    /// Whether `--trusted-proxy` names one by its address; true for a process without clients.
    pub has_named_proxy: bool,
    pub spool: Spool,
    pub admin_token: Option<String>,
    pub cache_bytes: usize,
}

impl App {
    /// # Errors
    /// Only when two metrics have one name.
    pub fn new(parts: Parts) -> Result<Self, String> {
        let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
        let limits = Limits::new(&parts.bindings, Arc::clone(&metrics));
        let in_force = InForce::new(Arc::clone(&parts.rules), &metrics, &limits);
        let token_key = secrets::random(TOKEN_KEY_BYTES).map_err(|error| error.to_string())?;
        let token_key = TokenKey::new(token_key);
        let permissions = Permissions::new().map_err(|error| error.to_string())?;
        let app = Self {
            store: Store::new(parts.cache_bytes),
            limits,
            in_force: RwLock::new(Arc::new(in_force)),
            bindings: parts.bindings,
            metrics,
            clock: parts.clock,
            flights: Arc::new(Flights::default()),
            varies: Varies::default(),
            token_key,
            latencies: Latencies::default(),
            intake: Intake::default(),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            secrets: parts.secrets,
            signatures: parts.signatures,
            telemetry: parts.telemetry,
            shard: parts.shard,
            has_named_proxy: parts.has_named_proxy,
            spool: parts.spool,
            admin_token: parts.admin_token,
            permissions,
            ready: AtomicBool::new(false),
            leaving: watch::channel(false).0,
            is_leaving: AtomicBool::new(false),
            draining: watch::channel(false).0,
            ending: watch::channel(false).0,
            freed: watch::channel(()).0,
        };
        app.publish(&parts.rules);
        Ok(app)
    }

    /// The rules in force. A request keeps the ones it started with.
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The rules alone.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.in_force().rules)
    }

    pub fn set_rules(&self, rules: Arc<Rules>) {
        self.publish(&rules);
        let in_force = Arc::new(InForce::new(rules, &self.metrics, &self.limits));
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = in_force;
    }

    fn publish(&self, rules: &Rules) {
        self.metrics.rules_info.reset();
        self.metrics.rules_info.with_label_values(&[rules.hash.as_str()]).set(1);
        self.metrics.last_reload.set(rules.unreadable.is_none().into());
        self.metrics.rules_fallback.reset();
        if let Some(unreadable) = &rules.unreadable {
            let mode = unreadable.fallback.as_str();
            self.metrics.rules_fallback.with_label_values(&[mode]).set(1);
        }
        for (name, map) in &rules.shard_maps {
            let epoch = i64::try_from(map.epoch).unwrap_or(i64::MAX);
            self.metrics.shard_epoch.with_label_values(&[name.as_str()]).set(epoch);
        }
    }

    /// What the rules may need of this process.
    pub fn bound(&self) -> Bound<'_> {
        let (bindings, signatures) = (&self.bindings, self.signatures.as_ref());
        let has_named_proxy = self.has_named_proxy;
        Bound { bindings, signatures, shard: self.shard.as_deref(), has_named_proxy }
    }

    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub fn is_started(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Ready to take traffic. Never depends on the app, the queue or the store.
    pub fn is_ready(&self) -> bool {
        self.is_started() && !self.is_leaving()
    }

    /// Whether clients should go elsewhere, though they are still answered.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Begins to leave; whether it had not before.
    pub fn leave(&self) -> bool {
        self.is_leaving.store(true, Ordering::Release);
        !self.leaving.send_replace(true)
    }

    pub fn drain(&self) {
        self.leave();
        self.draining.send_replace(true);
    }

    /// What is in hand gets the grace period from now on.
    pub fn end(&self) {
        self.drain();
        self.ending.send_replace(true);
    }

    /// Resolves when that has begun: [`App::leaving`], [`App::draining`] or [`App::ending`].
    pub async fn begun(watched: &mut watch::Receiver<bool>) {
        // The sender lives as long as the app: the error can't happen.
        let _ = watched.wait_for(|begun| *begun).await;
    }

    pub fn leaving(&self) -> watch::Receiver<bool> {
        self.leaving.subscribe()
    }

    pub fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// Gives memory back that was freed here, and has the other threads do so.
    pub fn give_back(&self) {
        memory::give_back();
        self.freed.send_replace(());
    }

    /// Gives memory back whenever much was freed, on the thread that this runs on.
    pub async fn keep_giving_back(&self) {
        let mut freed = self.freed.subscribe();
        while freed.changed().await.is_ok() {
            memory::give_back();
        }
    }

    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// With these rules, and nothing that is bound.
    #[cfg(test)]
    pub fn alone(rules: &str, clock: Arc<dyn Clock>) -> Self {
        use crate::upstream::server::{Protocol, Upstream};
        let upstream = Upstream {
            name: "app".into(),
            protocol: Protocol::Http1,
            authority: http::uri::Authority::from_static("127.0.0.1:1"),
        };
        let bindings = Bindings {
            app: upstream.into(),
            upstreams: Default::default(),
            queues: Default::default(),
            results: None,
            soundness: Default::default(),
            connect_timeout: std::time::Duration::ZERO,
            head: Default::default(),
        };
        let parts = Parts {
            rules: Arc::new(Rules::from_toml(rules).expect("good rules")),
            bindings,
            clock,
            secrets: None,
            signatures: None,
            telemetry: Telemetry::default(),
            shard: None,
            has_named_proxy: true,
            spool: Spool::new(std::env::temp_dir(), None),
            admin_token: None,
            cache_bytes: 0,
        };
        Self::new(parts).expect("an app")
    }
}
