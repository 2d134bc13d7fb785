//! The floor: a proxy of bare hyper with its pooled client, a map as a cache, and nothing else. What
//! the sidecar costs above it is rules, hygiene and metrics.

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fault = Box<dyn Error + Send + Sync>;
type Body = Either<Incoming, Full<Bytes>>;

struct Proxy {
    client: Client<HttpConnector, Incoming>,
    stored: Mutex<HashMap<String, Response<Bytes>>>,
    origin: String,
}

impl Proxy {
    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Fault> {
        let target =
            request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let is_cached = !target.starts_with("/pass/");
        if is_cached && let Some(stored) = self.stored().get(&target) {
            return Ok(stored.clone().map(|body| Either::Right(Full::new(body))));
        }
        // A stored `Connection: close` would end the connection of every hit.
        request.headers_mut().remove(CONNECTION);
        *request.uri_mut() = format!("http://{}{target}", self.origin).parse::<Uri>()?;
        let mut response = self.client.request(request).await?;
        response.headers_mut().remove(CONNECTION);
        if !is_cached {
            return Ok(response.map(Either::Left));
        }
        let (head, body) = response.into_parts();
        let response = Response::from_parts(head, body.collect().await?.to_bytes());
        self.stored().insert(target, response.clone());
        Ok(response.map(|body| Either::Right(Full::new(body))))
    }

    fn stored(&self) -> std::sync::MutexGuard<'_, HashMap<String, Response<Bytes>>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(port: &str, origin: &str) -> Result<(), Fault> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Arc::new(Proxy {
        client: Client::builder(TokioExecutor::new()).build(connector),
        stored: Mutex::default(),
        origin: format!("127.0.0.1:{origin}"),
    });
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let answer = service_fn(|request| proxy.answer(request));
            // A client that leaves is no fault of a benchmark.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, origin] = arguments.as_slice() else { return Err("usage: PORT ORIGIN_PORT".into()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(port, origin))
}
