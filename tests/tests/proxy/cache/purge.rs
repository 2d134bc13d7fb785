//! `spillway purge` and `POST /purge`: by URL, by tag, hard and soft, on several sidecars and at the
//! edge.

use serde_json::{Value, json};
use support::{App, Client, Ended, Gate, Reply, Spillway, folder, program, run};
use tokio::process::Command;

const RULES: &str = r#"
    [[route]]
    name  = "items"
    match = { path = "/items/{id}" }
    cache = { sidecar = "10m", edge = "1m", query = ["page"], headers = ["accept-language"], stale_while_revalidate = "1m", tags = ["item-{id}"] }

    [[route]]
    name  = "rest"
    match = { path = "/{*rest}" }
    cache = { sidecar = "from-origin" }
"#;

const TOKEN: &str = "a token for the admin port";

async fn sidecar(app: &App) -> Spillway {
    Spillway::proxy(RULES, app).with("--admin-token", TOKEN).start().await
}

async fn is_hit(client: &Client, target: &str) -> bool {
    client.get(target).await.cache().starts_with("hit")
}

async fn keep(client: &Client, target: &str) {
    client.get(target).await;
    let cache = client.get(target).await.cache();
    assert!(cache.starts_with("hit"), "{target} is not kept: {cache}");
}

async fn post(sidecar: &Spillway, order: &Value) -> (u16, Value) {
    let admin = sidecar.admin().with("content-type", "application/json");
    let answer = admin.with("x-spillway-admin", "1").post("/purge", order.to_string()).await;
    (answer.status, serde_json::from_str(&answer.text()).unwrap_or_default())
}

fn url(sidecar: &Spillway, target: &str) -> String {
    format!("{}{target}", sidecar.url())
}

