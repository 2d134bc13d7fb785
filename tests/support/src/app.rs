//! An unchanged application, as far as Spillway can tell.

use crate::aws::{bound, listen};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

/// A request as the app saw it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Holds answers back until a test lets them go.
#[derive(Clone)]
pub struct Gate {
    permits: Arc<Semaphore>,
    /// That have come to it so far.
    came: Arc<AtomicUsize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), came: Arc::default() }
    }
}

impl Gate {
    pub fn open(&self) {
        self.permits.add_permits(1_000_000);
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        self.came.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.expect("an open semaphore").forget();
    }

    /// Waits until so many have come to it.
    pub async fn until_waited(&self, count: usize) {
        crate::eventually(&format!("{count} are at the gate"), || async {
            (self.came.load(Ordering::SeqCst) >= count).then_some(())
        })
        .await;
    }
}

/// What the app answers.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    gate: Option<Gate>,
    after: Duration,
}

impl Reply {
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
            gate: None,
            after: Duration::ZERO,
        }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::ok("") }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Takes at least so long: for an application that is slow by itself.
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// Not before the gate opens.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }
}

type Handler = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

#[derive(Default)]
struct State {
    handlers: HashMap<String, Handler>,
    asked: Vec<Asked>,
    /// That were ever opened.
    connections: usize,
}

/// As many requests as an application server with so many workers answers at once.
const WORKERS_MANY: usize = 10_000;

/// Whether anybody is at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    /// Nobody listens, and connections that were open are cut.
    Refuses,
    /// Somebody takes connections and closes them at once, as what stands before an application does.
    Closes,
}

pub struct App {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    door: watch::Sender<Door>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl App {
    pub async fn start() -> Self {
        Self::with_workers(WORKERS_MANY).await
    }

    /// Answers so many requests at a time; the others wait, as behind gunicorn or puma.
    pub async fn with_workers(workers: usize) -> Self {
        let keeper = bound(0);
        let address = keeper.local_addr().expect("a bound port");
        let state = Arc::new(Mutex::new(State::default()));
        let workers = Arc::new(Semaphore::new(workers));
        let (door, at_door) = watch::channel(Door::Open);
        let serving = Serving { state: Arc::clone(&state), workers, door: at_door };
        // At once: whoever is told the address may call.
        let mut listener = listen(address.port());
        let server = tokio::spawn(async move {
            // Never listens; as long as it lives nobody else gets the port.
            let _keeper = keeper;
            loop {
                serving.accept(listener).await;
                let mut door = serving.door.clone();
                if door.wait_for(|door| *door != Door::Refuses).await.is_err() {
                    return;
                }
                listener = listen(address.port());
            }
        });
        Self { address, state, door, server }
    }

    /// Nobody listens any more, as while a deployment replaces it; until [`Self::come_back`].
    pub async fn leave(&self) {
        self.door.send_replace(Door::Refuses);
        let address = self.address;
        crate::eventually("the application is gone", || async {
            TcpStream::connect(address).await.is_err().then_some(())
        })
        .await;
    }

    /// Connections are taken and closed at once.
    pub fn close_door(&self) {
        self.door.send_replace(Door::Closes);
    }

    pub fn come_back(&self) {
        self.door.send_replace(Door::Open);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers a path always the same.
    pub fn on(&self, path: &str, reply: Reply) {
        self.answer(path, move |_| reply.clone());
    }

    /// Answers a path as the request asks for.
    pub fn answer(&self, path: &str, handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        self.state.lock().expect("no panic").handlers.insert(path.to_owned(), Arc::new(handler));
    }

    /// Requests for a path, in order.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let state = self.state.lock().expect("no panic");
        let is_path = |asked: &&Asked| asked.target.split('?').next() == Some(path);
        state.asked.iter().filter(is_path).cloned().collect()
    }

    pub fn count(&self, path: &str) -> usize {
        self.asked(path).len()
    }

    /// Connections that were ever opened to it.
    pub fn connections(&self) -> usize {
        self.state.lock().expect("no panic").connections
    }

    /// Waits until a path has been asked for so often.
    pub async fn until_asked(&self, path: &str, times: usize) -> Vec<Asked> {
        crate::eventually(&format!("{times} requests for {path}"), || async {
            Some(self.asked(path)).filter(|asked| asked.len() >= times)
        })
        .await
    }
}

#[derive(Clone)]
struct Serving {
    state: Arc<Mutex<State>>,
    workers: Arc<Semaphore>,
    door: watch::Receiver<Door>,
}

impl Serving {
    /// Until nobody is to listen any more.
    async fn accept(&self, listener: tokio::net::TcpListener) {
        let mut door = self.door.clone();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => continue,
                },
                _ = door.wait_for(|door| *door == Door::Refuses) => return,
            };
            self.state.lock().expect("no panic").connections += 1;
            if *self.door.borrow() == Door::Open {
                tokio::spawn(self.clone().serve(stream));
            }
        }
    }

    async fn serve(mut self, stream: TcpStream) {
        let (state, workers) = (self.state, self.workers);
        let service = service_fn(move |request| {
            let (state, workers) = (Arc::clone(&state), Arc::clone(&workers));
            async move {
                let _worker = workers.acquire().await.expect("an open semaphore");
                answer(request, state).await
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // A connection that the proxy gives up is part of many tests.
            _ = connection => {}
            _ = self.door.wait_for(|door| *door != Door::Open) => {}
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let asked = Asked { method: parts.method, target, headers: parts.headers, body };
    let path = asked.target.split('?').next().unwrap_or_default().to_owned();
    let handler = {
        let mut state = state.lock().expect("no panic");
        state.asked.push(asked.clone());
        state.handlers.get(&path).cloned()
    };
    let reply = handler.map_or_else(
        || Reply::status(404).body("the app has no such page"),
        |handler| handler(&asked),
    );
    if let Some(gate) = &reply.gate {
        gate.pass().await;
    }
    tokio::time::sleep(reply.after).await;
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("a status");
    for (name, value) in reply.headers {
        let name = http::HeaderName::try_from(name).expect("a field name");
        response.headers_mut().append(name, value.parse().expect("a field value"));
    }
    Ok(response)
}
