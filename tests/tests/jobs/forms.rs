//! A form whose request became a job ends where it would have ended: at the page that the application
//! redirects to, at the form shown again, at a download.

use support::{Answer, App, Client, Reply, Spillway, eventually, folder};
use tempfile::TempDir;

const RULES: &str = r#"
    [jobs.page]
    lang  = "de"
    css   = "/static/jobs.css"
    texts = { waiting = "Bitte <warten>", leave-for = "Weiter zu" }

    [[route]]
    name    = "orders"
    match   = { path = "/orders", methods = ["POST"] }
    [route.offload]
    queue     = "work"
    when      = "always"
    replay_as = "caller"
    auth      = { check = "/me", identity = "check:X-User-Id", login = "/login" }

    [[route]]
    name    = "flash"
    match   = { path = "/flash", methods = ["POST"] }
    [route.offload]
    queue     = "work"
    when      = "always"
    replay_as = "caller"
    flash     = ["messages"]
    auth      = { check = "/me", identity = "check:X-User-Id", login = "none" }

    [[route]]
    name    = "unsaid"
    match   = { path = "/unsaid", methods = ["POST"] }
    offload = { queue = "work", when = "always", replay_as = "caller", auth = { check = "/me", identity = "check:X-User-Id" } }

    [[route]]
    name    = "open"
    match   = { path = "/open", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none" }

    [[route]]
    name    = "cached"
    match   = { path = "/cached" }
    cache   = { sidecar = "1m" }

    [queue.work]
    message = "Wir arbeiten daran."
"#;

struct World {
    app: App,
    proxy: Spillway,
    consumer: Spillway,
    _jobs: TempDir,
}

async fn world() -> World {
    let (app, jobs) = (App::start().await, folder());
    app.answer("/me", |asked| match asked.header("cookie") {
        Some("session=a") => Reply::ok("").with("x-user-id", "alice"),
        Some("session=b") => Reply::ok("").with("x-user-id", "bob"),
        _ => Reply::status(401),
    });
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    World { app, proxy, consumer, _jobs: jobs }
}

impl World {
    /// A browser, as it asks for pages.
    fn browser(&self, session: &str) -> Client {
        let cookie = format!("session={session}");
        let client = self.proxy.client().with("cookie", &cookie);
        client.with("origin", &self.proxy.url()).with("accept", "text/html,*/*;q=0.8")
    }

    /// Posts a form and follows to the end of its job: the address of its page, and what is there then.
    async fn post(&self, target: &str, reply: Reply) -> (String, Answer) {
        self.app.on(target.split('?').next().unwrap_or_default(), reply);
        let browser = self.browser("a");
        let accepted = browser.post(target, "item=1").await;
        assert_eq!(accepted.status, 303, "{}", accepted.text());
        let page = accepted.header("location");
        (page.clone(), self.end_of(&browser, &page).await)
    }

    async fn end_of(&self, browser: &Client, page: &str) -> Answer {
        eventually("the page of the job ends", || async {
            let answer = browser.get(page).await;
            let is_open = answer.status == 200 && answer.text().contains("<progress");
            (!is_open).then_some(answer)
        })
        .await
    }

    /// What a program reads of the job.
    async fn status(&self, page: &str) -> serde_json::Value {
        let id = page.rsplit("spillway-job=").next().expect("an id");
        let client = self.proxy.client().with("cookie", "session=a");
        client.get(&format!("/_spillway/jobs/{id}")).await.json()
    }
}

fn led(status: u16, location: &str) -> Reply {
    Reply::status(status).with("location", location)
}

#[tokio::test]
async fn a_form_that_redirects_has_succeeded_and_leads_where_the_application_says() {
    let world = world().await;
    for (code, location, target) in [
        (302, "/orders/7", "/orders/7"),
        (303, "7?new#top", "/7?new#top"),
        (301, "?step=2", "/orders?step=2"),
        (302, &format!("{}/orders/7", world.proxy.url()), "/orders/7"),
    ] {
        let (page, end) = world.post("/orders?step=1", led(code, location)).await;
        assert!(page.starts_with("/orders?step=1&spillway-job=v1."), "{page}");
        assert_eq!((end.status, end.header("location").as_str()), (303, target), "{location}");
        assert_eq!(world.status(&page).await["status"], "succeeded");
    }
    let (page, _) = world.post("/orders", led(302, "/orders/8")).await;
    assert_eq!(world.status(&page).await["result"], "/orders/8");
    assert_eq!(world.app.asked("/orders").last().expect("asked").target, "/orders");
}

#[tokio::test]
async fn a_login_page_is_no_success_nor_is_a_redirect_of_which_nobody_says_where_it_is() {
    let world = world().await;
    for (target, code, location) in [
        ("/orders", 302, "/login?next=/orders"),
        ("/orders", 303, "/login/"),
        ("/orders", 302, "https://sso.example/login"),
        ("/orders", 307, "/orders/7"),
        ("/orders", 308, "/orders/7"),
        ("/orders", 302, "javascript:alert(1)"),
        ("/orders", 302, "/\\evil.example"),
        ("/unsaid", 302, "/orders/7"),
    ] {
        let (page, end) = world.post(target, led(code, location)).await;
        let status = world.status(&page).await;
        assert_eq!(
            (status["status"].as_str(), status["reason"].as_str()),
            (Some("failed"), Some("redirected")),
            "{target} {code} {location}"
        );
        assert_eq!((end.status, end.header("location").as_str()), (200, ""));
        assert!(!end.text().contains("evil.example") && !end.text().contains("javascript:"));
    }
}

#[tokio::test]
async fn to_another_site_a_person_goes_who_has_read_which_one_it_is() {
    let world = world().await;
    for location in ["https://pay.example/x?a=1&b=\"2", "//pay.example/x?a=1&b=\"2"] {
        let (page, end) = world.post("/orders", led(303, location)).await;
        assert_eq!((end.status, end.header("location").as_str()), (200, ""));
        let text = end.text();
        assert!(
            text.contains("Weiter zu <a href=\"http") && text.contains(">pay.example</a>"),
            "{text}"
        );
        assert!(!text.contains("http-equiv=refresh") && !text.contains("<script"), "{text}");
        assert_eq!(world.status(&page).await["status"], "succeeded");
    }
}

#[tokio::test]
async fn a_form_that_is_shown_again_stands_under_its_own_address_and_posts_there() {
    let world = world().await;
    let form = "<form method=post><input name=item><button>Send</button></form>";
    let again = Reply::status(422).with("content-type", "text/html; charset=utf-8").body(form);
    let (page, end) = world.post("/orders?step=1", again).await;
    assert_eq!((end.status, end.text().as_str()), (422, form), "the application's own page");
    assert_eq!(end.header("x-content-type-options"), "nosniff");
    // A form without an action is posted to the address that the browser shows.
    world.app.on("/orders", led(303, "/orders/7"));
    let browser = world.browser("a");
    let next = browser.post(&page, "item=2").await.header("location");
    assert!(next.starts_with("/orders?step=1&spillway-job=v1.") && next != page, "{next}");
    assert_eq!(world.end_of(&browser, &next).await.header("location"), "/orders/7");
    let asked = world.app.asked("/orders");
    assert!(asked.iter().all(|asked| asked.target == "/orders?step=1"));
    assert_eq!(asked.last().expect("asked").body, "item=2");
}

#[tokio::test]
async fn a_download_ends_the_page_that_waited_for_it() {
    let world = world().await;
    let csv = Reply::ok("a,b").with("content-type", "text/csv").with("set-cookie", "x=1");
    let (page, end) = world.post("/orders", csv).await;
    let text = end.text();
    let id = page.rsplit('=').next().expect("an id");
    let result = format!("/_spillway/jobs/{id}/result");
    assert!(text.contains("<h1 id=title>Done</h1>"), "{text}");
    assert!(text.contains(&format!("content='0; url={result}'")), "{text}");
    let file = world.browser("a").get(&result).await;
    assert_eq!(
        (file.status, file.text().as_str(), file.header("set-cookie").as_str()),
        (200, "a,b", "")
    );
    assert_eq!(file.header("cache-control"), "no-store");
    assert_eq!(file.header("referrer-policy"), "same-origin");
    assert_eq!(
        file.header("content-security-policy"),
        "",
        "an owner's result is the application's"
    );
}

#[tokio::test]
async fn a_result_that_anybody_may_open_runs_nothing_in_the_users_name() {
    let world = world().await;
    let html = Reply::ok("<script>steal()</script>").with("content-type", "text/html");
    let html = html.with("content-security-policy", "default-src 'self'");
    let (page, end) = world.post("/open", html).await;
    assert_eq!(end.status, 200);
    assert_eq!(end.header("content-security-policy"), "default-src 'self', sandbox");
    let id = page.rsplit('=').next().expect("an id");
    let result = world.proxy.client().get(&format!("/_spillway/jobs/{id}/result")).await;
    assert_eq!(result.header("content-security-policy"), "default-src 'self', sandbox");
}

#[tokio::test]
async fn what_is_not_the_visitors_job_passes_to_the_application_as_it_came() {
    let world = world().await;
    world.app.on("/any", Reply::ok("the application's own"));
    let (page, _) =
        world.post("/orders", Reply::ok("secret").with("content-type", "text/html")).await;
    let id = page.rsplit('=').next().expect("an id");
    assert_eq!(world.browser("a").get(&format!("/any?spillway-job={id}")).await.text(), "secret");
    for (session, id) in [("b", id), ("none", id), ("a", "v1.made.up"), ("a", "")] {
        let target = format!("/any?x=1&spillway-job={id}");
        assert_eq!(world.browser(session).get(&target).await.text(), "the application's own");
        assert_eq!(world.app.asked("/any").last().expect("asked").target, target);
    }
    // Nor does the parameter fill the cache.
    world.app.on("/cached", Reply::ok("page"));
    for _ in 0..2 {
        let answer = world.proxy.client().get("/cached?spillway-job=x").await;
        assert!(answer.cache().contains("job-parameter"), "{}", answer.cache());
    }
    assert_eq!(world.app.count("/cached"), 2);
}

#[tokio::test]
async fn the_address_of_a_job_opens_nothing_that_the_request_itself_may_not() {
    let (app, jobs) = (App::start().await, folder());
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let browser = proxy.client().with("accept", "text/html");
    let page = browser.post("/open", "x").await.header("location");
    let query = page.split_once('?').expect("a query").1.to_owned();
    assert_eq!(browser.get(&page).await.status, 200);
    // A path that rules and application might read in two ways.
    let odd = browser.get(&format!("/orders/..%2f../open?{query}")).await;
    assert_ne!(odd.status, 200, "{}", odd.text());
    let signed = format!("[edge]\nrequire_signature = true\n{RULES}");
    let proxy = Spillway::proxy(&signed, &app).jobs("work", jobs.path());
    let keys = "k=a-secret-of-thirty-two-characters-or-more";
    let proxy = proxy.env("SPILLWAY_EDGE_KEYS", keys).start().await;
    let unsigned = proxy.client().with("accept", "text/html").get(&page).await;
    assert_eq!((unsigned.status, unsigned.problem().as_str()), (401, "signature-missing"));
}

#[tokio::test]
async fn a_site_behind_a_proxy_that_asks_by_another_host_is_known_by_the_visitors() {
    let (app, jobs) = (App::start().await, folder());
    app.on("/me", Reply::ok("").with("x-user-id", "alice"));
    app.on("/orders", led(303, "https://shop.example/orders/7"));
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path());
    let proxy = proxy.with("--trusted-proxy", "127.0.0.0/8").start().await;
    let rules = RULES.replacen("auth      = {", "forward_headers = [\"Cookie\"]\nauth      = {", 1);
    let rules = rules.replacen("replay_as = \"caller\"", "", 1);
    let _consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    let browser = proxy.client().with("accept", "text/html").with("cookie", "session=a");
    let browser = browser.with("host", "internal:8080").with("x-forwarded-host", "shop.example");
    let browser = browser.with("x-forwarded-proto", "https").with("origin", "https://shop.example");
    let page = browser.post("/orders", "x").await.header("location");
    let end = eventually("the page of the job ends", || async {
        let answer = browser.get(&page).await;
        (!answer.text().contains("<progress")).then_some(answer)
    })
    .await;
    assert_eq!((end.status, end.header("location").as_str()), (303, "/orders/7"));
    // The same where Spillway asks where the form comes from.
    proxy.change_rules(&rules);
    proxy.until_said("rules changed").await;
    assert_eq!(browser.post("/orders", "x").await.status, 303);
    let other = browser.with("x-forwarded-host", "other.example").post("/orders", "x").await;
    assert_ne!(other.status, 303);
}