#[tokio::test]
async fn a_url_is_purged_with_all_its_variants_and_nothing_else() {
    let app = App::start().await;
    app.on("/items/1", Reply::ok("one"));
    app.on("/items/2", Reply::ok("two"));
    let sidecar = sidecar(&app).await;
    let (english, german) = (
        sidecar.client().with("accept-language", "en"),
        sidecar.client().with("accept-language", "de"),
    );
    keep(&english, "/items/1?page=1").await;
    keep(&german, "/items/1?page=1").await;
    keep(&english, "/items/1?page=2").await;
    keep(&english, "/items/2?page=1").await;
    // A parameter that the route leaves away makes no other URL.
    let order = json!({ "urls": [url(&sidecar, "/items/1?utm=x&page=1")] });
    assert_eq!(post(&sidecar, &order).await, (200, json!({ "purged": 2 })));
    assert!(!is_hit(&english, "/items/1?page=1").await);
    assert!(!is_hit(&german, "/items/1?page=1").await);
    assert!(is_hit(&english, "/items/1?page=2").await);
    assert!(is_hit(&english, "/items/2?page=1").await);
    assert!(sidecar.metric(r#"spillway_cache_purged_total{how="hard"}"#).await >= 2.0);
}

#[tokio::test]
async fn tags_are_the_routes_own_and_those_of_the_answer() {
    let app = App::start().await;
    app.on("/items/1", Reply::ok("one"));
    let fresh = |name: &str, tags: &str| {
        Reply::ok("").with("cache-control", "max-age=600").with(name, tags)
    };
    app.on("/a", fresh("cache-tag", "news, sports"));
    app.on("/b", fresh("surrogate-key", "news stock"));
    app.on("/c", fresh("surrogate-key", "stock"));
    let sidecar = sidecar(&app).await;
    let client = sidecar.client();
    for target in ["/items/1", "/a", "/b", "/c"] {
        keep(&client, target).await;
    }
    let tagged = |tag: &str| json!({ "tags": [tag] });
    assert_eq!(post(&sidecar, &tagged("item-1")).await.1["purged"], 1);
    assert_eq!(post(&sidecar, &tagged("news")).await.1["purged"], 2);
    assert_eq!(post(&sidecar, &tagged("nobody's")).await.1["purged"], 0);
    assert!(is_hit(&client, "/c").await);
    assert_eq!(post(&sidecar, &json!({ "all": true })).await.1["purged"], 1);
    assert!(!is_hit(&client, "/c").await);
}

#[tokio::test]
async fn a_soft_purge_serves_the_old_answer_while_the_new_one_is_fetched() {
    let app = App::start().await;
    app.on("/items/1", Reply::ok("old"));
    let sidecar = sidecar(&app).await;
    let client = sidecar.client();
    keep(&client, "/items/1").await;
    app.on("/items/1", Reply::ok("new"));
    let order = json!({ "tags": ["item-1"], "soft": true });
    assert_eq!(post(&sidecar, &order).await.1["purged"], 1);
    let stale = client.get("/items/1").await;
    assert_eq!(stale.text(), "old");
    assert!(stale.cache().contains("detail=revalidating"), "{}", stale.cache());
    support::eventually("the new answer is there", || async {
        (client.get("/items/1").await.text() == "new").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_purge_during_a_fetch_wins_over_it_and_not_over_anothers() {
    let app = App::start().await;
    let gate = Gate::default();
    app.on("/items/1", Reply::ok("old").behind(&gate));
    app.on("/items/2", Reply::ok("two").behind(&gate));
    let sidecar = sidecar(&app).await;
    let client = sidecar.client();
    let fetch = |target: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.get(target).await })
    };
    let (purged, other) = (fetch("/items/1"), fetch("/items/2"));
    app.until_asked("/items/1", 1).await;
    app.until_asked("/items/2", 1).await;
    post(&sidecar, &json!({ "urls": [url(&sidecar, "/items/1")] })).await;
    gate.open();
    let purged = purged.await.expect("an answer");
    assert!(purged.cache().contains("detail=superseded"), "{}", purged.cache());
    assert!(other.await.expect("an answer").cache().contains("stored"));
    app.on("/items/1", Reply::ok("new"));
    assert_eq!(client.get("/items/1").await.text(), "new");
    assert!(is_hit(&client, "/items/2").await);
}

#[tokio::test]
async fn an_order_that_says_nothing_or_too_much_is_refused() {
    let app = App::start().await;
    let sidecar = sidecar(&app).await;
    let many: Vec<String> = (0..31).map(|number| number.to_string()).collect();
    for order in [
        json!({}),
        json!({ "url": "https://shop.example/" }),
        json!({ "urls": ["/no-host"] }),
        json!({ "urls": ["https://shop.example/a/%2e%2e/b"] }),
        json!({ "tags": many }),
    ] {
        assert_eq!(post(&sidecar, &order).await.0, 400, "{order}");
    }
    assert_eq!(sidecar.admin().get("/purge").await.status, 405);
}

/// `spillway purge …`
async fn purge(arguments: &[&str]) -> Ended {
    run(&[&["purge"], arguments].concat()).await
}

#[tokio::test]
async fn the_command_purges_every_sidecar_and_says_which_it_could_not() {
    let app = App::start().await;
    app.on("/items/1", Reply::ok("one"));
    let (one, other) = (sidecar(&app).await, sidecar(&app).await);
    keep(&one.client(), "/items/1").await;
    keep(&other.client(), "/items/1").await;
    let host = |sidecar: &Spillway| sidecar.admin_address().to_owned();
    let both = format!("{},{}", host(&one), host(&other));
    let tag = ["--tag", "item-1", "--admin-token", TOKEN, "--sidecars"];
    let done = purge(&[&tag[..], &[&both]].concat()).await;
    assert_eq!((done.code, done.output.matches("{\"purged\":1}").count()), (Some(0), 2));
    assert!(!is_hit(&one.client(), "/items/1").await && !is_hit(&other.client(), "/items/1").await);
    let with_a_dead_one = format!("127.0.0.1:1,{both}");
    let failed = purge(&[&tag[..], &[&with_a_dead_one]].concat()).await;
    assert_eq!(failed.code, Some(1));
    assert!(failed.output.contains("127.0.0.1:1: FAILED"), "{}", failed.output);
    assert_eq!(failed.output.matches("\"purged\"").count(), 2, "the others are purged");
}

/// `spillway purge …` where a name has these addresses: in a mount namespace of its own, with another
/// /etc/hosts. Needs root, and `unshare` of util-linux.
async fn purge_where(name: &str, addresses: &[&str], arguments: &[&str]) -> Ended {
    let folder = folder();
    let hosts = folder.path().join("hosts");
    let lines: Vec<_> = addresses.iter().map(|address| format!("{address} {name}\n")).collect();
    std::fs::write(&hosts, lines.concat()).expect("a file of hosts");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""])
        .arg(&hosts)
        .arg(program())
        .arg("purge")
        .args(arguments);
    command.output().await.expect("util-linux is installed").into()
}

