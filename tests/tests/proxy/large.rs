//! Bodies larger than any buffer and many connections, through a process that keeps its size.

use support::{App, Gate, Reply, Spillway, eventually, read_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const GIB: u64 = 1024 * 1024 * 1024;
/// The process in all, at any time: a body is never held.
const MEMORY_KIB_MAX: u64 = 64 * 1024;

/// An application of two connections: it takes a body and says how long it was, or gives one.
async fn app() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = read_until(&mut stream, "\r\n\r\n").await;
                if head.starts_with("PUT") {
                    let read = drain(&mut stream, GIB - after(&head)).await + after(&head);
                    let said = format!("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{read:>10}");
                    stream.write_all(said.as_bytes()).await.expect("open");
                } else {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {GIB}\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.expect("open");
                    fill(&mut stream).await;
                }
            });
        }
    });
    format!("http://{address}")
}

/// Bytes of the body that came with the head.
fn after(head: &str) -> u64 {
    head.split_once("\r\n\r\n").map_or(0, |(_, rest)| rest.len() as u64)
}

async fn drain(stream: &mut TcpStream, most: u64) -> u64 {
    let (mut buffer, mut read) = (vec![0; 256 * 1024], 0);
    while read < most {
        match stream.read(&mut buffer).await.expect("open") {
            0 => break,
            bytes => read += bytes as u64,
        }
    }
    read
}

async fn fill(stream: &mut TcpStream) {
    let piece = vec![b'x'; 256 * 1024];
    for _ in 0..GIB / piece.len() as u64 {
        stream.write_all(&piece).await.expect("open");
    }
}

/// The most that the process ever held.
fn peak_kib(sidecar: &Spillway) -> u64 {
    kib(sidecar, "VmHWM:")
}

fn kib(sidecar: &Spillway, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.id()));
    let status = status.expect("a process");
    let line = status.lines().find(|line| line.starts_with(what)).expect("its memory");
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
}

#[tokio::test]
async fn a_gibibyte_passes_each_way_and_is_never_held() {
    let sidecar = Spillway::proxy_to("", &app().await).start().await;
    let mut client = TcpStream::connect(sidecar.address()).await.expect("listens");
    let head = format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {GIB}\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("open");
    fill(&mut client).await;
    let answer = read_until(&mut client, &GIB.to_string()).await;
    assert!(answer.ends_with(&GIB.to_string()), "{answer}");
    let mut client = TcpStream::connect(sidecar.address()).await.expect("listens");
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("open");
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.contains(&format!("content-length: {GIB}")), "{head}");
    assert_eq!(drain(&mut client, GIB - after(&head)).await + after(&head), GIB);
    let peak = peak_kib(&sidecar);
    assert!(peak <= MEMORY_KIB_MAX, "{peak} KiB");
}

#[tokio::test]
async fn a_client_that_does_not_read_makes_the_application_wait() {
    let sidecar = Spillway::proxy_to("", &app().await).start().await;
    let mut client = TcpStream::connect(sidecar.address()).await.expect("listens");
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("open");
    read_until(&mut client, "\r\n\r\n").await;
    // Nobody reads on; others are served all the same, and nothing piles up.
    let mut other = TcpStream::connect(sidecar.address()).await.expect("listens");
    other.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("open");
    let head = read_until(&mut other, "\r\n\r\n").await;
    assert_eq!(drain(&mut other, GIB - after(&head)).await + after(&head), GIB);
    let peak = peak_kib(&sidecar);
    assert!(peak <= MEMORY_KIB_MAX, "{peak} KiB");
}

#[tokio::test]
async fn what_quiet_connections_let_go_of_goes_back_to_the_system() {
    const CONNECTIONS: usize = 400;
    let app = App::start().await;
    app.on("/", Reply::ok("ok"));
    let sidecar = Spillway::proxy("", &app).start().await;
    let resident = || kib(&sidecar, "VmRSS:");
    let ask = || async {
        let mut client = TcpStream::connect(sidecar.address()).await.expect("listens");
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("open");
        read_until(&mut client, "ok").await;
        client
    };
    // What the first ones take is kept.
    drop((ask().await, ask().await));
    let before = resident();
    let mut clients = Vec::new();
    while clients.len() < CONNECTIONS {
        clients.push(ask().await);
    }
    let most = resident() - before;
    assert!(most > 1024, "{CONNECTIONS} connections took {most} KiB");
    eventually("half of it is given back", || async {
        (resident() < before + most / 2).then_some(())
    })
    .await;
    assert_eq!(sidecar.metric("spillway_connections_open").await, CONNECTIONS as f64);
}

#[tokio::test]
async fn connections_that_were_busy_at_once_are_all_used_again() {
    const AT_ONCE: usize = 300;
    let app = App::start().await;
    let sidecar = Spillway::proxy("", &app).start().await;
    let mut clients = Vec::new();
    for burst in ["/first", "/second"] {
        let gate = Gate::default();
        app.on(burst, Reply::ok("done").behind(&gate));
        while clients.len() < AT_ONCE {
            clients.push(TcpStream::connect(sidecar.address()).await.expect("listens"));
        }
        for client in &mut clients {
            let head = format!("GET {burst} HTTP/1.1\r\nHost: h\r\n\r\n");
            client.write_all(head.as_bytes()).await.expect("open");
        }
        app.until_asked(burst, AT_ONCE).await;
        gate.open();
        for client in &mut clients {
            assert!(read_until(client, "done").await.ends_with("done"));
        }
        assert_eq!(app.connections(), AT_ONCE, "after {burst}");
    }
}