#[tokio::test]
async fn a_browser_without_a_right_is_sent_to_log_in_whether_or_not_there_is_a_job() {
    let world = world().await;
    let (page, _) = world.post("/orders", Reply::ok("x")).await;
    let id = page.rsplit('=').next().expect("an id").to_owned();
    for id in [id.as_str(), "v1.made.up"] {
        for part in ["", "/result"] {
            let target = format!("/_spillway/jobs/{id}{part}");
            let answer = world.browser("none").get(&target).await;
            assert_eq!((answer.status, answer.header("location").as_str()), (303, "/login"));
            let program = world.proxy.client().get(&target).await;
            assert_eq!((program.status, program.problem().as_str()), (404, "job-unknown"));
        }
    }
}

#[tokio::test]
async fn a_message_for_the_next_page_is_given_once_and_to_the_browser_that_sent_the_form() {
    let world = world().await;
    world.app.answer("/me", |asked| match asked.header("cookie") {
        Some(cookie) if cookie.starts_with("session=a") => Reply::ok("").with("x-user-id", "alice"),
        _ => Reply::status(401),
    });
    let done = led(303, "/done").with("set-cookie", "messages=saved; Path=/; HttpOnly");
    let done = done.with("set-cookie", "session=a-from-then; Path=/");
    let (page, end) = world.post("/flash", done.clone()).await;
    assert_eq!(end.header("set-cookie"), "messages=saved; Path=/; HttpOnly");
    assert_eq!(world.browser("a").get(&page).await.header("set-cookie"), "", "only once");
    // A browser that has got another message since keeps that one.
    let before = world.browser("a; messages=old");
    world.app.on("/flash", done);
    let pages = [before.post("/flash", "x").await, before.post("/flash", "x").await];
    let pages = pages.map(|accepted| accepted.header("location"));
    let newer = world.end_of(&world.browser("a; messages=new"), &pages[0]).await;
    assert_eq!((newer.status, newer.header("set-cookie").as_str()), (303, ""));
    let same = world.end_of(&before, &pages[1]).await;
    assert_eq!(same.header("set-cookie"), "messages=saved; Path=/; HttpOnly");
}

