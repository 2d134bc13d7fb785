//! The same jobs over Amazon SQS and S3, with plain boto3 on the other side.

use support::{App, Emulator, Reply, Spillway, eventually};

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
    ($command:ident, $app:expr, $emulator:expr, $queue:expr) => {{
        let setup = Spillway::$command(RULES, $app)
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
