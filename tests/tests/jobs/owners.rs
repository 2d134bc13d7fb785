//! Whose a job is: who the application says, asked again whenever somebody looks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use support::{Answer, App, Client, Gate, Reply, Spillway, eventually, folder, read_until};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const RULES: &str = r#"
    [[route]]
    name    = "reports"
    match   = { path = "/reports" }
    [route.offload]
    queue   = "work"
    when    = "prefer"
    auth    = { check = "/me", identity = ["check:X-User-Id", "header:X-Api-Key"], keep = ["X-User-Id"] }

    [queue.work]
"#;

/// Checks that are under way at once.
const CHECKS_MAX: usize = 100;

/// An application with sessions: what a cookie's value is good for, and whether each answer renews it.
#[derive(Clone, Default)]
struct Sessions {
    users: Arc<Mutex<HashMap<String, String>>>,
    rolls: bool,
}

impl Sessions {
    fn log_in(&self, session: &str, user: &str) {
        self.users.lock().expect("no panic").insert(session.into(), user.into());
    }

    fn log_out(&self, session: &str) {
        self.users.lock().expect("no panic").remove(session);
    }

    /// What `/me` answers.
    fn answer(&self, cookie: Option<&str>, key: Option<&str>) -> Reply {
        let session = cookie.and_then(|cookie| cookie.strip_prefix("session=")).unwrap_or_default();
        let mut users = self.users.lock().expect("no panic");
        let Some(user) = users.get(session).cloned() else {
            // A program with a key is known without a user.
            return Reply::status(if key == Some("k-1") { 204 } else { 401 });
        };
        let reply = Reply::ok("").with("x-user-id", &user);
        if !self.rolls {
            return reply;
        }
        let next = format!("{session}+");
        users.remove(session);
        users.insert(next.clone(), user);
        reply.with("set-cookie", &format!("session={next}; Path=/; HttpOnly"))
    }
}

struct World {
    app: App,
    proxy: Spillway,
    sessions: Sessions,
    _jobs: TempDir,
}

async fn world_of(sessions: Sessions) -> World {
    let app = App::start().await;
    sessions.log_in("a", "alice");
    sessions.log_in("b", "bob");
    let own = sessions.clone();
    app.answer("/me", move |asked| own.answer(asked.header("cookie"), asked.header("x-api-key")));
    app.on("/reports", Reply::ok("report"));
    let jobs = folder();
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    World { app, proxy, sessions, _jobs: jobs }
}

async fn world() -> World {
    world_of(Sessions::default()).await
}

impl World {
    fn browser(&self, session: &str) -> Client {
        self.proxy
            .client()
            .with("cookie", &format!("session={session}"))
            .with("sec-fetch-site", "none")
    }

    async fn start_job(&self, client: &Client) -> String {
        let accepted = client.with("prefer", "respond-async").post("/reports", "May").await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        accepted.header("location")
    }
}

fn is_unknown(answer: &Answer) -> bool {
    (answer.status, answer.problem().as_str()) == (404, "job-unknown")
}

#[tokio::test]
async fn a_session_that_is_renewed_with_every_answer_keeps_its_jobs() {
    let world = world_of(Sessions { rolls: true, ..Sessions::default() }).await;
    let first = world.browser("a").with("prefer", "respond-async").post("/reports", "May").await;
    assert_eq!(
        (first.status, first.header("set-cookie").as_str()),
        (202, "session=a+; Path=/; HttpOnly")
    );
    let location = first.header("location");
    let look = world.browser("a+").get(&location).await;
    assert_eq!(
        (look.status, look.header("set-cookie").as_str()),
        (200, "session=a++; Path=/; HttpOnly")
    );
    assert_eq!(world.browser("a++").send("DELETE", &location, "").await.status, 200);
}

#[tokio::test]
async fn a_session_that_is_renewed_lives_on_where_the_request_is_refused() {
    let world = world_of(Sessions { rolls: true, ..Sessions::default() }).await;
    let long = "x".repeat(300);
    let client = world.browser("a").with("prefer", "respond-async").with("idempotency-key", &long);
    let refused = client.post("/reports", "May").await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-request"));
    assert_eq!(refused.header("set-cookie"), "session=a+; Path=/; HttpOnly");
}

