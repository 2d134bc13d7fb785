//! An application that is asked for more than it can do.

use support::{App, Gate, Reply, Spillway, eventually, folder, read_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn one_more_than_the_limit_is_refused_before_it_is_sent_and_later_ones_are_let_in() {
    let app = App::start().await;
    let gate = Gate::default();
    app.on("/slow", Reply::ok("done").behind(&gate));
    app.on("/fast", Reply::ok("done"));
    let sidecar = Spillway::proxy("[overload]\nconcurrency = 2\n", &app).start().await;
    let ask = || {
        let client = sidecar.client();
        tokio::spawn(async move { client.get("/slow").await })
    };
    let waiting = [ask(), ask()];
    app.until_asked("/slow", 2).await;
    let refused = sidecar.client().get("/fast").await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "overloaded"));
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!(app.count("/fast"), 0);
    gate.open();
    for answer in waiting {
        assert_eq!(answer.await.expect("an answer").status, 200);
    }
    assert_eq!(sidecar.client().get("/fast").await.status, 200);
}

/// An application whose answers begin and don't end.
async fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_until(&mut stream, "\r\n\r\n").await;
                let begun =
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
                stream.write_all(begun).await.expect("open");
                // Until the other side has had enough.
                let _ = stream.read(&mut [0]).await;
            });
        }
    });
    format!("http://{address}")
}

/// A client that has heard so much and stays.
async fn listening(sidecar: &Spillway, path: &str, until: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(sidecar.address()).await.expect("listens");
    let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("open");
    let heard = read_until(&mut stream, until).await;
    (stream, heard)
}

#[tokio::test]
async fn an_answer_that_streams_does_not_use_the_limit_up_and_does_use_its_routes_places() {
    let rules = r#"
        [overload]
        concurrency = 1

        [[route]]
        name        = "held"
        match       = { path = "/held" }
        concurrency = 1
    "#;
    let sidecar = Spillway::proxy_to(rules, &endless().await).start().await;
    let mut open = Vec::new();
    for path in ["/events", "/events", "/held"] {
        let (stream, heard) = listening(&sidecar, path, "data: 1\n\n").await;
        assert!(heard.starts_with("HTTP/1.1 200"), "{path}: {heard}");
        open.push(stream);
    }
    let (_, busy) = listening(&sidecar, "/held", "}").await;
    assert!(busy.starts_with("HTTP/1.1 503") && busy.contains("problems/route-busy"), "{busy}");
    // A client that leaves gives its place back.
    for stream in open {
        stream.set_zero_linger().expect("a socket");
    }
    eventually("the place is free", || async {
        let (_, heard) = listening(&sidecar, "/held", "\r\n\r\n").await;
        heard.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stale_answer_stands_in_and_a_slow_route_is_queued() {
    let app = App::start().await;
    let gate = Gate::default();
    app.on("/page", Reply::ok("page").with("cache-control", "max-age=0, stale-if-error=60"));
    app.on("/block", Reply::ok("").behind(&gate));
    app.on("/report", Reply::ok("report"));
    let rules = r#"
        [overload]
        concurrency = 1

        [[route]]
        name  = "page"
        match = { path = "/page" }
        cache = { sidecar = "from-origin" }

        [[route]]
        name    = "report"
        match   = { path = "/report", methods = ["POST"] }
        offload = { when = "slow", after = "10s", queue = "q", auth = "none" }

        [queue.q]
    "#;
    let jobs = folder();
    let sidecar = Spillway::proxy(rules, &app).jobs("q", jobs.path()).start().await;
    assert_eq!(sidecar.client().get("/page").await.text(), "page");
    let client = sidecar.client();
    let block = tokio::spawn(async move { client.get("/block").await });
    app.until_asked("/block", 1).await;
    let stale = sidecar.client().get("/page").await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "page"));
    assert_eq!(app.count("/page"), 1);
    let queued = sidecar.client().post("/report", "").await;
    assert_eq!((queued.status, app.count("/report")), (202, 0));
    let reason =
        r#"spillway_offload_requests_total{reason="overload",result="queued",route="report"}"#;
    assert_eq!(sidecar.metric(reason).await, 1.0);
    gate.open();
    block.await.expect("an answer");
}

#[tokio::test]
async fn what_an_application_can_do_at_once_is_learned() {
    let app = App::with_workers(2).await;
    app.on("/", Reply::ok("").after(std::time::Duration::from_millis(5)));
    let sidecar = Spillway::proxy("[overload]\nconcurrency = \"adaptive\"\n", &app).start().await;
    let askers: Vec<_> = (0..80)
        .map(|_| {
            let client = sidecar.client();
            tokio::spawn(async move {
                loop {
                    client.get("/").await;
                }
            })
        })
        .collect();
    let limit = r#"spillway_concurrency_limit{upstream="app"}"#;
    eventually("it is far below where it began", || async {
        let limit = sidecar.metric(limit).await;
        (limit > 0.0 && limit < 24.0).then_some(())
    })
    .await;
    askers.iter().for_each(tokio::task::JoinHandle::abort);
}