#[tokio::test]
async fn a_cookie_that_says_who_the_caller_is_is_never_given_whatever_the_rule_names() {
    let world = world().await;
    // The application knows its users by the cookie that was taken for a message.
    world.app.answer("/me", |asked| match asked.header("cookie") {
        Some(cookie) if cookie.contains("messages=old") => Reply::ok("").with("x-user-id", "alice"),
        _ => Reply::status(401),
    });
    let browser = world.browser("x; messages=old");
    let done = led(303, "/done").with("set-cookie", "messages=logged-in-again");
    world.app.on("/flash", done);
    let page = browser.post("/flash", "x").await.header("location");
    let end = world.end_of(&browser, &page).await;
    assert_eq!((end.status, end.header("set-cookie").as_str()), (303, ""));
    world.consumer.until_said("flash-read-by-check").await;
}

#[tokio::test]
async fn a_login_that_comes_with_the_answer_is_not_given_either() {
    let world = world().await;
    world.app.answer("/me", |asked| match asked.header("cookie") {
        Some("session=a" | "messages=log-in-token") => Reply::ok("").with("x-user-id", "alice"),
        _ => Reply::status(401),
    });
    let (_, end) =
        world.post("/flash", led(303, "/done").with("set-cookie", "messages=log-in-token")).await;
    assert_eq!((end.status, end.header("set-cookie").as_str()), (303, ""));
    world.consumer.until_said("flash-read-by-check").await;
}