#[tokio::test]
async fn another_user_and_one_who_logged_out_see_no_job() {
    let world = world().await;
    let alice = world.browser("a");
    let location = world.start_job(&alice).await;
    assert!(is_unknown(&world.browser("b").get(&location).await));
    assert!(is_unknown(&world.proxy.client().get(&location).await));
    world.sessions.log_in("other-device", "alice");
    assert_eq!(world.browser("other-device").get(&location).await.status, 200);
    world.sessions.log_out("a");
    assert!(is_unknown(&alice.send("DELETE", &location, "").await));
    assert!(is_unknown(&alice.get(&location).await), "a no is believed at once");
}

#[tokio::test]
async fn a_program_with_a_key_and_a_browser_use_the_same_route() {
    let world = world().await;
    let program = world.proxy.client().with("x-api-key", "k-1");
    let location = world.start_job(&program).await;
    assert_eq!(program.get(&location).await.status, 200);
    assert!(is_unknown(&world.browser("a").get(&location).await));
    // A user whom the application calls like the key is somebody else.
    world.sessions.log_in("k", "k-1");
    assert!(is_unknown(&world.browser("k").get(&location).await));
}

#[tokio::test]
async fn what_a_client_writes_where_the_application_names_its_caller_reaches_nobody() {
    let world = world().await;
    let liar = world.browser("a").with("x-user-id", "bob");
    let location = world.start_job(&liar).await;
    assert!(world.app.asked("/me").iter().all(|asked| asked.header("x-user-id").is_none()));
    assert!(is_unknown(&world.browser("b").get(&location).await));
    let nobody = world.proxy.client().with("x-user-id", "bob").with("prefer", "respond-async");
    let refused = nobody.post("/reports", "May").await;
    assert_eq!((refused.status, refused.problem().as_str()), (401, "offload-unauthorized"));
    // A request of the route that is no job is cleaned in the same way.
    assert_eq!(liar.get("/reports").await.text(), "report");
    assert_eq!(world.app.asked("/reports").remove(0).header("x-user-id"), None);
    let removed = r#"spillway_request_fields_removed_total{reason="said-by-check"}"#;
    assert_eq!(world.proxy.metric(removed).await, 3.0);
}

#[tokio::test]
async fn an_application_that_names_no_caller_or_two_lets_nobody_in() {
    let world = world().await;
    for lines in [&[][..], &[""], &["alice", "bob"]] {
        world.app.answer("/me", move |_| {
            lines.iter().fold(Reply::ok(""), |reply, line| reply.with("x-user-id", line))
        });
        let client = world.browser("a").with("prefer", "respond-async");
        let refused = client.post("/reports", "May").await;
        assert_eq!((refused.status, refused.problem().as_str()), (401, "offload-unauthorized"));
    }
    world.proxy.until_said("names several callers").await;
}

#[tokio::test]
async fn a_made_up_id_costs_the_application_nothing_and_polls_little() {
    let world = world().await;
    let alice = world.browser("a");
    let location = world.start_job(&alice).await;
    assert_eq!(world.app.count("/me"), 1);
    for made_up in ["v1.1.2.3.4", "k1.1.2", "x", &location.replace("jobs/v1.", "jobs/v1.0")] {
        let target = format!("/_spillway/jobs/{}", made_up.rsplit('/').next().unwrap_or_default());
        assert!(is_unknown(&alice.get(&target).await), "{target}");
    }
    assert_eq!(world.app.count("/me"), 1);
    for _ in 0..20 {
        // The preference and the trace are new in each; who asks is not.
        let poll =
            alice.with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(poll.get(&location).await.status, 200);
    }
    // Within five seconds; a slow machine may need one more.
    assert!(world.app.count("/me") <= 3, "{}", world.app.count("/me"));
    let before = world.app.count("/me");
    alice.send("DELETE", &location, "").await;
    assert_eq!(world.app.count("/me"), before + 1, "a cancellation is always asked about");
}

