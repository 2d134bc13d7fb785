//! Writes of a moving range in other forms than a short POST of HTTP/1.1: with the key in a body, over HTTP/2,
//! as gRPC calls.

use crate::load::{MOVING, Seen, check};
use crate::owners::SHARDS;
use crate::world::{RULES, Step, World};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Reply, eventually};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// One sidecar of each shard.
const ENTRIES: [usize; 3] = [0, 2, 4];

/// With a route more. The table of the map comes last in `RULES`.
fn rules(route: &str) -> String {
    format!("{route}\n{RULES}")
}

async fn held(world: &World, number: usize) {
    eventually("a write waits", || async {
        let held = world.sidecar(number).metric(r#"spillway_shard_held{map="market"}"#).await;
        (held == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_write_whose_key_is_in_its_body_is_held_and_arrives_once_and_whole_at_the_new_owner() {
    let world = World::start_with(&rules(
        r#"
        [[route]]
        name  = "orders"
        match = { path = "/orders", methods = ["POST"] }
        shard = { map = "market", from = ["body:/id"] }
        "#,
    ))
    .await;
    for shard in SHARDS {
        world.owners.get(shard).app.on("/orders", Reply::ok(shard));
    }
    world.step(Step::Announce, MOVING, "a", "b").await;
    world.step(Step::Fence, MOVING, "a", "b").await;
    let mut waiting = Vec::new();
    for number in ENTRIES {
        let note = format!("{number}").repeat(30_000);
        let body = format!(r#"{{"note":"{note}","id":2500}}"#);
        let own = world.client(number).with("content-type", "application/json");
        let sent = body.clone();
        waiting.push((body, tokio::spawn(async move { own.post("/orders", sent).await })));
        held(&world, number).await;
    }
    world.step(Step::NoReturn, MOVING, "a", "b").await;
    world.step(Step::Commit, MOVING, "a", "b").await;
    let mut sent = Vec::new();
    for (body, waiting) in waiting {
        let answer = waiting.await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "b"));
        sent.push(body);
    }
    let arrived = world.owners.get("b").app.asked("/orders");
    let mut arrived: Vec<_> =
        arrived.iter().map(|asked| String::from_utf8_lossy(&asked.body).into_owned()).collect();
    arrived.sort();
    sent.sort();
    assert!(arrived == sent, "{} bodies arrived, or not whole", arrived.len());
    for shard in ["a", "c"] {
        assert_eq!(world.owners.get(shard).app.count("/orders"), 0, "{shard}");
    }
}

type Sender = client::SendRequest<Full<Bytes>>;

async fn connected(address: &str) -> Sender {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let made = client::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = made.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// Streams of one connection that write at once.
const STREAMS: usize = 3;
/// Between two writes of one stream.
const PACE: Duration = Duration::from_millis(20);

/// Keys of the moving range are written over connections of HTTP/2 while the range moves there and back; what
/// `ask` says is wrong with an answer has failed.
async fn moved_while_asked<F>(
    world: &World,
    ask: impl Fn(Sender, i64, String) -> F + Clone + Send + 'static,
) -> Seen
where
    F: Future<Output = Result<(), String>> + Send,
{
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients: JoinSet<Seen> = JoinSet::new();
    for entry in ENTRIES {
        let sender = connected(world.sidecar(entry).address()).await;
        for stream in 0..STREAMS {
            let (sender, ask, is_over) = (sender.clone(), ask.clone(), Arc::clone(&is_over));
            clients.spawn(async move {
                let mut seen = Seen::default();
                for (key, number) in (MOVING.0..MOVING.1).zip(0_u32..) {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let write = format!("{entry}.{stream}-{number}");
                    match ask(sender.clone(), key, write.clone()).await {
                        Ok(()) => seen.kept.push((write, key)),
                        Err(why) => seen.failed.push(format!("{write} {key}: {why}")),
                    }
                    tokio::time::sleep(PACE).await;
                }
                seen
            });
        }
    }
    for (source, target) in [("a", "b"), ("b", "a"), ("a", "b")] {
        world.moves(MOVING, source, target).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut all = Seen::default();
    for seen in clients.join_all().await {
        all.kept.extend(seen.kept);
        all.failed.extend(seen.failed);
    }
    let mut held = 0.0;
    for sidecar in world.running() {
        held += sidecar.metric(r#"spillway_shard_held_seconds_count{map="market"}"#).await;
    }
    assert!(held > 0.0, "nothing was ever held: the test shows nothing");
    all
}

#[tokio::test]
async fn clients_of_http_2_see_nothing_of_a_move() {
    let world = World::start().await;
    let seen = moved_while_asked(&world, async |mut sender: Sender, key, write: String| {
        let request = Request::post(format!("http://market.example/entries?id={key}"));
        let request = request.body(Full::new(Bytes::from(write))).expect("a request");
        let answer = sender.send_request(request).await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| format!("{error:?}"))?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        if status == 200 { Ok(()) } else { Err(format!("{status} {text}")) }
    })
    .await;
    assert_eq!(seen.failed, Vec::<String>::new());
    assert!(seen.kept.len() > 100, "{} writes", seen.kept.len());
    check(&world, &seen).await;
}

/// Before a message of gRPC: not compressed, and its length.
fn framed(message: &str) -> Bytes {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0], &length.to_be_bytes()[..], message.as_bytes()].concat().into()
}

/// An application that takes calls over HTTP/2 in the clear, with the data of a shard.
async fn called<W>(write: W) -> String
where
    W: Fn(Option<&str>, i64, String) -> bool + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("h2c://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let write = write.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let write = write.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let text =
                        |name: &str| head.headers.get(name).and_then(|own| own.to_str().ok());
                    let key = text("x-id").and_then(|own| own.parse().ok()).expect("a key");
                    let message = body.collect().await.expect("a message").to_bytes();
                    let message = String::from_utf8_lossy(&message[5..]).into_owned();
                    let is_kept = write(text("x-shard"), key, message);
                    let status = if is_kept { "0" } else { "14" };
                    let mut last = HeaderMap::new();
                    last.insert("grpc-status", status.parse().expect("a value"));
                    let body = Full::new(framed("kept")).with_trailers(async { Some(Ok(last)) });
                    let answer = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, Infallible>(answer.body(body).expect("an answer"))
                }
            });
            let serving = server::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), answer));
        }
    });
    url
}

