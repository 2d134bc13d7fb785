//! Messages of other people's producers: whose the job is, by which id it is known, where its result lies.

use support::{
    App, Client, Cloud, Emulator, Reply, SECRET, Spillway, eventually, folder, run_with,
};

const RULES: &str = r#"
    [[route]]
    name    = "reports"
    match   = { path = "/reports", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = { check = "/me", identity = ["cookie:session", "check:X-User-Id"], login = "none" } }

    [queue.work]
    path       = "/reports"
    owner      = "check:X-User-Id"
    user       = "/user_id"
    visibility = "5s"
    notify     = { app = "/hooks/ready" }
"#;

/// A queue that nobody owns.
const NOBODYS: &str = r#"
    [queue.work]
    path       = "/reports"
    visibility = "5s"
"#;

/// An application whose cookies say who somebody is.
async fn app() -> App {
    let app = App::start().await;
    app.answer("/me", |asked| match asked.header("cookie") {
        Some(cookie) => Reply::status(204).with("x-user-id", &cookie.replace("session=", "")),
        None => Reply::status(401),
    });
    app.answer("/reports", |asked| Reply::ok([b"report of ".as_slice(), &asked.body].concat()));
    app.on("/hooks/ready", Reply::status(204));
    app
}

async fn cloud() -> Cloud {
    let cloud = Cloud::start().await;
    cloud.bucket("results");
    cloud.queue("work", &[("VisibilityTimeout", "5")]).await;
    cloud
}

fn browser(proxy: &Spillway, user: &str) -> Client {
    proxy.client().with("cookie", &format!("session={user}"))
}

/// What the first notification says.
async fn told(app: &App) -> serde_json::Value {
    let told = app.until_asked("/hooks/ready", 1).await.remove(0);
    let event: serde_json::Value = serde_json::from_slice(&told.body).expect("JSON");
    event["data"].clone()
}

