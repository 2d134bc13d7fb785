//! `--fallback`: what a sidecar does that never had rules it can read.

use support::{App, Reply, Spillway, eventually, folder};

const CACHED: &str = r#"
    [[route]]
    name  = "page"
    match = { path = "/page" }
    cache = { sidecar = "1m" }
"#;

/// A file that nobody finished.
const CUT_OFF: &str = "[[route]]\nname = \"page\"\nmatch = { path = \"/pa";

async fn page() -> App {
    let app = App::start().await;
    app.on("/page", Reply::ok("page"));
    app
}

async fn takes(sidecar: &Spillway, rules: &str) {
    sidecar.change_rules(rules);
    eventually("the rules are taken", || async {
        let answer = sidecar.client().get("/page").await;
        answer.cache().starts_with("hit").then_some(())
    })
    .await;
}

/// Nothing reaches the application, and whoever looks is told why.
async fn refuses_all(sidecar: &Spillway, app: &App, why: &str) {
    for target in ["/page", "/%2e%2e/page", "/_spillway/jobs/x", "/_spillway/problems/no-route"] {
        let answer = sidecar.client().get(target).await;
        assert_eq!((answer.status, answer.problem().as_str()), (503, "rules-unreadable"));
        assert_eq!(answer.header("retry-after"), "2");
    }
    assert_eq!(app.count("/page"), 0);
    let ready = sidecar.admin().get("/ready").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains(why), "{why:?} is not in {}", ready.text());
    for probe in ["/live", "/startup"] {
        assert_eq!(sidecar.admin().get(probe).await.status, 200, "{probe}");
    }
    assert_eq!(sidecar.metric("spillway_rules_fallback{mode=\"refuse\"}").await, 1.0);
}

#[tokio::test]
async fn without_a_file_all_passes_until_there_is_one_and_never_again() {
    let app = page().await;
    let setup = Spillway::proxy("", &app).without_rules().with("--fallback", "auto");
    let sidecar = setup.start().await;
    let client = sidecar.client();
    for _ in 0..2 {
        let answer = client.get("/page").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "page"));
    }
    assert_eq!(app.count("/page"), 2, "nothing is cached");
    let own = client.get("/_spillway/jobs/x").await;
    assert_eq!((own.status, own.problem().as_str()), (503, "rules-unreadable"));
    assert_eq!(app.count("/_spillway/jobs/x"), 0);
    assert_eq!(sidecar.admin().get("/ready").await.status, 200);
    assert_eq!(sidecar.metric("spillway_rules_fallback{mode=\"pass\"}").await, 1.0);
    assert_eq!(sidecar.metric("spillway_rules_info{config_hash=\"none\"}").await, 1.0);

    takes(&sidecar, CACHED).await;
    assert_eq!(sidecar.metric("spillway_rules_fallback{mode=\"pass\"}").await, 0.0);
    sidecar.change_rules(CUT_OFF);
    sidecar.until_said("reload refused").await;
    let answer = client.get("/page").await;
    assert!(answer.cache().starts_with("hit"), "the old rules go on");
    assert_eq!(sidecar.metric("spillway_rules_fallback{mode=\"pass\"}").await, 0.0);
}

#[tokio::test]
async fn a_word_that_protects_refuses_all_also_in_a_file_that_is_cut_off() {
    for word in ["require_signature", "authorize", "refuse", "shard", "notify", "rate_limit"] {
        let app = page().await;
        let rules = format!("# {word}\n{CUT_OFF}");
        let sidecar = Spillway::proxy(&rules, &app).with("--fallback", "auto").start().await;
        refuses_all(&sidecar, &app, "routes.toml:4:").await;
        takes(&sidecar, CACHED).await;
        assert_eq!(sidecar.admin().get("/ready").await.status, 200);
    }
    let app = page().await;
    let sidecar = Spillway::proxy(CUT_OFF, &app).with("--fallback", "auto").start().await;
    assert_eq!(sidecar.client().get("/page").await.status, 200, "nothing says that it protects");
}

#[tokio::test]
async fn a_process_that_something_is_bound_to_refuses_all_without_a_file() {
    let jobs = folder();
    type Bind<'a> = &'a dyn Fn(support::Setup) -> support::Setup;
    let bindings: [Bind<'_>; 4] = [
        &|setup| setup.with("--shard", "a"),
        &|setup| setup.with("--upstream", "b=http://127.0.0.1:1"),
        &|setup| setup.jobs("work", jobs.path()),
        &|setup| setup.env("SPILLWAY_EDGE_KEYS", &format!("edge={}", "k".repeat(32))),
    ];
    for bind in bindings {
        let app = page().await;
        let setup = Spillway::proxy("", &app).without_rules().with("--fallback", "auto");
        let sidecar = bind(setup).start().await;
        refuses_all(&sidecar, &app, "No such file").await;
    }
}

#[tokio::test]
async fn a_name_that_nothing_is_bound_to_is_a_fault_of_the_file() {
    let unbound = format!("{CACHED}upstream = \"billing\"\n");
    let app = page().await;
    // The pod's own argument comes after the injected one.
    let setup = Spillway::proxy(&unbound, &app).with("--fallback", "auto");
    let sidecar = setup.with("--fallback", "refuse").start().await;
    refuses_all(&sidecar, &app, "upstream `billing`").await;
    takes(&sidecar, CACHED).await;
    let sidecar = Spillway::proxy(&unbound, &app).with("--fallback", "pass").start().await;
    assert_eq!(sidecar.client().get("/page").await.status, 200);
}

#[tokio::test]
async fn while_there_are_no_rules_a_change_of_the_file_is_judged_anew() {
    let app = page().await;
    let sidecar = Spillway::proxy(CUT_OFF, &app).with("--fallback", "auto").start().await;
    assert_eq!(sidecar.client().get("/page").await.status, 200);
    sidecar.change_rules("default = \"refuse");
    eventually("it refuses", || async {
        (sidecar.client().get("/page").await.status == 503).then_some(())
    })
    .await;
}

#[tokio::test]
async fn settings_and_a_process_without_fallback_end_with_the_code_for_configuration() {
    let app = page().await;
    let ended = Spillway::proxy(CUT_OFF, &app).refused().await;
    assert_eq!(ended.code, Some(78));
    let ended = Spillway::proxy(CACHED, &app)
        .with("--fallback", "pass")
        .with("--upstream", "b=nonsense")
        .refused()
        .await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.errors.contains("b=nonsense"), "{}", ended.errors);
}