#[tokio::test]
async fn while_the_application_can_not_say_a_job_is_neither_shown_nor_denied() {
    let world = world().await;
    let alice = world.browser("a");
    let location = world.start_job(&alice).await;
    world.app.on("/me", Reply::status(503));
    let cancel = alice.send("DELETE", &location, "").await;
    assert_eq!((cancel.status, cancel.problem().as_str()), (503, "offload-unavailable"));
    let away = eventually("no earlier yes is believed any more", || async {
        let away = alice.get(&location).await;
        (away.status != 200).then_some(away)
    })
    .await;
    assert_eq!((away.status, away.problem().as_str()), (503, "offload-unavailable"));
    assert!(!away.header("retry-after").is_empty());
    let refused = alice.with("prefer", "respond-async").post("/reports", "May").await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "offload-unavailable"));
    let page = alice.with("accept", "text/html").get(&location).await;
    assert_eq!((page.status, page.header("retry-after").as_str()), (503, "2"));
    assert!(page.text().contains("http-equiv=refresh"), "the page tries again: {}", page.text());
}

#[tokio::test]
async fn an_application_that_refuses_connections_has_said_neither_yes_nor_no() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", nobody.local_addr().expect("a bound port"));
    drop(nobody);
    let jobs = folder();
    let proxy = Spillway::proxy_to(RULES, &url).jobs("work", jobs.path()).start().await;
    let client = proxy
        .client()
        .with("cookie", "session=a")
        .with("origin", proxy.url().as_str())
        .with("prefer", "respond-async");
    let refused = client.post("/reports", "May").await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "offload-unavailable"));
}

#[tokio::test]
async fn more_checks_than_the_application_should_be_asked_at_once_wait() {
    let world = world().await;
    let gate = Gate::default();
    let (own, closed) = (world.sessions.clone(), gate.clone());
    world.app.answer("/me", move |asked| own.answer(asked.header("cookie"), None).behind(&closed));
    let alice = world.browser("a").with("prefer", "respond-async");
    let asking: Vec<_> = (0..CHECKS_MAX)
        .map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move { alice.post("/reports", "May").await.status })
        })
        .collect();
    gate.until_waited(CHECKS_MAX).await;
    let one_more = tokio::spawn({
        let alice = alice.clone();
        async move { alice.post("/reports", "May").await }
    });
    gate.open();
    for asked in asking {
        assert_eq!(asked.await.expect("no panic"), 202);
    }
    assert_eq!(one_more.await.expect("no panic").status, 202);
    assert_eq!(world.app.count("/me"), CHECKS_MAX + 1);
}

#[tokio::test]
async fn a_stream_ends_when_its_reader_has_logged_out() {
    let world = world().await;
    let location = world.start_job(&world.browser("a")).await;
    let mut stream = TcpStream::connect(world.proxy.address()).await.expect("an open port");
    let request = format!(
        "GET {location} HTTP/1.1\r\nHost: h\r\nCookie: session=a\r\nAccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("open");
    assert!(read_until(&mut stream, "event: status").await.contains("200 OK"));
    world.sessions.log_out("a");
    // It ends by itself, long before the ten minutes that a stream may last.
    read_until(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn a_caller_whom_only_a_named_proxy_can_say_needs_such_a_proxy() {
    let app = App::start().await;
    let jobs = folder();
    let rules =
        RULES.replace(r#"["check:X-User-Id", "header:X-Api-Key"]"#, r#""header:X-Forwarded-User""#);
    let setup = || Spillway::proxy(&rules, &app).jobs("work", jobs.path());
    let refused = setup().with("--trusted-proxy", "private").refused().await;
    assert_eq!(refused.code, Some(78));
    assert!(refused.errors.contains("identity-from-client"), "{}", refused.errors);
    setup().with("--trusted-proxy", "10.0.0.0/8").start().await;
}
