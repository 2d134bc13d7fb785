//! The admin port. Probes and metrics are for everyone, the rest for loopback or a bearer token.
//! Changes need a form that no page and no application can be tricked into sending (`guard`).

mod connections;
pub mod drain;
mod guard;

pub use guard::{FIELD, FIELD_VALUE, Hosts};

use super::process::Process;
use super::purge::{self, PurgeRequest};
use super::shards;
use crate::message::body::{Body, BodySource, Collected, collect};
use crate::message::reply;
use crate::proxy::context::ProxyContext;
use connections::AdminConnections;
use drain::DrainWaiters;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rules::fallback::{RulesFallback, Unreadable};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The largest purge request in bytes: thirty URLs of 8 KiB.
const PURGE_BYTES_MAX: usize = 256 * 1024;
/// How long a request's head may take; Prometheus and the kubelet are faster.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Paths that are always answered, for everyone.
const PROBES: [&str; 4] = ["/startup", "/ready", "/live", "/metrics"];

/// The service behind the admin port of a `proxy` or `consume` process.
struct AdminService {
    process: Arc<Process>,
    drain_delay: Duration,
    hosts: Hosts,
    waiters: DrainWaiters,
}

/// Serves until the process ends, because probes must be answered during the drain, too.
pub async fn run(
    process: Arc<Process>,
    listener: std::net::TcpListener,
    drain_delay: Duration,
    hosts: Hosts,
) -> std::io::Result<()> {
    let port =
        Arc::new(AdminService { process, drain_delay, hosts, waiters: DrainWaiters::default() });
    let answer = move |request: Request<Incoming>, peer| {
        let port = Arc::clone(&port);
        async move { port.answer(request, peer).await.unwrap_or_else(refused) }
    };
    serve(TcpListener::from_std(listener)?, answer).await
}

fn refused((status, why): guard::GuardRefusal) -> Response<Body> {
    reply::text(status, why)
}

/// Serves with this function as the handler.
pub(crate) async fn serve<F, A>(listener: TcpListener, answer: F) -> std::io::Result<()>
where
    F: Fn(Request<Incoming>, SocketAddr) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send,
{
    let connections = Arc::new(AdminConnections::default());
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some((seat, needed)) = connections.sit() else {
            tracing::debug!(%peer, "all admin connections are busy");
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let is_first =
                    guard::is_loopback(peer.ip()) || PROBES.contains(&request.uri().path());
                let (seat, answer) = (&seat, &answer);
                async move {
                    let _busy = seat.busy();
                    if seat.is_among_the_last() && !is_first {
                        return Ok::<_, Infallible>(reply::text(503, "too many connections\n"));
                    }
                    Ok(answer(request, peer).await)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_READ_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "admin connection ended");
                },
                _ = needed => tracing::debug!(%peer, "closed an idle admin connection for a new one"),
            }
        });
    }
}

impl AdminService {
    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, guard::GuardRefusal> {
        let (process, proxy) = (&self.process, &self.process.proxy);
        match request.uri().path() {
            "/startup" => return Ok(probe(proxy.drain.is_started(), "starting")),
            // It never depends on application, queue or store: their failures must not remove this
            // pod.
            "/ready" => return Ok(ready(proxy)),
            "/live" => return Ok(probe(true, "")),
            "/metrics" => return Ok(metrics(proxy)),
            // The kubelet calls it without a secret. It waits, and changes nothing.
            "/drained" if request.method() == Method::GET => {
                return Ok(self.waiters.drained(process).await);
            }
            "/drained" => return Err((405, "GET only\n")),
            _ => guard::foreign(&request, &self.hosts)?,
        }
        if request.uri().path() == "/drain" {
            if !guard::is_loopback(peer.ip()) {
                return Err((403, "only from within the pod: spillway drain\n"));
            }
            guard::change(&request)?;
            return Ok(drain::drain(process, self.drain_delay).await);
        }
        guard::known(&request, peer, process.admin_token.as_deref())?;
        let maps = &process.jobs.maps;
        let query = request.uri().query().unwrap_or_default().to_owned();
        match request.uri().path() {
            "/purge" => {
                guard::change(&request)?;
                Ok(purged(proxy, request.into_body()).await)
            }
            "/shards/map" if request.method() == Method::POST => {
                guard::change(&request)?;
                Ok(shards::pushed(maps, &query, request.into_body()).await)
            }
            _ if request.method() != Method::GET => Err((405, "GET only\n")),
            "/routes" => Ok(routes(proxy)),
            "/shards/map" => Ok(shards::shown(maps, &query)),
            "/shards/lookup" => Ok(shards::lookup(maps, &query)),
            _ => Err((
                404,
                "/startup /ready /live /metrics /drained /drain /purge /routes /shards/map /shards/lookup\n",
            )),
        }
    }
}

async fn purged(proxy: &ProxyContext, body: Incoming) -> Response<Body> {
    let read = match collect(BodySource::Incoming(body).into(), PURGE_BYTES_MAX).await {
        Ok(Collected::Whole(bytes)) => bytes,
        Ok(Collected::TooLarge(_)) => return reply::text(413, "too long\n"),
        Err(error) => return reply::text(400, format!("{error}\n")),
    };
    let order = serde_json::from_slice::<PurgeRequest>(&read).map_err(|error| error.to_string());
    match order.and_then(|order| purge::here(proxy, &order).map_err(|why| why.to_string())) {
        Ok(count) => reply::json(200, &serde_json::json!({ "purged": count })),
        Err(why) => reply::text(400, format!("{why}\n")),
    }
}

pub(crate) fn probe(is_good: bool, why: &'static str) -> Response<Body> {
    if is_good { reply::text(200, "ok\n") } else { reply::text(503, format!("{why}\n")) }
}

/// The kubelet shows the body of a failed readiness probe as an event of the pod, where people look
/// for the reason.
fn ready(proxy: &ProxyContext) -> Response<Body> {
    match &proxy.active.rules().unreadable {
        Some(Unreadable { fallback: RulesFallback::Refuse, reason }) => {
            reply::text(503, format!("rules-unreadable: {reason}\n"))
        }
        _ => probe(proxy.drain.is_ready(), "draining or starting"),
    }
}

fn metrics(proxy: &ProxyContext) -> Response<Body> {
    proxy.metrics.cache.show(&proxy.store);
    metrics_page(proxy.metrics.render())
}

/// A page in Prometheus' text format.
pub(crate) fn metrics_page(text: Vec<u8>) -> Response<Body> {
    let mut response = reply::text(200, text);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn routes(proxy: &ProxyContext) -> Response<Body> {
    let rules = proxy.active.rules();
    let document = serde_json::to_value(&*rules.document).unwrap_or_default();
    reply::json(200, &serde_json::json!({ "config_hash": rules.hash, "rules": document }))
}
