//! Being there changes nothing: what no rule names reaches the app, and comes back, as it came.

use support::{App, Reply, Spillway, Wire, folder, raw};

/// The answer to bytes that are sent as they stand.
async fn asked(sidecar: &Spillway, request: &str) -> String {
    raw(sidecar.address(), request, "<closed>").await
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn targets_reach_the_app_letter_by_letter() {
    let app = Wire::mirror().await;
    let rules = "[[route]]\nname = \"m\"\nmatch = { path = \"/m/{*rest}\" }\ntimeout = \"9s\"\n";
    let sidecar = Spillway::proxy_to(rules, &app.url()).start().await;
    for target in [
        "/café",
        "/search?q=café",
        "/m/x?q=東京",
        "/a|b^c`d{e}\"<f>",
        "/%7Euser/%e2%82%ac",
        "/?a[]=1&b={\"x\":1}&c=\\",
        "/@scope%2Fname",
        "/api/queues/%2F/q",
        "/a//b",
        "/a\\b",
        "/100%",
        "/a;v=1/b;c",
        "/?",
        "/a?b?c",
    ] {
        let answer = asked(&sidecar, &get(target)).await;
        assert!(answer.contains(&format!("\r\nGET {target} HTTP/1.1\r\n")), "{target}: {answer}");
    }
}

#[tokio::test]
async fn letters_of_an_older_encoding_are_encoded_once() {
    let app = Wire::mirror().await;
    let sidecar = Spillway::proxy_to("", &app.url()).start().await;
    let mut stream = tokio::net::TcpStream::connect(sidecar.address()).await.expect("connected");
    let request = b"GET /caf\xe9 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request).await.expect("sent");
    let answer = support::read_until(&mut stream, "<closed>").await;
    assert!(answer.contains("GET /caf%E9 HTTP/1.1\r\n"), "{answer}");
}

#[tokio::test]
async fn field_names_keep_their_spelling_and_order() {
    let app = Wire::mirror().await;
    let sidecar = Spillway::proxy_to("", &app.url()).start().await;
    let fields = "Host: h\r\nX-API-Key: 1\r\nSOAPAction: urn:x\r\naccept:*/*\r\nX-Empty: \r\nX-Api-KEY: 2\r\nContent-Length: 2\r\n";
    let request = format!("POST / HTTP/1.1\r\n{fields}Connection: close\r\n\r\nok");
    let answer = asked(&sidecar, &request).await;
    assert!(answer.contains(&format!("POST / HTTP/1.1\r\n{fields}X-Forwarded-For: ")), "{answer}");
}

#[tokio::test]
async fn fields_and_words_of_answers_keep_their_spelling_whatever_was_asked() {
    let fields =
        "X-oDD: 1\r\nContent-Length: 2\r\nDate: Mon, 30 Nov 2026 00:00:00 GMT\r\nX-ODD: 2\r\n";
    let sent = format!("HTTP/1.1 200 Fine by me\r\n{fields}\r\nok");
    let app = Wire::start(move |_| sent.clone().into_bytes()).await;
    let sidecar = Spillway::proxy_to("", &app.url()).start().await;
    for request in [
        get("/"),
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\nConnection: close\r\n\r\n"
            .to_owned(),
    ] {
        let answer = asked(&sidecar, &request).await;
        let expected = format!("HTTP/1.1 200 Fine by me\r\n{fields}Connection: close\r\n\r\nok");
        assert_eq!(answer, expected, "{request}");
    }
}

#[tokio::test]
async fn cookies_keep_their_quotes_and_hide_no_other() {
    let app = App::start().await;
    app.on("/page", Reply::ok("x").with("cache-control", "max-age=60"));
    let rules = "[[route]]\nname = \"page\"\nmatch = { path = \"/page\" }\ncache = { sidecar = \"from-origin\", cookies = [\"lang\", \"prefs\"] }\n";
    let sidecar = Spillway::proxy(rules, &app).start().await;
    let cookie = "odd=J\u{fc}; prefs=\"a\\054b\"; lang=de";
    let request =
        format!("GET /page HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    asked(&sidecar, &request).await;
    let sent = app.asked("/page").remove(0);
    assert_eq!(sent.header("cookie"), Some("lang=de; prefs=\"a\\054b\""));
}

#[tokio::test]
async fn another_method_in_a_field_passes_and_such_a_request_is_not_repeated() {
    let app = App::start().await;
    app.on("/orders/5", Reply::ok(""));
    let sidecar = Spillway::proxy("", &app).start().await;
    let client = sidecar.client().with("x-http-method-override", "DELETE");
    assert_eq!(client.post("/orders/5", "").await.status, 200);
    assert_eq!(app.asked("/orders/5")[0].header("x-http-method-override"), Some("DELETE"));
}

#[tokio::test]
async fn what_is_taken_off_is_counted_by_why() {
    let app = App::start().await;
    app.on("/", Reply::ok(""));
    let sidecar = Spillway::proxy("", &app).start().await;
    let client = sidecar.client().with("x_user", "1").with("x-original-url", "/admin");
    client.with("client-cert", ":AA==:").with("x-shard", "a").get("/").await;
    let metrics = sidecar.admin().get("/metrics").await.text();
    for reason in ["underscore", "other-target", "untrusted-peer", "reserved-prefix"] {
        let line = format!("spillway_request_fields_removed_total{{reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn http_1_0_without_a_host_is_answered_and_never_stored() {
    let app = Wire::mirror().await;
    let rules = "[[route]]\nname = \"all\"\nmatch = { path = \"/{*rest}\" }\ncache = { sidecar = \"1m\" }\n[[route]]\nname = \"own\"\nmatch = { path = \"/health\", hosts = [\"h\"] }\nmax_body = \"1KiB\"\n";
    let sidecar = Spillway::proxy_to(rules, &app.url()).start().await;
    for _ in 0..2 {
        let answer = asked(&sidecar, "GET /health HTTP/1.0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("fwd=bypass; detail=no-host"), "{answer}");
        let authority = app.url().replace("http://", "");
        assert!(answer.contains(&format!("\r\nHost: {authority}\r\n")), "{answer}");
        assert!(!answer.contains("X-Forwarded-Host"), "{answer}");
    }
    assert_eq!(app.heads().len(), 2);
    let answer = asked(&sidecar, "GET /health HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn options_of_the_whole_server_are_the_apps() {
    let app = Wire::mirror().await;
    let sidecar = Spillway::proxy_to("", &app.url()).start().await;
    let request = "OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let answer = asked(&sidecar, request).await;
    assert!(answer.contains("\r\nOPTIONS * HTTP/1.1\r\n"), "{answer}");
}

const JOBS: &str = r#"
[queue.q]
visibility = "10s"
[[route]]
name = "reports"
match = { path = "/reports" }
offload = { queue = "q", when = "always", auth = { identity = "cookie:sid" }, forward_headers = ["X-Region", "X-Name", "Cookie"] }
"#;

#[tokio::test]
async fn a_job_is_asked_for_with_all_that_the_client_wrote() {
    let app = App::start().await;
    app.on("/reports", Reply::ok("").with("content-disposition", "inline"));
    let jobs = folder();
    let sidecar = Spillway::proxy(JOBS, &app).jobs("q", jobs.path()).start().await;
    let _consumer = Spillway::consume(JOBS, &app).jobs("q", jobs.path()).start().await;
    let request = "POST /reports?city=M\u{fc}nchen HTTP/1.1\r\nHost: h\r\nOrigin: http://h\r\nCookie: sid=alice; name=J\u{fc}rgen\r\nX-Region: eu\r\nX-Region: us\r\nX-Name: J\u{fc}rgen\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let answer = asked(&sidecar, request).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let run = app.until_asked("/reports", 1).await.remove(0);
    assert_eq!(run.target, "/reports?city=M%C3%BCnchen");
    let regions: Vec<_> = run.headers.get_all("x-region").iter().collect();
    assert_eq!(regions, ["eu", "us"]);
    assert_eq!(run.headers["x-name"].as_bytes(), "J\u{fc}rgen".as_bytes());
    assert_eq!(run.headers["cookie"].as_bytes(), "sid=alice; name=J\u{fc}rgen".as_bytes());
}

#[tokio::test]
async fn a_preflight_of_a_route_that_queues_is_the_apps() {
    let app = App::start().await;
    app.on("/reports", Reply::status(204).with("access-control-allow-origin", "https://a.example"));
    let jobs = folder();
    let sidecar = Spillway::proxy(JOBS, &app).jobs("q", jobs.path()).start().await;
    let request = "OPTIONS /reports HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n";
    let answer = asked(&sidecar, request).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(app.count("/reports"), 1);
}

#[tokio::test]
async fn answers_whose_lengths_have_one_reading_go_on_and_are_not_stored() {
    let app = Wire::start(|head| {
        let head = String::from_utf8_lossy(head);
        let (fields, body) = match head.split(' ').nth(1) {
            Some("/equal") => ("Content-Length: 2\r\nContent-Length: 2\r\n", "ok"),
            Some("/list") => ("Content-Length: 2, 2\r\n", "ok"),
            Some("/both") => {
                ("Content-Length: 9\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n")
            }
            _ => ("Content-Length: 2\r\nContent-Length: 3\r\n", "ok"),
        };
        format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}").into_bytes()
    })
    .await;
    let rules = "[[route]]\nname = \"all\"\nmatch = { path = \"/{*rest}\" }\ncache = { sidecar = \"1m\" }\n";
    for rules in ["", rules] {
        let sidecar = Spillway::proxy_to(rules, &app.url()).start().await;
        for target in ["/equal", "/list", "/both"] {
            for _ in 0..2 {
                let answer = sidecar.client().get(target).await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{target}");
                assert!(!answer.cache().starts_with("hit"), "{target}: {}", answer.cache());
            }
        }
        assert_eq!(sidecar.client().get("/unequal").await.problem(), "upstream-invalid");
    }
}

#[tokio::test]
async fn heads_may_be_as_large_as_the_operator_says_both_ways() {
    let lines: String = (0..150).map(|number| format!("X-{number}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(40_000));
    let fields = lines + &long;
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    let app = Wire::start(move |_| answer.clone().into_bytes()).await;
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}Connection: close\r\n\r\n");
    let sidecar = Spillway::proxy_to("", &app.url()).start().await;
    assert!(asked(&sidecar, &request).await.starts_with("HTTP/1.1 431"));
    assert!(asked(&sidecar, &get("/")).await.starts_with("HTTP/1.1 502"));
    let setup = Spillway::proxy_to("", &app.url()).with("--head-kib", "63");
    let sidecar = setup.with("--head-fields", "200").start().await;
    let heard = asked(&sidecar, &request).await;
    assert!(heard.starts_with("HTTP/1.1 200") && heard.ends_with("ok"));
    assert!(app.heads().last().expect("asked").contains(&fields));
}
