//! What scanners try besides sending a header and looking for it: errors that one client provokes for
//! all, fields that `Connection` takes off, parameters behind parameters, private pages under names of
//! files (Web Cache Vulnerability Scanner; cpd; Nguyen, Lo Iacono, Federrath, Your Cache Has Fallen, 2019).

use support::{App, Asked, Reply, Spillway, raw};

const CANARY: &str = "canary7f3a";

/// Nobody is believed; clients are, how they asked; clients are, in all.
const TRUSTED: [&str; 3] = ["none", "private", "127.0.0.0/8"];

async fn sidecar(trusted: &str, cache: &str, app: &App) -> Spillway {
    let rules = "[[route]]\nname = \"all\"\nmatch = { path = \"/{*rest}\" }";
    let setup = Spillway::proxy(&format!("{rules}\ncache = {{ sidecar = \"1m\", {cache} }}"), app);
    setup.with("--trusted-proxy", trusted).start().await
}

/// All that the application was asked with.
fn shown(asked: &Asked) -> Reply {
    Reply::ok(format!("{} {:?}", asked.target, asked.headers))
}

/// Sends a request line and fields as they are; the answer, which there is in any case.
async fn send(sidecar: &Spillway, line: &str, fields: &str) -> String {
    let host = sidecar.address();
    let request = format!("{line}\r\nhost: {host}\r\nconnection: close\r\n{fields}\r\n");
    let answer = raw(host, &request, "\0").await;
    assert!(answer.starts_with("HTTP/1."), "{line}: {answer:?}");
    answer
}

#[tokio::test]
async fn an_error_that_one_client_provokes_is_nobody_elses() {
    for trusted in TRUSTED {
        let app = App::start().await;
        let sidecar = sidecar(trusted, "", &app).await;
        let long = format!("x-oversized-header: {}\r\n", "x".repeat(20_000));
        let many: String = (0..120).map(|number| format!("x-many-{number}: 1\r\n")).collect();
        for (number, (version, fields)) in [
            ("HTTP/1.1", long.as_str()),
            ("HTTP/1.1", &many),
            ("HTTP/1.1", "x-metachar-header: a\x01b\r\n"),
            ("HTTP/1.1", "x-http-method-override: POST\r\n"),
            ("HTTP/1.1", "x-forwarded-scheme: nothttps\r\n"),
            ("HTTP/1.1", "x-forwarded-port: 123456\r\n"),
            ("HTTP/1.1", "x-middleware-prefetch: 1\r\nx-nextjs-data: 1\r\nrsc: 1\r\n"),
            ("HTTP/1.1", "range: bytes=cow\r\n"),
            ("HTTP/1.1", "range: bytes=9-1\r\n"),
            ("HTTP/1.1", "expect: 200-ok\r\n"),
            ("HTTP/1.1", "accept: application/x-none\r\naccept-encoding: x-none, identity;q=0\r\n"),
            ("HTTP/1.1", "if-match: \"none\"\r\n"),
            ("HTTP/1.1", "upgrade: h2c\r\n"),
            ("HTTP/1.1", "transfer-encoding: cow\r\n"),
            ("HTTP/1.0", "x-none: 1\r\n"),
        ]
        .into_iter()
        .enumerate()
        {
            let path = format!("/page/{number}");
            // An application that trips over whatever no ordinary client sends.
            app.answer(&path, |asked| {
                let known =
                    ["host", "user-agent", "traceparent", "x-forwarded-host", "x-forwarded-proto"];
                let is_known = asked.headers.keys().all(|name| known.contains(&name.as_str()));
                let is_plain = asked.method == "GET" && is_known;
                if is_plain { Reply::ok("the page") } else { Reply::status(404).body("broken") }
            });
            send(&sidecar, &format!("GET {path} {version}"), fields).await;
            let seen = sidecar.client().get(&path).await;
            let about = fields.get(..40).unwrap_or(fields);
            assert_eq!((seen.status, seen.text().as_str()), (200, "the page"), "{about}");
        }
    }
}

