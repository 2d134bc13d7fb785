//! The same jobs over Amazon SQS and S3, with plain boto3 on the other side.

use support::{App, Client, Emulator, Reply, Spillway, eventually};

const RULES: &str = r#"
    [[route]]
    name    = "reports"
    match   = { path = "/reports", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none" }

    [queue.work]
    path       = "/reports"
    user       = { header = "X-User-Id", from = "body:/user_id" }
    visibility = "5s"
"#;

/// A queue and a bucket; the queue's URL.
async fn provision(emulator: &Emulator) -> String {
    emulator.boto3("s3.create_bucket(Bucket='results', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})").await;
    emulator.boto3("print(sqs.create_queue(QueueName='work')['QueueUrl'])").await
}

/// Both halves over the emulator.
macro_rules! spillway {
    ($command:ident, $app:expr, $emulator:expr, $queue:expr) => {
        spillway!($command, RULES, $app, $emulator, $queue)
    };
    ($command:ident, $rules:expr, $app:expr, $emulator:expr, $queue:expr) => {{
        let setup = Spillway::$command($rules, $app)
            .with("--queue", &format!("work=sqs:{}", $queue))
            .with("--results", "s3://results/jobs");
        let setup = $emulator
            .environment()
            .iter()
            .fold(setup, |setup, (name, value)| setup.env(name, value));
        setup.start().await
    }};
}

#[tokio::test]
async fn a_job_goes_through_sqs_and_its_result_lies_in_s3() {
    let (emulator, app) = (Emulator::start().await, App::start().await);
    let queue = provision(&emulator).await;
    app.answer("/reports", |asked| Reply::ok([b"report of ".as_slice(), &asked.body].concat()));
    let proxy = spillway!(proxy, &app, emulator, queue);
    let client = proxy.client();
    let accepted = client.post("/reports", "May").await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let location = accepted.header("location");
    let _consumer = spillway!(consume, &app, emulator, queue);
    let status = client.with("prefer", "wait=20").get(&location).await.json();
    assert_eq!(status["status"], "succeeded");
    assert_eq!(client.get(&format!("{location}/result")).await.text(), "report of May");
    let id = location.rsplit('/').next().unwrap_or_default().to_owned();
    let object = format!(
        "print(s3.get_object(Bucket='results', Key='jobs/results/{id}')['Body'].read().decode())"
    );
    assert_eq!(emulator.boto3(&object).await, "report of May");
    let left = format!(
        "print(sqs.get_queue_attributes(QueueUrl='{queue}', AttributeNames=['All'])['Attributes']['ApproximateNumberOfMessages'])"
    );
    assert_eq!(emulator.boto3(&left).await, "0");
}

#[tokio::test]
async fn a_result_is_fetched_from_s3_itself_where_the_rules_say_so() {
    let (emulator, app) = (Emulator::start().await, App::start().await);
    let queue = provision(&emulator).await;
    app.on("/reports", Reply::ok("a,b\n1,2\n").with("content-type", "text/csv"));
    let redirecting = RULES.replace("[queue.work]", "[queue.work]\nresult = \"redirect\"");
    let proxy = spillway!(proxy, &redirecting, &app, emulator, queue);
    let _consumer = spillway!(consume, &redirecting, &app, emulator, queue);
    let client = proxy.client();
    let location = client.post("/reports", "May").await.header("location");
    assert_eq!(client.with("prefer", "wait=25").get(&location).await.json()["status"], "succeeded");
    let redirect = client.get(&format!("{location}/result")).await;
    assert_eq!((redirect.status, redirect.header("cache-control").as_str()), (303, "no-store"));
    let address = redirect.header("location");
    assert!(
        address.contains("X-Amz-Expires=300")
            && address.contains("response-content-type=text%2Fcsv"),
        "{address}"
    );
    let target = address.strip_prefix(&emulator.url).expect("an address of the store");
    let csv = Client::new(emulator.url.clone()).get(target).await;
    assert_eq!((csv.status, csv.text().as_str()), (200, "a,b\n1,2\n"));
    assert_eq!(csv.header("content-type"), "text/csv");
}

#[tokio::test]
async fn a_plain_consumer_reads_our_messages_as_the_body_that_was_posted() {
    let (emulator, app) = (Emulator::start().await, App::start().await);
    let queue = provision(&emulator).await;
    let proxy = spillway!(proxy, &app, emulator, queue);
    let posted = r#"{"user_id": 7, "report_params": {"month": "May"}}"#;
    assert_eq!(proxy.client().post("/reports", posted).await.status, 202);
    let plain = format!(
        "m = sqs.receive_message(QueueUrl='{queue}', WaitTimeSeconds=5)['Messages'][0]\nprint(json.loads(m['Body'])['report_params']['month'])"
    );
    assert_eq!(emulator.boto3(&plain).await, "May");
}

#[tokio::test]
async fn a_plain_producers_message_is_run_by_our_consumer() {
    let (emulator, app) = (Emulator::start().await, App::start().await);
    let queue = provision(&emulator).await;
    app.on("/reports", Reply::ok("done"));
    let _consumer = spillway!(consume, &app, emulator, queue);
    let send = format!(
        "print(sqs.send_message(QueueUrl='{queue}', MessageBody=json.dumps({{'user_id': 7, 'report_params': {{}}}}))['MessageId'])"
    );
    let id = emulator.boto3(&send).await;
    let asked = app.until_asked("/reports", 1).await.remove(0);
    assert_eq!(asked.header("x-job-id"), Some(id.as_str()));
    assert_eq!(asked.header("x-user-id"), Some("7"));
    let json: serde_json::Value = serde_json::from_slice(&asked.body).expect("JSON");
    assert_eq!(json["user_id"], 7);
    let outcome = format!(
        "print(s3.get_object(Bucket='results', Key='jobs/outcome/{id}')['Body'].read().decode())"
    );
    let listed = format!(
        "print(s3.list_objects_v2(Bucket='results', Prefix='jobs/outcome/{id}')['KeyCount'])"
    );
    eventually("the outcome is stored", || async {
        (emulator.boto3(&listed).await == "1").then_some(())
    })
    .await;
    assert!(emulator.boto3(&outcome).await.contains(r#""status":"succeeded""#));
}

#[tokio::test]
async fn a_queue_that_is_gone_makes_a_503_in_bounded_time_and_starts_nothing() {
    let (emulator, app) = (Emulator::start().await, App::start().await);
    let queue = provision(&emulator).await;
    let proxy = spillway!(proxy, &app, emulator, queue);
    drop(emulator);
    let answer = proxy.client().post("/reports", "May").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "offload-unavailable"));
    assert_eq!((answer.header("retry-after").as_str(), app.count("/reports")), ("2", 0));
}
