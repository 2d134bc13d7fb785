//! How a sidecar takes its leave: `/drain`, which Kubernetes calls before it ends a pod.

use support::{App, Reply, Spillway, eventually, read_until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const RULES: &str = "";

async fn is_leaving(sidecar: &Spillway) {
    eventually("it is not ready", || async {
        (sidecar.admin().get("/ready").await.status == 503).then_some(())
    })
    .await;
}

#[tokio::test]
async fn until_nodes_have_learnt_of_it_connections_are_answered_and_sent_elsewhere() {
    let app = App::start().await;
    app.on("/page", Reply::ok("page"));
    let sidecar = Spillway::proxy(RULES, &app).with("--drain-delay", "2").start().await;
    let kept = sidecar.client();
    assert_eq!(kept.get("/page").await.header("connection"), "");
    let admin = sidecar.admin();
    let draining = tokio::spawn(async move { admin.get("/drain").await });
    is_leaving(&sidecar).await;
    // The connection from before, and one that comes only now.
    for client in [kept, sidecar.client()] {
        let answer = client.get("/page").await;
        assert_eq!((answer.status, answer.header("connection").as_str()), (200, "close"));
    }
    assert!(!draining.is_finished());
    assert_eq!(draining.await.expect("an answer").text(), "drained\n");
    eventually("no new connection is taken", || async {
        sidecar.client().try_send("GET", "/page", "").await.err()
    })
    .await;
}

#[tokio::test]
async fn sigterm_ends_the_delay() {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).with("--drain-delay", "3600").start().await;
    let admin = sidecar.admin();
    let draining = tokio::spawn(async move { admin.get("/drain").await });
    is_leaving(&sidecar).await;
    sidecar.terminate().await;
    assert_eq!(sidecar.ended().await, Some(0));
    drop(draining);
}

#[tokio::test]
async fn a_drain_waits_for_the_end_of_an_answer_and_not_only_for_its_beginning() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let app = format!("http://{}", listener.local_addr().expect("a bound port"));
    let sidecar = Spillway::proxy_to(RULES, &app).with("--drain-delay", "0").start().await;
    let mut client = TcpStream::connect(sidecar.address()).await.expect("a connection");
    client.write_all(b"GET /long HTTP/1.1\r\nHost: app\r\n\r\n").await.expect("sent");
    let (mut upstream, _) = listener.accept().await.expect("the sidecar connects");
    read_until(&mut upstream, "\r\n\r\n").await;
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst";
    upstream.write_all(half).await.expect("sent");
    assert!(read_until(&mut client, "first").await.contains("200"));
    let admin = sidecar.admin();
    let draining = tokio::spawn(async move { admin.get("/drain").await });
    is_leaving(&sidecar).await;
    eventually("no new connection is taken", || async {
        TcpStream::connect(sidecar.address()).await.err()
    })
    .await;
    assert!(!draining.is_finished());
    upstream.write_all(b"final").await.expect("sent");
    assert_eq!(read_until(&mut client, "final").await, "final");
    assert_eq!(draining.await.expect("an answer").text(), "drained\n");
}