#[tokio::test]
async fn a_field_that_connection_takes_off_is_not_part_of_the_key_without_the_app_seeing_it() {
    for trusted in TRUSTED {
        let app = App::start().await;
        app.answer("/page", shown);
        let sidecar = sidecar(trusted, "headers = [\"x-locale\"]", &app).await;
        // Else the answer without the field would be kept for those who send it.
        send(&sidecar, "GET /page HTTP/1.1", "x-locale: de\r\nconnection: x-locale\r\n").await;
        let seen = sidecar.client().with("x-locale", "de").get("/page").await.text();
        assert!(seen.contains("\"x-locale\": \"de\""), "{seen}");
        let plain = sidecar.client().get("/page").await.text();
        assert!(plain.starts_with("/page ") && !plain.contains("x-locale"), "{plain}");
    }
}

#[tokio::test]
async fn a_parameter_that_is_not_part_of_the_key_does_not_come_in_behind_one_that_is() {
    for trusted in TRUSTED {
        let app = App::start().await;
        app.answer("/page", shown);
        let sidecar = sidecar(trusted, "query = [\"a\"]", &app).await;
        for query in [
            "a=1;evil=CANARY",
            "a=1&evil=CANARY",
            "evil=CANARY&a=1",
            "a=1&a=CANARY",
            "a=1&%61=CANARY",
            "a=1%26a=CANARY",
            "a=1&utm_content=1;a=CANARY",
            "a=1&a[]=CANARY",
            "a=1?a=CANARY",
            "a=1&A=CANARY",
            "a=1%23CANARY",
            "a=1%00CANARY",
            "&&a=1&=CANARY",
        ] {
            let query = query.replace("CANARY", CANARY);
            send(&sidecar, &format!("GET /page?{query} HTTP/1.1"), "").await;
            let seen = sidecar.client().get("/page?a=1").await.text();
            assert!(seen.starts_with("/page?a=1 ") && !seen.contains(CANARY), "{query}: {seen}");
        }
    }
}

/// Ways to write that a page is a file.
const FILES: [&str; 17] = [
    "/.css",
    "/nonexistent.css",
    "/../nonexistent.css",
    "/%2e%2e/nonexistent.css",
    "/..%2fnonexistent.css",
    "%0Anonexistent.css",
    "%00nonexistent.css",
    "%09nonexistent.css",
    "%3Bnonexistent.css",
    "%23nonexistent.css",
    "%3Fname=valnonexistent.css",
    "%26name=valnonexistent.css",
    ";nonexistent.css",
    "%5Cnonexistent.css",
    "/nonexistent.CSS",
    "/nonexistent%2Ecss",
    "/nonexistent.%63ss",
];
/// What is left of such names when something stands behind them.
const NEARLY: [&str; 4] = ["/nonexistent.css%20", "/nonexistent.css/", "/nonexistent.css%3F", "/x"];

#[tokio::test]
async fn a_private_page_is_not_kept_under_the_name_of_a_file_however_it_is_written() {
    for trusted in TRUSTED {
        let by_default: Vec<&str> = FILES.into_iter().chain(NEARLY).collect();
        for (cache, ends) in [("", by_default.as_slice()), ("ignore_cookies = true", &FILES)] {
            let app = App::start().await;
            let sidecar = sidecar(trusted, cache, &app).await;
            for end in ends {
                let path = format!("/account{end}");
                app.on(&path, Reply::ok("of alice").with("content-type", "text/html"));
                let line = format!("GET {path} HTTP/1.1");
                send(&sidecar, &line, "cookie: session=alice\r\n").await;
                let answer = send(&sidecar, &line, "").await;
                assert!(!answer.contains("; hit"), "{cache} {path}: {answer}");
            }
            // The same rule does keep what is a file.
            app.on("/account.css", Reply::ok("p{}").with("content-type", "text/css"));
            for kept in [false, true] {
                let answer = send(&sidecar, "GET /account.css HTTP/1.1", "").await;
                assert_eq!(answer.contains("; hit"), kept, "{cache}: {answer}");
            }
        }
    }
}
