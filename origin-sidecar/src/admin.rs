//! The admin port: probes and metrics for everyone, the rest for loopback or a bearer token.

use crate::app::App;
use crate::body::{Body, Collected, collect};
use crate::purge::{self, Order};
use crate::{reply, secrets};
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rules::shard::Key;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Longest a `/drain` call blocks, its delay included; a pod's grace period is 30 s by default.
const DRAIN_MAX: Duration = Duration::from_secs(25);
/// How often a drain looks whether everything is done.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// Thirty URLs of 8 KiB.
const PURGE_BYTES_MAX: usize = 256 * 1024;
/// Prometheus and the kubelet don't need longer.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until the process ends: probes must be answered during the drain too.
pub async fn run(
    app: Arc<App>,
    listener: std::net::TcpListener,
    drain_delay: Duration,
) -> std::io::Result<()> {
    let answer = move |request: Request<Incoming>, peer| {
        let app = Arc::clone(&app);
        async move { answer(&app, request, peer, drain_delay).await }
    };
    serve(TcpListener::from_std(listener)?, answer).await
}

/// The same with other answers.
pub(crate) async fn serve<F, A>(listener: TcpListener, answer: F) -> std::io::Result<()>
where
    F: Fn(Request<Incoming>, SocketAddr) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Body>> + Send,
{
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(request, peer);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_READ_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }
}

async fn answer(
    app: &App,
    request: Request<Incoming>,
    peer: SocketAddr,
    drain_delay: Duration,
) -> Response<Body> {
    let path = request.uri().path();
    match path {
        "/startup" => probe(app.is_started(), "starting"),
        // Never asks the app, the queue or the store: their trouble must not take this pod out.
        "/ready" => probe(app.is_ready(), "draining or starting"),
        "/live" => probe(true, ""),
        "/metrics" => metrics(app),
        // The kubelet's preStop can't carry a token; a NetworkPolicy guards the port.
        "/drain" => drain(app, drain_delay).await,
        _ if !may(app, &request, peer) => reply::text(401, "a bearer token is needed\n"),
        "/purge" if request.method() == Method::POST => purged(app, request.into_body()).await,
        "/purge" => reply::text(405, "POST {\"urls\": [], \"tags\": [], \"all\": false}\n"),
        _ if request.method() != Method::GET => reply::text(405, "GET only\n"),
        "/routes" => routes(app),
        "/shards/map" => shard_maps(app),
        "/shards/lookup" => lookup(app, request.uri().query().unwrap_or_default()),
        _ => reply::text(
            404,
            "/startup /ready /live /metrics /drain /purge /routes /shards/map /shards/lookup\n",
        ),
    }
}

async fn purged(app: &App, body: Incoming) -> Response<Body> {
    let read = match collect(Body::Incoming(body), PURGE_BYTES_MAX).await {
        Ok(Collected::Whole(bytes)) => bytes,
        Ok(Collected::TooLarge(_)) => return reply::text(413, "too long\n"),
        Err(error) => return reply::text(400, format!("{error}\n")),
    };
    let order = serde_json::from_slice::<Order>(&read).map_err(|error| error.to_string());
    match order.and_then(|order| purge::here(app, &order)) {
        Ok(count) => reply::json(200, &serde_json::json!({ "purged": count })),
        Err(why) => reply::text(400, format!("{why}\n")),
    }
}

pub(crate) fn probe(is_good: bool, why: &'static str) -> Response<Body> {
    if is_good { reply::text(200, "ok\n") } else { reply::text(503, format!("{why}\n")) }
}

fn may(app: &App, request: &Request<Incoming>, peer: SocketAddr) -> bool {
    if peer.ip().to_canonical().is_loopback() {
        return true;
    }
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|given| given.strip_prefix("Bearer "));
    match (given, &app.admin_token) {
        (Some(given), Some(token)) => secrets::same(given.as_bytes(), token.as_bytes()),
        _ => false,
    }
}

fn metrics(app: &App) -> Response<Body> {
    app.store.count();
    metrics_page(app.metrics.render())
}

/// Prometheus' text format.
pub(crate) fn metrics_page(text: Vec<u8>) -> Response<Body> {
    let mut response = reply::text(200, text);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Stops taking new work and blocks until what is in flight is done, or time is up.
///
/// Kubernetes runs the preStop hooks and takes the pod out of its Services at the same time, and the
/// nodes learn of the latter by and by. Until they have, connections still come, and refusing them
/// would fail requests: they are answered, and told to come back on another connection.
async fn drain(app: &App, delay: Duration) -> Response<Body> {
    let until = tokio::time::Instant::now() + DRAIN_MAX;
    app.leave();
    let mut draining = app.draining();
    tokio::select! {
        () = tokio::time::sleep(delay) => app.drain(),
        () = App::drained(&mut draining) => {}
    }
    let is_idle = || {
        let running: i64 = app
            .bindings
            .queues
            .keys()
            .map(|name| app.metrics.jobs.running.with_label_values(&[name.as_str()]).get())
            .sum();
        // An answer whose body is under way still has its connection.
        app.metrics.is_idle() && app.metrics.http.connections.get() == 0 && running == 0
    };
    let drained = tokio::time::timeout_at(until, async {
        while !is_idle() {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    });
    match drained.await {
        Ok(()) => reply::text(200, "drained\n"),
        Err(_) => reply::text(503, "still busy\n"),
    }
}

fn routes(app: &App) -> Response<Body> {
    let rules = app.rules();
    let document = serde_json::to_value(&rules.document).unwrap_or_default();
    reply::json(200, &serde_json::json!({ "config_hash": rules.hash, "rules": document }))
}

fn shard_maps(app: &App) -> Response<Body> {
    let rules = app.rules();
    let maps = rules.shard_maps.iter().map(|(name, map)| {
        let document = rules.document.shard_maps.get(name);
        (name.clone(), serde_json::json!({ "epoch": map.epoch, "map": document }))
    });
    let maps: serde_json::Map<String, serde_json::Value> = maps.collect();
    reply::json(200, &maps.into())
}

/// `?map=market_data&key=15000`
fn lookup(app: &App, query: &str) -> Response<Body> {
    let value = |name: &str| rules::path::query_values(query, name).next().unwrap_or_default();
    let rules = app.rules();
    let name = value("map");
    let Some(map) = rules.shard_maps.get(&name) else {
        return reply::text(404, format!("there is no shard map `{name}`\n"));
    };
    let found = Key::parse(map.key_type(), &value("key")).ok_or(rules::Problem::KeyInvalid);
    match found.and_then(|key| map.lookup(&name, &key)) {
        Ok(found) => reply::json(
            200,
            &serde_json::json!({
                "map": found.map, "key": found.key, "shard": found.shard, "epoch": found.epoch,
                "range": found.range, "upstream": found.upstream,
            }),
        ),
        Err(problem) => reply::problem(&rules.document.jobs.base, problem, problem.title()),
    }
}