#[tokio::test]
async fn a_form_of_somebody_who_is_not_logged_in_leads_to_the_login_page() {
    let world = world().await;
    let stranger = world.browser("none");
    let answer = stranger.post("/orders", "item=1").await;
    assert_eq!((answer.status, answer.header("location").as_str()), (303, "/login"));
    let unsaid = stranger.post("/unsaid", "item=1").await;
    assert_eq!((unsaid.status, unsaid.problem().as_str()), (401, "offload-unauthorized"));
    let counted = r#"spillway_problems_total{problem="offload-unauthorized",route="orders"}"#;
    assert_eq!(world.proxy.metric(counted).await, 1.0);
}

#[tokio::test]
async fn the_page_speaks_the_language_of_the_rules_and_nothing_in_it_is_code() {
    let (app, jobs) = (App::start().await, folder());
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let browser = proxy.client().with("accept", "text/html");
    let page = browser.post("/open", "x").await.header("location");
    let text = browser.get(&page).await.text();
    assert!(text.contains("<html lang=\"de\">"), "{text}");
    assert!(text.contains("<h1 id=title>Bitte &lt;warten&gt;</h1>"), "{text}");
    assert!(text.contains("Wir arbeiten daran."), "{text}");
    assert!(text.contains("<link rel=stylesheet href=\"/static/jobs.css\">"), "{text}");
    assert!(!text.contains("Bitte <"), "{text}");
    let json = proxy.client().with("accept", "application/json, text/html;q=0");
    assert_eq!(json.post("/open", "x").await.status, 202);
}
