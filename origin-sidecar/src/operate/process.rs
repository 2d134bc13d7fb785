//! The state of a running process, shared by its threads.

use super::bound::ProcessBindings;
use crate::clock::Clock;
use crate::jobs::context::{JobContext, JobContextParts as JobParts};
use crate::jobs::spool::Spool;
use crate::proxy::context::ProxyContext;
use crate::secrets::Secrets;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reporter::Telemetry;
use rules::Rules;
use std::sync::Arc;

pub struct Process {
    pub jobs: Arc<JobContext>,
    pub proxy: Arc<ProxyContext>,
    /// The bindings that rules may need.
    pub bound: ProcessBindings,
    pub admin_token: Option<String>,
}

/// What [`Process::new`] is made from.
pub struct ProcessParts {
    pub rules: Arc<Rules>,
    pub bound: ProcessBindings,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub secrets: Option<Secrets>,
    pub telemetry: Telemetry,
    pub spool: Spool,
    pub admin_token: Option<String>,
    pub cache_bytes: usize,
}

impl Process {
    /// Builds a process.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(parts: ProcessParts) -> Result<Self, String> {
        let bound = parts.bound;
        let jobs = JobContext::new(JobParts {
            rules: parts.rules,
            servers: Arc::clone(&bound.servers),
            backends: bound.backends.clone(),
            metrics: parts.metrics,
            clock: parts.clock,
            secrets: parts.secrets,
            telemetry: parts.telemetry,
            shard: bound.shard.clone(),
            spool: parts.spool,
        })?;
        let proxy = ProxyContext::new(&jobs, bound.signatures.clone(), parts.cache_bytes)?;
        Ok(Self { jobs: jobs.into(), proxy: proxy.into(), bound, admin_token: parts.admin_token })
    }

    /// A process with these rules and servers, and nothing else bound.
    #[cfg(test)]
    pub fn alone(rules: &str, servers: crate::upstream::servers::Servers) -> Self {
        let bound = ProcessBindings {
            servers: servers.into(),
            backends: Default::default(),
            signatures: None,
            shard: None,
            has_named_proxy: true,
            has_secret: false,
        };
        Self::new(ProcessParts {
            rules: Arc::new(Rules::from_toml(rules).expect("good rules")),
            bound,
            metrics: Arc::new(Metrics::new().expect("one of each")),
            clock: Arc::new(crate::clock::System),
            secrets: None,
            telemetry: Telemetry::default(),
            spool: Spool::new(std::env::temp_dir(), None),
            admin_token: None,
            cache_bytes: 0,
        })
        .expect("random bytes")
    }
}
