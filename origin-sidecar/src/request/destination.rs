//! Where a request goes: the route's upstream, or the shard's.

use crate::clock::Clock;
use crate::message::refused::Refused;
use crate::secrets::Secrets;
use crate::telemetry::metrics::Metrics;
use crate::upstream::hop;
use crate::upstream::server::{APP, Upstream};
use crate::upstream::servers::Servers;
use http::HeaderMap;
use rules::Problem;
use rules::document::Route;
use rules::shard::Resolved;
use std::sync::Arc;

/// The servers of this process, and which shard's data it holds itself.
pub struct Destinations {
    pub servers: Arc<Servers>,
    /// The shard whose data the app beside us holds.
    pub shard: Option<Arc<str>>,
    pub secrets: Option<Arc<Secrets>>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
}

impl Destinations {
    /// The name of the upstream that a request goes to.
    pub fn name<'a>(&self, route: Option<&'a Route>, resolved: Option<&'a Resolved>) -> &'a str {
        match resolved {
            None => route.and_then(|route| route.upstream.as_deref()).unwrap_or(APP),
            Some(resolved) => {
                let is_own = self.shard.as_deref() == Some(resolved.shard.as_str());
                resolved.upstream.as_deref().filter(|_| !is_own).unwrap_or(APP)
            }
        }
    }

    /// Where a request goes, and what its headers must say there.
    ///
    /// # Errors
    /// `shard-loop` when another sidecar sent it here and it belongs elsewhere.
    pub fn direct(
        &self,
        headers: &mut HeaderMap,
        route: Option<&Route>,
        resolved: Option<&Resolved>,
        is_forwarded: bool,
    ) -> Result<&Arc<Upstream>, Refused> {
        let named = |name: &str| {
            let server = self.servers.by_name(name);
            server.ok_or_else(|| {
                Refused::new(Problem::Internal, format!("upstream {name} is not bound"))
            })
        };
        let name = self.name(route, resolved);
        let Some(resolved) = resolved else { return named(name) };
        hop::annotate(headers, resolved);
        let is_own = name == APP;
        let output = if is_own { "annotate" } else { "forward" };
        self.metrics
            .shard_requests
            .with_label_values(&[resolved.map.as_str(), &resolved.shard, output])
            .inc();
        if is_own {
            return named(name);
        }
        if is_forwarded {
            let own = self.shard.as_deref().unwrap_or("none");
            return Err(Refused::new(
                Problem::ShardLoop,
                format!("sent here for shard {}; this pod serves {own}", resolved.shard),
            ));
        }
        if let Some(secrets) = &self.secrets {
            hop::mark(headers, secrets, resolved, self.clock.now());
        }
        named(name)
    }
}