#[tokio::test]
async fn every_address_of_a_name_is_purged_and_one_that_is_down_is_named() {
    const ADDRESSES: [&str; 3] = ["127.0.0.31", "127.0.0.32", "127.0.0.33"];
    let app = App::start().await;
    app.on("/items/1", Reply::ok("one"));
    // All pods of a Service have the same port.
    let (mut pods, mut port) = (Vec::new(), "0".to_owned());
    for address in ADDRESSES {
        let admin = format!("{address}:{port}");
        let pod = Spillway::proxy(RULES, &app).with("--admin-token", TOKEN).with("--admin", &admin);
        let pod = pod.start().await;
        port = pod.admin_address().rsplit(':').next().expect("a port").to_owned();
        keep(&pod.client(), "/items/1").await;
        pods.push(pod);
    }
    let sidecars = format!("pods.shop.example:{port}");
    let tag = ["--tag", "item-1", "--admin-token", TOKEN, "--sidecars", &sidecars];
    let done = purge_where("pods.shop.example", &ADDRESSES, &tag).await;
    assert_eq!(done.code, Some(0), "{}{}", done.output, done.errors);
    for (address, pod) in ADDRESSES.iter().zip(&pods) {
        assert!(done.output.contains(&format!("{address}:{port}: {{\"purged\":1}}")));
        assert!(!is_hit(&pod.client(), "/items/1").await, "{address}");
    }
    pods.remove(1).kill().await;
    let failed = purge_where("pods.shop.example", &ADDRESSES, &tag).await;
    assert_eq!(failed.code, Some(1), "{}{}", failed.output, failed.errors);
    assert!(failed.output.contains(&format!("127.0.0.32:{port}: FAILED")), "{}", failed.output);
    assert_eq!(failed.output.matches("{\"purged\":1}").count(), 2, "the others are purged");
    assert!(failed.errors.contains("1 not purged: call this again"), "{}", failed.errors);
    for pod in &pods {
        assert!(!is_hit(&pod.client(), "/items/1").await);
    }
}

#[tokio::test]
async fn the_edge_is_purged_by_tags_one_of_which_is_the_urls() {
    let cloudflare = App::start().await;
    cloudflare.on("/zones/z1/purge_cache", Reply::ok(r#"{"success":true}"#));
    let folder = folder();
    let routes = folder.path().join("routes.toml");
    std::fs::write(&routes, RULES).expect("a rules file");
    let routes = routes.display().to_string();
    let app = App::start().await;
    let sidecar = sidecar(&app).await;
    let arguments = [
        "--url",
        "https://shop.example/items/1?page=1&utm=x",
        "--tag",
        "news",
        "--sidecars",
        sidecar.admin_address(),
        "--admin-token",
        TOKEN,
        "--zone",
        "z1",
        "--edge-token",
        "t0",
        "--edge-api",
        &cloudflare.url(),
        "--routes",
        &routes,
    ];
    let done = purge(&arguments).await;
    assert_eq!(done.code, Some(0), "{}{}", done.output, done.errors);
    let asked = cloudflare.asked("/zones/z1/purge_cache").remove(0);
    assert_eq!(asked.header("authorization"), Some("Bearer t0"));
    let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
    let tags: Vec<&str> =
        body["tags"].as_array().expect("tags").iter().filter_map(Value::as_str).collect();
    assert!(tags.contains(&"news"), "{tags:?}");
    let of_url = tags.iter().filter(|tag| tag.starts_with("spillway-url-")).count();
    assert_eq!(of_url, 2, "as it is, and without what the route leaves away");
    let soft = purge(&[&arguments[..], &["--soft"]].concat()).await;
    assert!(soft.output.contains("the edge knows no soft purge"), "{}", soft.output);
}