#[tokio::test]
async fn whom_a_message_names_reads_status_and_result_and_nobody_else_does() {
    let (app, cloud) = (app().await, cloud().await);
    let proxy = Spillway::proxy(RULES, &app).cloud("work", &cloud).start().await;
    let _consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    cloud.send("work", r#"{"user_id": "alice"}"#, &[("job-id", "order-17")]).await;
    let data = told(&app).await;
    assert_eq!((data["user"].as_str(), data["own_id"].as_str()), (Some("alice"), Some("order-17")));
    let asked = app.asked("/reports").remove(0);
    assert_eq!(asked.header("x-user-id"), Some("alice"));
    assert_eq!(asked.header("x-job-own-id"), Some("order-17"));
    assert_eq!(asked.header("x-job-id"), data["job"].as_str());
    let location = data["location"].as_str().expect("an address");
    let alice = browser(&proxy, "alice");
    let status = alice.get(location).await.json();
    assert_eq!(
        (status["status"].as_str(), status["own_id"].as_str()),
        (Some("succeeded"), Some("order-17"))
    );
    let result = alice.get(data["result"].as_str().expect("an address")).await;
    assert_eq!(result.text(), r#"report of {"user_id": "alice"}"#);
    for other in [browser(&proxy, "bob"), proxy.client()] {
        assert_eq!(other.get(location).await.problem(), "job-unknown");
    }
    let checks = app.count("/me");
    let made_up = location.replace("/x1.", "/x1.0");
    assert_eq!(alice.get(&made_up).await.problem(), "job-unknown");
    assert_eq!(app.count("/me"), checks, "an id that was not made here costs nothing");
}

#[tokio::test]
async fn one_job_id_for_two_users_shows_neither_the_others_result() {
    let (app, cloud) = (app().await, cloud().await);
    let proxy = Spillway::proxy(RULES, &app).cloud("work", &cloud).start().await;
    let consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    cloud.send("work", r#"{"user_id": "alice"}"#, &[("job-id", "daily")]).await;
    let location = told(&app).await["location"].as_str().expect("an address").to_owned();
    for other in [r#"{"user_id": "bob"}"#, "{}"] {
        cloud.send("work", other, &[("job-id", "daily")]).await;
    }
    eventually("both are left for the dead letters", || async {
        let left =
            r#"spillway_jobs_total{outcome="undecodable",queue="work",reason="undecodable"}"#;
        (consumer.metric(left).await >= 2.0).then_some(())
    })
    .await;
    assert_eq!(app.count("/reports"), 1);
    let result = browser(&proxy, "alice").get(&format!("{location}/result")).await;
    assert_eq!(result.text(), r#"report of {"user_id": "alice"}"#);
    assert_eq!(browser(&proxy, "bob").get(&location).await.status, 404);
}

#[tokio::test]
async fn a_plain_message_does_not_pass_for_a_job_of_a_client() {
    let (app, cloud) = (app().await, cloud().await);
    let consumer = Spillway::consume(NOBODYS, &app).cloud("work", &cloud).start().await;
    for id in ["v1.1.2.3.4", "a1.1.2.3.4", "k1.1.2", "x1.1.2"] {
        cloud.send("work", "{}", &[("first-id", id)]).await;
    }
    eventually("all are left for the dead letters", || async {
        let left =
            r#"spillway_jobs_total{outcome="undecodable",queue="work",reason="undecodable"}"#;
        (consumer.metric(left).await >= 4.0).then_some(())
    })
    .await;
    assert_eq!(app.count("/reports"), 0);
}

#[tokio::test]
async fn a_message_without_an_id_of_its_own_is_shown_to_its_owner_by_the_queues() {
    let (app, cloud) = (app().await, cloud().await);
    let proxy = Spillway::proxy(RULES, &app).cloud("work", &cloud).start().await;
    let _consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    cloud.send("work", r#"{"user_id": 7}"#, &[]).await;
    let data = told(&app).await;
    let location = data["location"].as_str().expect("an address");
    assert_eq!(browser(&proxy, "7").get(location).await.json()["status"], "succeeded");
    assert!(data["own_id"].as_str().is_some_and(|id| !id.starts_with("x1.")), "the MessageId");
}

#[tokio::test]
async fn a_message_that_names_nobody_is_run_and_its_notification_leads_nowhere() {
    let (app, cloud) = (app().await, cloud().await);
    let _consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    cloud.send("work", r#"{"for": "alice"}"#, &[]).await;
    let data = told(&app).await;
    assert_eq!(
        (&data["user"], &data["location"], &data["result"]),
        (&().into(), &().into(), &().into())
    );
}

#[tokio::test]
async fn a_message_that_is_sent_twice_under_one_id_is_one_job() {
    let (app, cloud) = (app().await, cloud().await);
    let consumer = Spillway::consume(NOBODYS, &app).cloud("work", &cloud).start().await;
    for _ in 0..2 {
        cloud.send("work", "{}", &[("job-id", "order-17"), ("trace", "of their own")]).await;
    }
    let over = r#"spillway_jobs_total{outcome="duplicate",queue="work",reason="lease-taken"}"#;
    let finished = r#""outcome":"succeeded""#;
    eventually("both messages are done with", || async {
        let times = consumer.said().matches(finished).count();
        (times == 2 || times == 1 && consumer.metric(over).await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(app.count("/reports"), 1);
}

#[tokio::test]
async fn a_message_with_some_of_our_attributes_is_left_and_the_log_names_the_missing_ones() {
    let (app, cloud) = (app().await, cloud().await);
    let consumer = Spillway::consume(NOBODYS, &app).cloud("work", &cloud).start().await;
    cloud.send("work", "{}", &[("job-id", "order-17"), ("path", "/reports")]).await;
    consumer.until_said("the attribute path of a job, but not method, headers").await;
    assert_eq!(app.count("/reports"), 0);
}

#[tokio::test]
async fn a_message_that_failed_is_run_again_under_the_id_that_it_has() {
    let (app, cloud) = (app().await, cloud().await);
    app.on("/reports", Reply::status(404));
    let _consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    cloud.send("work", r#"{"user_id": "alice"}"#, &[]).await;
    let data = told(&app).await;
    assert_eq!((&data["status"], &data["user"]), (&"failed".into(), &"alice".into()));
    let id = data["job"].as_str().expect("an id");
    app.on("/reports", Reply::ok("done"));
    let folder = folder();
    let rules = folder.path().join("routes.toml");
    std::fs::write(&rules, RULES).expect("a rules file");
    let (rules, queue) =
        (rules.display().to_string(), format!("work=sqs:{}", cloud.queue_url("work")));
    let retry = ["jobs", "retry", id, "--routes", &rules, "--queue", &queue, "--results"];
    let retry = [&retry[..], &["s3://results/jobs"]].concat();
    let mut environment = cloud.environment();
    environment.push(("SPILLWAY_SECRET".to_owned(), SECRET.to_owned()));
    // Its consumer may still be telling.
    eventually("it is queued again", || async {
        (run_with(&retry, &environment).await.code == Some(0)).then_some(())
    })
    .await;
    let again = app.until_asked("/reports", 2).await.remove(1);
    assert_eq!(again.header("x-job-id"), Some(id));
}

#[tokio::test]
async fn a_plain_producer_reads_a_result_of_any_size_at_the_key_that_is_documented() {
    let (emulator, app) = (Emulator::start().await, App::start().await);
    emulator.boto3("s3.create_bucket(Bucket='results', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})").await;
    let queue = emulator.boto3("print(sqs.create_queue(QueueName='work')['QueueUrl'])").await;
    app.answer("/reports", |_| Reply::ok(vec![b'x'; 1024 * 1024 + 1]));
    let consumer = Spillway::consume(NOBODYS, &app)
        .with("--queue", &format!("work=sqs:{queue}"))
        .with("--results", "s3://results/jobs");
    let environment = emulator.environment();
    let consumer = environment.iter().fold(consumer, |setup, (name, value)| setup.env(name, value));
    let _consumer = consumer.start().await;
    let send =
        format!("print(sqs.send_message(QueueUrl='{queue}', MessageBody='{{}}')['MessageId'])");
    let id = emulator.boto3(&send).await;
    let wait = format!(
        "s3.get_waiter('object_exists').wait(Bucket='results', Key='jobs/outcome/{id}', WaiterConfig={{'Delay': 1}})\nprint(s3.head_object(Bucket='results', Key='jobs/results/{id}')['ContentLength'])"
    );
    assert_eq!(emulator.boto3(&wait).await, "1048577");
}
