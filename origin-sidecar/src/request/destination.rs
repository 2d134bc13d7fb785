//! Where a request goes: the route's upstream, or the shard's.

use crate::clock::Clock;
use crate::message::refused::Refused;
use crate::secrets::Secrets;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::shard_meters::ShardOutput;
use crate::upstream::hop;
use crate::upstream::server::Upstream;
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

/// Where a request goes.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    pub upstream: &'a Arc<Upstream>,
    pub kind: DestinationKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationKind {
    /// The route's upstream, or the application beside us.
    Unsharded,
    /// The holder of the shard: the application beside us, or another sidecar.
    Shard,
    /// The same, where a live map says who it is: another sidecar may follow a newer one.
    LiveShard,
}

impl Destination<'_> {
    pub fn is_sharded(&self) -> bool {
        matches!(self.kind, DestinationKind::Shard | DestinationKind::LiveShard)
    }

    /// Whether the request goes to another sidecar that may follow a newer map.
    pub fn may_be_stale(&self) -> bool {
        self.kind == DestinationKind::LiveShard && !self.upstream.is_app()
    }
}

impl Destinations {
    /// The upstream of a route, where its requests are not divided over shards.
    pub fn of_route(&self, route: Option<&Route>) -> Option<&Arc<Upstream>> {
        match route.and_then(|route| route.upstream.as_deref()) {
            Some(name) => self.servers.by_name(name),
            None => Some(&self.servers.app),
        }
    }

    /// Where a request of a route goes, of which the shard is known if it has one.
    ///
    /// # Errors
    /// `internal` for a name that is not bound, which a process does not start with.
    pub fn find<'a>(
        &'a self,
        of_route: Option<&'a Arc<Upstream>>,
        resolved: Option<&Resolved>,
    ) -> Result<Destination<'a>, Refused> {
        let unbound =
            |name: &str| Refused::new(Problem::Internal, format!("upstream {name} is not bound"));
        let Some(resolved) = resolved else {
            let upstream = of_route.ok_or_else(|| unbound("of the route"))?;
            return Ok(Destination { upstream, kind: DestinationKind::Unsharded });
        };
        let is_own = self.shard.as_deref() == Some(&**resolved.shard());
        let upstream = match resolved.range.upstream.as_deref().filter(|_| !is_own) {
            None => &self.servers.app,
            Some(name) => self.servers.by_name(name).ok_or_else(|| unbound(name))?,
        };
        let kind = if resolved.range.is_live {
            DestinationKind::LiveShard
        } else {
            DestinationKind::Shard
        };
        Ok(Destination { upstream, kind })
    }

    /// Says in the headers of a request which shard it is for, and to another sidecar that it comes from
    /// one.
    ///
    /// # Errors
    /// `shard-loop` when another sidecar sent it here and it belongs elsewhere.
    pub fn annotate(
        &self,
        headers: &mut HeaderMap,
        destination: &Destination<'_>,
        resolved: &Resolved,
        is_forwarded: bool,
    ) -> Result<(), Refused> {
        hop::annotate(headers, resolved);
        let is_here = destination.upstream.is_app();
        if !is_forwarded {
            let output = if is_here { ShardOutput::Annotate } else { ShardOutput::Forward };
            self.metrics.shards.meters.entered(resolved, output);
        }
        if is_here {
            return Ok(());
        }
        if is_forwarded {
            let own = self.shard.as_deref().unwrap_or("none");
            let detail = format!("sent here for shard {}; this pod serves {own}", resolved.shard());
            return Err(Refused::new(Problem::ShardLoop, detail));
        }
        if let Some(secrets) = &self.secrets {
            hop::mark(headers, secrets, resolved, self.clock.now());
        }
        Ok(())
    }

    /// Where a request goes, and what its headers must say there.
    ///
    /// # Errors
    /// As [`Destinations::find`] and [`Destinations::annotate`].
    pub fn direct<'a>(
        &'a self,
        headers: &mut HeaderMap,
        of_route: Option<&'a Arc<Upstream>>,
        resolved: Option<&Resolved>,
        is_forwarded: bool,
    ) -> Result<Destination<'a>, Refused> {
        let destination = self.find(of_route, resolved)?;
        if let Some(resolved) = resolved {
            self.annotate(headers, &destination, resolved, is_forwarded)?;
        }
        Ok(destination)
    }
}
