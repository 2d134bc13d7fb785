//! How clients that take their time are borne: pauses are, slow ones are in numbers, and answers that
//! come before an upload's end are read after it.

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use http1::head::RequestHead;
use http1::server::{
    Exchange, HALF_CLOSED_MAX, LINGERING_MAX, RequestBody, Service, Tolerance, serve,
};
use http1::stream::Stream;
use http1::{Error, Refusal};
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Bytes of the answer to a GET: more than the pipe holds.
const FILM: usize = 300_000;
const PIPE: usize = 64 * 1024;

/// Counts an upload, sends a film, or says no before it has read anything.
#[derive(Clone)]
struct App {
    tolerance: Tolerance,
    address: Option<IpAddr>,
    idle: Option<Duration>,
    running: Arc<AtomicUsize>,
}

impl App {
    fn new(connections: usize, address: &str) -> Self {
        let address = address.parse().ok();
        Self {
            tolerance: Tolerance::new(connections),
            address,
            idle: None,
            running: Arc::default(),
        }
    }

    fn from(&self, address: &str) -> Self {
        Self { address: address.parse().ok(), ..self.clone() }
    }

    fn connect(&self) -> Client {
        let (stream, server) = tokio::io::duplex(PIPE);
        let own = self.clone();
        let served = tokio::spawn(async move {
            serve(Stream::other(server), &own, pending::<()>()).await.map(|_| ())
        });
        Client { stream, served }
    }
}

struct Client {
    stream: DuplexStream,
    served: JoinHandle<Result<(), Error>>,
}

fn text(text: String) -> Response<UnsyncBoxBody<Bytes, io::Error>> {
    Response::new(Full::from(text).map_err(|never| match never {}).boxed_unsync())
}