#[tokio::test]
async fn calls_of_grpc_see_nothing_of_a_move() {
    let mut world = World::new(&rules(
        r#"
        [[route]]
        name  = "calls"
        match = { path = "/t.Market/{method}", methods = ["POST"] }
        shard = { map = "market", from = ["header:x-id"] }
        "#,
    ))
    .await;
    world.scheme = "h2c";
    for shard in SHARDS {
        let url = called(world.owners.get(shard).writer()).await;
        world.apps.insert(shard, url);
    }
    let world = world.started().await;
    let seen = moved_while_asked(&world, async |mut sender: Sender, key, write: String| {
        let request = Request::post("http://market.example/t.Market/Write")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-id", key);
        let request = request.body(Full::new(framed(&write))).expect("a request");
        let answer = sender.send_request(request).await.map_err(|error| format!("{error:?}"))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| format!("{error:?}"))?;
        // A call without a message has its status in the head.
        let last = body.trailers().unwrap_or(&head.headers);
        match last.get("grpc-status") {
            Some(status) if status == "0" => Ok(()),
            _ => Err(format!("{} {last:?}", head.status)),
        }
    })
    .await;
    assert_eq!(seen.failed, Vec::<String>::new());
    assert!(seen.kept.len() > 100, "{} writes", seen.kept.len());
    check(&world, &seen).await;
}
