//! Where a request goes: the route's upstream, or the shard's.

use crate::command::app::App;
use crate::message::refused::Refused;
use crate::proxy::Worker;
use crate::upstream::hop;
use crate::upstream::server::{APP, Upstream};
use http::HeaderMap;
use rules::Problem;
use rules::document::Route;
use rules::shard::Resolved;
use std::sync::Arc;

/// The name of the upstream that a request goes to.
pub fn destination<'a>(
    app: &App,
    route: Option<&'a Route>,
    resolved: Option<&'a Resolved>,
) -> &'a str {
    match resolved {
        None => route.and_then(|route| route.upstream.as_deref()).unwrap_or(APP),
        Some(resolved) => {
            let is_own = app.shard.as_deref() == Some(resolved.shard.as_str());
            resolved.upstream.as_deref().filter(|_| !is_own).unwrap_or(APP)
        }
    }
}

/// Where a request goes, and what its headers must say there.
///
/// # Errors
/// `shard-loop` when another sidecar sent it here and it belongs elsewhere.
pub fn direct<'a>(
    worker: &'a Worker,
    headers: &mut HeaderMap,
    route: Option<&Route>,
    resolved: Option<&Resolved>,
    is_forwarded: bool,
) -> Result<&'a Arc<Upstream>, Refused> {
    let app = &worker.app;
    let named = |name: &str| {
        app.bindings
            .upstream(name)
            .ok_or_else(|| (Problem::Internal, format!("upstream {name} is not bound")))
    };
    let name = destination(app, route, resolved);
    let Some(resolved) = resolved else { return named(name) };
    hop::annotate(headers, resolved);
    let is_own = name == APP;
    let output = if is_own { "annotate" } else { "forward" };
    app.metrics
        .shard_requests
        .with_label_values(&[resolved.map.as_str(), &resolved.shard, output])
        .inc();
    if is_own {
        return named(name);
    }
    if is_forwarded {
        let own = app.shard.as_deref().unwrap_or("none");
        return Err((
            Problem::ShardLoop,
            format!("sent here for shard {}; this pod serves {own}", resolved.shard),
        ));
    }
    if let Some(secrets) = &app.secrets {
        hop::mark(headers, secrets, resolved, app.clock.now());
    }
    named(name)
}