/// As long as an application works on a request.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service for App {
    type Body = UnsyncBoxBody<Bytes, io::Error>;

    async fn answer(
        &self,
        head: &mut RequestHead,
        body: RequestBody,
        exchange: Exchange,
    ) -> Response<Self::Body> {
        self.running.fetch_add(1, Ordering::Relaxed);
        let _running = Running(Arc::clone(&self.running));
        if let Some(idle) = self.idle {
            exchange.set_idle_timeout(idle);
        }
        match head.target.path() {
            "/film" => text("x".repeat(FILM)),
            "/no" => text("no".to_owned()),
            "/never" => pending().await,
            _ => match body.collect().await {
                Ok(body) => text(format!("read {}", body.to_bytes().len())),
                Err(error) => text(error.to_string()),
            },
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response<Self::Body> {
        text(refusal.name().to_owned())
    }

    fn broken(&self, error: &io::Error) -> Response<Self::Body> {
        text(error.to_string())
    }

    fn body_refused(&self, _: Refusal) {}

    fn tolerance(&self) -> Option<&Tolerance> {
        Some(&self.tolerance)
    }

    fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl Client {
    async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("open");
    }

    async fn rest(&mut self) -> String {
        let mut heard = Vec::new();
        // Some are closed in the middle of an answer.
        let _ = self.stream.read_to_end(&mut heard).await;
        String::from_utf8_lossy(&heard).into_owned()
    }
}

const UPLOAD: &str = "POST /up HTTP/1.1\r\nConnection: close\r\nContent-Length: 10\r\n\r\n";

/// Ten bytes with a pause in the middle; what was answered.
async fn paused_upload(app: &App, pause: Duration) -> String {
    let mut client = app.connect();
    client.say(UPLOAD).await;
    client.say("12345").await;
    sleep(pause).await;
    // It may be closed by now.
    let _ = client.stream.write_all(b"67890").await;
    client.rest().await
}

/// The film, of which nothing is read for a while at first.
async fn paused_reader(app: &App, pause: Duration) -> usize {
    let mut client = app.connect();
    client.say("GET /film HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    sleep(pause).await;
    client.rest().await.len()
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_nobodys_fault_and_a_longer_one_is() {
    let app = App::new(1000, "192.0.2.1");
    for (pause, is_borne) in [(50, true), (70, false)] {
        let pause = Duration::from_secs(pause);
        assert_eq!(paused_upload(&app, pause).await.ends_with("read 10"), is_borne, "{pause:?}");
        assert_eq!(paused_reader(&app, pause).await > FILM, is_borne, "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_says_how_long_a_pause_may_be() {
    let mut app = App::new(1000, "192.0.2.1");
    for (idle, pause, is_borne) in [(120, 100, true), (5, 10, false)] {
        app.idle = Some(Duration::from_secs(idle));
        let pause = Duration::from_secs(pause);
        assert_eq!(paused_upload(&app, pause).await.ends_with("read 10"), is_borne, "{pause:?}");
        assert_eq!(paused_reader(&app, pause).await > FILM, is_borne, "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attack_of_slow_uploads_from_one_address_keeps_what_it_may_and_honest_ones_live_beside_it()
 {
    const LIMIT: usize = 64;
    const ONE_MAY: usize = LIMIT / 16;
    let app = App::new(LIMIT, "192.0.2.66");
    let attack: Vec<JoinHandle<()>> = (0..2 * LIMIT)
        .map(|_| {
            let mut client = app.connect();
            tokio::spawn(async move {
                client.say("POST /up HTTP/1.1\r\nContent-Length: 100000\r\n\r\n").await;
                while client.stream.write_all(b"x").await.is_ok() && !client.served.is_finished() {
                    sleep(Duration::from_secs(20)).await;
                }
            })
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(app.running.load(Ordering::Relaxed), 2 * LIMIT);
    let honest = app.from("198.51.100.1");
    let (pause, long) = (Duration::from_secs(50), Duration::from_secs(55));
    let (upload, film) = tokio::join!(paused_upload(&honest, pause), paused_reader(&honest, long));
    assert!(upload.ends_with("read 10") && film > FILM, "{upload} {film}");
    assert_eq!(app.running.load(Ordering::Relaxed), ONE_MAY);
    // Many addresses together may hold a quarter.
    let others: Vec<Client> = (0..LIMIT as u32)
        .map(|host| app.from(&std::net::Ipv4Addr::from(0x0a00_0000 + host).to_string()).connect())
        .collect();
    let slow: Vec<JoinHandle<()>> = others
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                client.say(UPLOAD).await;
                sleep(Duration::from_secs(3600)).await;
            })
        })
        .collect();
    sleep(Duration::from_secs(45)).await;
    assert_eq!(app.running.load(Ordering::Relaxed), LIMIT / 4);
    attack.iter().chain(&slow).for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_comes_fast_enough_is_not_slow_however_many_there_are() {
    let app = App::new(16, "192.0.2.1");
    let uploads: Vec<_> = (0..8)
        .map(|_| {
            let mut client = app.connect();
            tokio::spawn(async move {
                client
                    .say("POST /up HTTP/1.1\r\nConnection: close\r\nContent-Length: 60000\r\n\r\n")
                    .await;
                for _ in 0..60 {
                    client.say(&"x".repeat(1000)).await;
                    sleep(Duration::from_secs(1)).await;
                }
                client.rest().await
            })
        })
        .collect();
    for upload in uploads {
        assert!(upload.await.expect("no panic").ends_with("read 60000"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_an_upload_is_read_after_it() {
    let app = App::new(1000, "192.0.2.1");
    let mut client = app.connect();
    let size = 8_000_000;
    client.say(&format!("POST /no HTTP/1.1\r\nContent-Length: {size}\r\n\r\n")).await;
    // As most clients do: all is sent before anything is read; here with pauses.
    for _ in 0..8 {
        client.say(&"x".repeat(size / 8)).await;
        sleep(Duration::from_secs(3)).await;
    }
    assert!(client.rest().await.ends_with("no"));
}

#[tokio::test(start_paused = true)]
async fn who_sends_nothing_more_is_not_waited_for_after_the_answer() {
    let app = App::new(1000, "192.0.2.1");
    let mut client = app.connect();
    let began = Instant::now();
    client.say("POST /no HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n").await;
    client.served.await.expect("no panic").expect("closed in order");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn of_too_many_that_are_closed_in_stages_the_oldest_goes() {
    let app = App::new(100_000, "192.0.2.1");
    let mut clients = Vec::new();
    for _ in 0..=LINGERING_MAX {
        let mut client = app.connect();
        client.say("POST /no HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n").await;
        clients.push(client);
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_millis(1200)).await;
    let closed = clients.iter().filter(|client| client.served.is_finished()).count();
    assert_eq!((closed, clients[0].served.is_finished()), (1, true));
}

#[tokio::test(start_paused = true)]
async fn of_too_many_half_closed_clients_those_end_first_that_may_ask_again() {
    let app = App::new(100_000, "192.0.2.1");
    let mut clients = Vec::new();
    for number in 0..=HALF_CLOSED_MAX {
        let mut client = app.connect();
        let method = if number == 1 { "PUT" } else { "POST" };
        client.say(&format!("{method} /never HTTP/1.1\r\n\r\n")).await;
        client.stream.shutdown().await.expect("open");
        clients.push(client);
    }
    sleep(Duration::from_secs(30)).await;
    let closed: Vec<usize> =
        (0..clients.len()).filter(|at| clients[*at].served.is_finished()).collect();
    assert_eq!(closed, [1]);
    assert_eq!(app.running.load(Ordering::Relaxed), HALF_CLOSED_MAX);
}
