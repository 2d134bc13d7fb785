//! Requests that pass through: headers, streams, upgrades, refusals, and the life of the process.

use support::{App, Gate, Reply, Spillway, eventually, folder, raw, read_until, run};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const RULES: &str = r#"
    [[route]]
    name     = "small"
    match    = { path = "/small", methods = ["POST"] }
    max_body = "1KiB"

    [[route]]
    name    = "hasty"
    match   = { path = "/hasty" }
    timeout = "50ms"
"#;

#[tokio::test]
async fn an_unmatched_request_passes_through_untouched() {
    let app = App::start().await;
    app.answer("/any", |asked| {
        Reply::ok(asked.body.clone())
            .with("x-own", "1")
            .with("connection", "x-hop")
            .with("x-hop", "1")
    });
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let answer = sidecar.client().with("x-mine", "kept").post("/any?b=2&a=%20", "body").await;
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.header("x-own").as_str()),
        (200, "body", "1")
    );
    assert_eq!(answer.header("x-hop"), "");
    let asked = app.asked("/any").remove(0);
    assert_eq!((asked.target.as_str(), asked.header("x-mine")), ("/any?b=2&a=%20", Some("kept")));
    assert_eq!(asked.header("host"), Some(sidecar.address()));
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn connection_fields_and_what_only_we_may_say_do_not_reach_the_app() {
    let app = App::start().await;
    app.on("/", Reply::ok(""));
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Named\r\nX-Named: 1\r\nTE: trailers\r\nX-Shard: b\r\nX-Job-Id: 1\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
    assert!(raw(sidecar.address(), request, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    let asked = app.asked("/").remove(0);
    for name in ["connection", "x-named", "te", "x-shard", "x-job-id"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_whom_it_forwards_for() {
    let app = App::start().await;
    app.on("/", Reply::ok(""));
    let sidecar = Spillway::proxy(RULES, &app).with("--trusted-proxy", "127.0.0.0/8").start().await;
    sidecar
        .client()
        .with("x-forwarded-for", "1.2.3.4")
        .with("x-forwarded-proto", "https")
        .get("/")
        .await;
    let asked = app.asked("/").remove(0);
    assert_eq!(asked.header("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(asked.header("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn ambiguous_requests_are_refused_before_the_app_sees_them() {
    let app = App::start().await;
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"),
        ("GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
        ("GET /a%2f..%2fb HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
        ("GET //small HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
        ("GET /%73mall%2f HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", "405"),
    ] {
        let answer = raw(sidecar.address(), request, "\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
    }
    assert!(app.asked("/").is_empty() && app.asked("/b").is_empty());
}

#[tokio::test]
async fn a_body_over_the_routes_limit_is_refused() {
    let app = App::start().await;
    app.on("/small", Reply::ok(""));
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    assert_eq!(sidecar.client().post("/small", vec![b'x'; 1024]).await.status, 200);
    let large = sidecar.client().post("/small", vec![b'x'; 1025]).await;
    assert_eq!((large.status, large.problem().as_str()), (413, "body-too-large"));
}

#[tokio::test]
async fn an_app_that_is_slow_gone_or_not_http_is_named() {
    let app = App::start().await;
    let gate = Gate::default();
    app.on("/hasty", Reply::ok("").behind(&gate));
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    assert_eq!(sidecar.client().get("/hasty").await.problem(), "upstream-timeout");
    drop(app);
    let gone = sidecar.client().get("/any").await;
    assert_eq!((gone.status, gone.problem().as_str()), (502, "upstream-unreachable"));
    assert_eq!(
        sidecar
            .metric(r#"spillway_problems_total{problem="upstream-unreachable",route="unmatched"}"#)
            .await,
        1.0
    );
    let page = sidecar.client().get("/_spillway/problems/upstream-unreachable").await;
    assert!(page.status == 200 && page.text().contains("What to do"));
}

/// A peer that takes one connection and does with it what a test wants.
async fn peer() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, url)
}

#[tokio::test]
async fn an_answer_is_passed_on_as_it_comes() {
    let (listener, url) = peer().await;
    let sidecar = Spillway::proxy_to(RULES, &url).start().await;
    let mut client = TcpStream::connect(sidecar.address()).await.expect("a connection");
    client.write_all(b"GET /events HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    let (mut upstream, _) = listener.accept().await.expect("the sidecar connects");
    read_until(&mut upstream, "\r\n\r\n").await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await.expect("sent");
    assert!(read_until(&mut client, "first").await.contains("first"));
    upstream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.expect("sent");
    assert!(read_until(&mut client, "second").await.contains("second"));
}

#[tokio::test]
async fn a_request_that_lasts_longer_than_its_route_allows_in_all_is_ended() {
    const BOUND: &str =
        "[[route]]\nname = \"bound\"\nmatch = { path = \"/{*rest}\" }\ntotal_timeout = \"300ms\"\n";
    let (listener, url) = peer().await;
    let sidecar = Spillway::proxy_to(BOUND, &url).start().await;
    let app = async {
        let (silent, _) = listener.accept().await.expect("the sidecar connects");
        let (mut endless, _) = listener.accept().await.expect("the sidecar connects");
        read_until(&mut endless, "\r\n\r\n").await;
        endless
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun")
            .await
            .expect("sent");
        (silent, endless)
    };
    let client = async {
        assert_eq!(sidecar.client().get("/").await.problem(), "total-timeout");
        // To its end, as there is no such text in it.
        raw(sidecar.address(), "GET /endless HTTP/1.1\r\nHost: h\r\n\r\n", "whole").await
    };
    let (_held, cut) = tokio::join!(app, client);
    assert!(cut.starts_with("HTTP/1.1 200") && cut.ends_with("begun"), "{cut}");
    let counted = r#"spillway_problems_total{problem="total-timeout",route="bound"}"#;
    assert_eq!(sidecar.metric(counted).await, 2.0);
}

#[tokio::test]
async fn an_upgraded_connection_is_joined_both_ways() {
    let (listener, url) = peer().await;
    let sidecar = Spillway::proxy_to(RULES, &url).start().await;
    let mut client = TcpStream::connect(sidecar.address()).await.expect("a connection");
    client
        .write_all(
            b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await
        .expect("sent");
    let (mut upstream, _) = listener.accept().await.expect("the sidecar connects");
    let head = read_until(&mut upstream, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
    upstream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello").await.expect("sent");
    assert!(read_until(&mut client, "hello").await.starts_with("HTTP/1.1 101"));
    client.write_all(b"from client").await.expect("sent");
    assert_eq!(read_until(&mut upstream, "from client").await, "from client");
    upstream.write_all(b"from app").await.expect("sent");
    assert_eq!(read_until(&mut client, "from app").await, "from app");
}

#[tokio::test]
async fn a_request_in_flight_is_finished_after_sigterm_and_new_ones_are_not_taken() {
    let app = App::start().await;
    let gate = Gate::default();
    app.on("/long", Reply::ok("finished").behind(&gate));
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    assert_eq!(sidecar.admin().get("/ready").await.status, 200);
    let client = sidecar.client();
    let asking = tokio::spawn(async move { client.get("/long").await });
    app.until_asked("/long", 1).await;
    sidecar.terminate().await;
    eventually("it is not ready", || async {
        (sidecar.admin().get("/ready").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(sidecar.admin().get("/live").await.status, 200);
    eventually("no new connection is taken", || async {
        sidecar.client().try_send("GET", "/other", "").await.err()
    })
    .await;
    gate.open();
    assert_eq!(asking.await.expect("an answer").text(), "finished");
    assert_eq!(sidecar.ended().await, Some(0));
}

#[tokio::test]
async fn a_drain_over_the_admin_port_waits_for_requests_in_flight() {
    let app = App::start().await;
    let gate = Gate::default();
    app.on("/long", Reply::ok("finished").behind(&gate));
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let client = sidecar.client();
    let asking = tokio::spawn(async move { client.get("/long").await });
    app.until_asked("/long", 1).await;
    let draining = tokio::spawn(sidecar.drain());
    eventually("it is not ready", || async {
        (sidecar.admin().get("/ready").await.status == 503).then_some(())
    })
    .await;
    assert!(!draining.is_finished());
    gate.open();
    assert_eq!(asking.await.expect("an answer").text(), "finished");
    assert_eq!(draining.await.expect("it ends").code, Some(0));
}

#[tokio::test]
async fn bad_settings_and_rules_refuse_to_start_and_say_everything_at_once() {
    let app = App::start().await;
    let broken = "[[route]]\nnam = \"x\"\nmatch = { path = \"api\" }\ncache = { edge = \"5\" }\ntotal_timeout = \"1s\"\noffload = { queue = \"q\" }\n";
    let ended = Spillway::proxy(broken, &app).refused().await;
    assert_eq!(ended.code, Some(78));
    for fault in ["unknown-key", "missing-key", "bad-path", "bad-duration", "total-with-offload"] {
        assert!(ended.errors.contains(fault), "{fault}: {}", ended.errors);
    }
    let offload = "[[route]]\nname = \"x\"\nmatch = { path = \"/x\" }\noffload = { queue = \"q\", when = \"always\", auth = \"none\" }\n[queue.q]\n";
    let ended = Spillway::proxy(offload, &app).refused().await;
    assert_eq!(ended.code, Some(78));
    assert!(
        ended.errors.contains("queue `q` is not bound")
            && ended.errors.contains("results are not bound"),
        "{}",
        ended.errors
    );
    assert_eq!(run(&["proxy", "--no-such-flag"]).await.code, Some(64));
}

#[tokio::test]
async fn a_port_that_somebody_has_is_not_shared_in_silence() {
    let app = App::start().await;
    let first = Spillway::proxy(RULES, &app).start().await;
    let taken = ["--listen", first.address(), "--admin", "127.0.0.1:0"];
    let mut arguments = vec!["proxy", "--routes", "/dev/null"];
    arguments.extend(taken);
    let second = run(&arguments).await;
    assert_eq!(second.code, Some(1));
    assert!(second.errors.contains("Address already in use"), "{}", second.errors);
}

#[tokio::test]
async fn changed_rules_take_effect_and_bad_ones_do_not() {
    let app = App::start().await;
    app.on("/page", Reply::ok("x"));
    let sidecar = Spillway::proxy(RULES, &app).start().await;
    let reloads = |result: &str| format!("spillway_rules_reloads_total{{result=\"{result}\"}}");
    sidecar.change_rules("[[route]]\nname = 5\n");
    eventually("the bad file is refused", || async {
        (sidecar.metric(&reloads("failure")).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(sidecar.client().post("/small", vec![b'x'; 2000]).await.status, 413);
    sidecar.change_rules(
        "[[route]]\nname = \"page\"\nmatch = { path = \"/page\" }\ncache = { sidecar = \"1m\" }\n",
    );
    eventually("the good file is taken", || async {
        (sidecar.metric(&reloads("success")).await > 0.0).then_some(())
    })
    .await;
    sidecar.client().get("/page").await;
    assert!(sidecar.client().get("/page").await.cache().starts_with("hit"));
}

#[tokio::test]
async fn check_and_explain_need_nothing_running() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../routes.toml");
    let routes = root.to_str().expect("text");
    let checked = run(&["check", routes]).await;
    assert_eq!(
        (checked.code, checked.output.contains("is good")),
        (Some(0), true),
        "{}",
        checked.output
    );
    let explained = run(&["explain", "GET", "/api/prices/15000?x=1", "--routes", routes]).await;
    for part in [
        "route    prices",
        "edge",
        "sidecar",
        "shard    b",
        "offload",
        "lifetime 1000 ms",
        "fetch    /api/prices/15000",
    ] {
        assert!(explained.output.contains(part), "{part}: {}", explained.output);
    }
    let broken = folder();
    let file = broken.path().join("routes.toml");
    std::fs::write(&file, "[[route]]\nname = \"a\"\ncache = {}\n[queue.x]\nvisbility = \"1s\"\n")
        .expect("a file");
    let checked = run(&["check", file.to_str().expect("text")]).await;
    assert_eq!(checked.code, Some(78));
    assert!(
        checked.output.contains("Did you mean `visibility`?")
            && checked.output.contains("cache-without-tier")
    );
}

#[tokio::test]
async fn an_app_that_changes_protocols_without_being_asked_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_until(&mut stream, "\r\n\r\n").await;
            let switched =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
            stream.write_all(switched).await.expect("open");
        }
    });
    let sidecar = Spillway::proxy_to("", &format!("http://{address}")).start().await;
    let answer = sidecar.client().get("/").await;
    assert_eq!((answer.status, answer.problem().as_str()), (502, "upstream-invalid"));
}

#[tokio::test]
async fn what_is_malformed_is_counted_by_its_name_in_heads_and_in_bodies() {
    let app = App::start().await;
    let sidecar = Spillway::proxy("", &app).start().await;
    for (request, reason) in [
        ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", "field"),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", "chunk-size"),
    ] {
        let answer = raw(sidecar.address(), request, "}").await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(reason), "{answer}");
        let series = format!(r#"spillway_messages_refused_total{{reason="{reason}"}}"#);
        eventually("it is counted", || async {
            (sidecar.metric(&series).await == 1.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_put_that_meets_a_closing_connection_is_sent_again_with_its_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let app = format!("http://{}", listener.local_addr().expect("bound"));
    let upstream = tokio::spawn(async move {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let (mut first, _) = listener.accept().await.expect("a connection");
        read_until(&mut first, "one").await;
        first.write_all(answer).await.expect("sent");
        read_until(&mut first, "two").await;
        drop(first);
        let (mut second, _) = listener.accept().await.expect("another connection");
        let again = read_until(&mut second, "two").await;
        second.write_all(answer).await.expect("sent");
        again
    });
    let rules = "[[route]]\nname = \"limited\"\nmatch = { path = \"/any\" }\nmax_body = \"1KiB\"\n";
    let sidecar = Spillway::proxy_to(rules, &app).start().await;
    let client = sidecar.client();
    assert_eq!(client.send("PUT", "/any", "one").await.status, 200);
    assert_eq!(client.send("PUT", "/any", "two").await.status, 200);
    let again = upstream.await.expect("it answered");
    assert!(again.starts_with("PUT /any HTTP/1.1\r\n"), "{again}");
    let retries = r#"spillway_upstream_retries_total{upstream="app"}"#;
    assert_eq!(sidecar.metric(retries).await, 1.0);
}
