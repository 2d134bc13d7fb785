//! WebSockets and streams of events: they end where the data was, and come back to where it is.

use crate::load::MOVING;
use crate::world::{RULES, Step, World};
use std::time::Duration;
use support::read_until;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// Between two events of a stream.
const TICK: Duration = Duration::from_millis(20);

/// An application that names itself again and again in a stream of events, and over a WebSocket sends back what
/// it gets.
async fn streaming(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound port"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(served(stream, name));
        }
    });
    url
}

async fn served(mut stream: TcpStream, name: &'static str) {
    let head = read_until(&mut stream, "\r\n\r\n").await;
    if head.to_lowercase().contains("upgrade: websocket") {
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{name}\n"
        );
        if stream.write_all(answer.as_bytes()).await.is_ok() {
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
        return;
    }
    let event = format!("data: {name}\n\n");
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut next = format!("{head}{chunk}");
    let mut ticks = tokio::time::interval(TICK);
    // A sidecar that has no client any more learns it when there is something to pass on.
    while stream.write_all(next.as_bytes()).await.is_ok() {
        ticks.tick().await;
        next.clone_from(&chunk);
    }
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Opens a stream and reads until the application has named itself.
async fn opened(world: &World, number: usize, target: &str, fields: &str, name: &str) -> TcpStream {
    let address = world.sidecar(number).address().to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let answer = read_until(&mut stream, &format!("{name}\n")).await;
    assert!(answer.contains(&format!("{name}\n")), "{answer}");
    stream
}

/// The same rules, with streams through which clients write.
fn written() -> String {
    let rules = RULES.replace(
        r#"match = { path = "/feed" }
    shard = { map = "market", from = ["query:id"] }"#,
        r#"match = { path = "/feed" }
    shard = { map = "market", from = ["query:id"], writes = true }"#,
    );
    assert!(rules.contains("writes = true"));
    rules
}

async fn world(rules: &str) -> World {
    let mut world = World::new(rules).await;
    for shard in ["a", "b"] {
        world.apps.insert(shard, streaming(shard).await);
    }
    world.started().await
}

#[tokio::test]
async fn streams_of_the_moved_range_end_after_the_commit_and_others_go_on() {
    let world = world(RULES).await;
    // Beside the owner, and through a sidecar of another shard.
    let mut ending = Vec::new();
    for number in [0, 4] {
        let last = "Connection: close\r\n";
        ending.push(opened(&world, number, "/feed?id=2500", last, "a").await);
        ending.push(opened(&world, number, "/feed?id=2500", UPGRADE, "a").await);
    }
    let mut staying = opened(&world, 0, "/feed?id=9000", UPGRADE, "a").await;
    world.moves(MOVING, "a", "b").await;
    for stream in &mut ending {
        // Nothing that never comes: until the end.
        read_until(stream, "never").await;
    }
    staying.write_all(b"still here").await.expect("sent");
    assert!(read_until(&mut staying, "here").await.contains("still here"));
    opened(&world, 0, "/feed?id=2500", "", "b").await;
    opened(&world, 4, "/feed?id=2500", UPGRADE, "b").await;
}

#[tokio::test]
async fn a_stream_of_events_ends_with_a_whole_last_chunk() {
    let world = world(RULES).await;
    let mut stream = opened(&world, 0, "/feed?id=2500", "", "a").await;
    world.moves(MOVING, "a", "b").await;
    assert!(read_until(&mut stream, "0\r\n\r\n").await.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn a_websocket_that_writes_ends_at_the_fence_and_delays_it_until_its_application_has_closed()
{
    let world = world(&written()).await;
    let mut writing = opened(&world, 0, "/feed?id=2500", UPGRADE, "a").await;
    world.step(Step::Announce, MOVING, "a", "b").await;
    writing.write_all(b"one more").await.expect("sent");
    assert!(read_until(&mut writing, "more").await.contains("one more"));
    world.step(Step::Fence, MOVING, "a", "b").await;
    read_until(&mut writing, "never").await;
    world.shards(&["abort", "market"]).await;
    opened(&world, 0, "/feed?id=2500", UPGRADE, "a").await;
}

#[tokio::test]
async fn an_event_stream_that_writes_ends_whole_at_the_fence_and_is_in_flight_no_longer() {
    let mut world = world(&written()).await;
    // Beside the owner, and through a sidecar of another shard.
    let mut ending = Vec::new();
    for number in [0, 4] {
        ending.push(opened(&world, number, "/feed?id=2500", "", "a").await);
    }
    world.step(Step::Announce, MOVING, "a", "b").await;
    // The owner's sidecars hear of the fence after the other: their stream ends as theirs, and not as one that
    // was broken off.
    world.unreachable.extend([0, 1]);
    // It waits for every write of the range, and no commit has ended a stream.
    world.step(Step::Fence, MOVING, "a", "b").await;
    for stream in &mut ending {
        assert!(read_until(stream, "0\r\n\r\n").await.ends_with("0\r\n\r\n"));
    }
    world.unreachable.clear();
    world.shards(&["abort", "market"]).await;
    opened(&world, 4, "/feed?id=2500", "", "a").await;
}
