//! The parts of the process that answering requests needs.

use super::coalescer::Coalescer;
use crate::clock::Clock;
use crate::drain::DrainState;
use crate::jobs::context::{JobContext, JobWorker};
use crate::memory::TrimSignal;
use crate::request::active_rules::ActiveRules;
use crate::request::signed::Signatures;
use crate::secrets::{self, Secrets};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reporter::Telemetry;
use crate::upstream::client::Client;
use memory_cache::store::Store;
use memory_cache::varies::Varies;
use rules::cache::TokenKey;
use std::sync::Arc;
use tokio::sync::Notify;

/// Bytes of the key with which tokens are hashed: the size of the hash.
const TOKEN_KEY_BYTES: usize = 32;

/// Shared by all threads.
pub struct ProxyContext {
    pub active: Arc<ActiveRules>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub secrets: Option<Arc<Secrets>>,
    pub telemetry: Arc<Telemetry>,
    pub drain: Arc<DrainState>,
    /// In a proxy: what verifies its edge's signatures.
    pub signatures: Option<Arc<Signatures>>,
    pub store: Store,
    pub coalescer: Arc<Coalescer>,
    pub varies: Varies,
    /// The key that separates cached answers for bearers of tokens.
    pub token_key: TokenKey,
    pub freed: TrimSignal,
}

impl ProxyContext {
    /// A context that shares the process with these jobs.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(
        jobs: &JobContext,
        signatures: Option<Arc<Signatures>>,
        cache_bytes: usize,
    ) -> Result<Self, String> {
        let token_key = secrets::random(TOKEN_KEY_BYTES).map_err(|error| error.to_string())?;
        Ok(Self {
            active: Arc::clone(&jobs.active),
            metrics: Arc::clone(&jobs.metrics),
            clock: Arc::clone(&jobs.clock),
            secrets: jobs.secrets.clone(),
            telemetry: Arc::clone(&jobs.telemetry),
            drain: Arc::clone(&jobs.drain),
            signatures,
            store: Store::new(cache_bytes),
            coalescer: Arc::default(),
            varies: Varies::default(),
            token_key: TokenKey::new(token_key),
            freed: TrimSignal::default(),
        })
    }
}

/// The state of one thread: its own connections to the servers, and everything shared.
pub struct Worker {
    pub context: Arc<ProxyContext>,
    pub jobs: Arc<JobWorker>,
    /// Notified when connections have released memory.
    pub let_go: Notify,
}

impl Worker {
    pub fn new(context: Arc<ProxyContext>, jobs: Arc<JobContext>) -> Self {
        Self { context, jobs: Arc::new(JobWorker::new(jobs)), let_go: Notify::new() }
    }

    pub fn client(&self) -> &Client {
        &self.jobs.client
    }
}
