//! Others' programs on the other side: the library that receivers verify notifications with, the
//! Extended Client that stores large messages, STS for pods without keys, and what KEDA reads.

use support::{
    App, Cloud, Emulator, Gate, Reply, SECRET, Spillway, eventually, folder, python, run,
};

const RULES: &str = r#"
    [[route]]
    name    = "reports"
    match   = { path = "/reports", methods = ["POST"] }
    offload = { queue = "work", when = "always", auth = "none" }

    [queue.work]
    path        = "/reports"
    visibility  = "5s"
    concurrency = 1
    notify      = { app = "/hooks/ready" }
"#;

/// A queue and a bucket; the queue's URL.
async fn provision(emulator: &Emulator) -> String {
    emulator.boto3("s3.create_bucket(Bucket='results', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})").await;
    emulator.boto3("print(sqs.create_queue(QueueName='work')['QueueUrl'])").await
}

/// Either half over the emulator.
macro_rules! spillway {
    ($command:ident, $app:expr, $emulator:expr, $queue:expr, $results:expr) => {{
        let setup = Spillway::$command(RULES, $app)
            .with("--queue", &format!("work=sqs:{}", $queue))
            .with("--results", $results);
        let environment = $emulator.environment();
        environment.iter().fold(setup, |setup, (name, value)| setup.env(name, value))
    }};
}

/// Lines of Python with an `sqs` that is AWS's Extended Client.
async fn extended(emulator: &Emulator, lines: &str) -> String {
    let mut environment = emulator.environment();
    environment.push(("AWS_DEFAULT_REGION".to_owned(), "eu-west-1".to_owned()));
    let begin = "import boto3, json, sqs_extended_client\nsqs = boto3.client('sqs')\nsqs.large_payload_support = 'results'\nsqs.always_through_s3 = True\n";
    python(&format!("{begin}{lines}"), &environment).await
}

/// As docs/security.md tells to make it.
async fn receivers_key() -> String {
    let folder = folder();
    let file = folder.path().join("secret-file");
    std::fs::write(&file, SECRET).expect("a file");
    let file = file.display().to_string();
    let printed = run(&["jobs", "key", "--secret-file", &file]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.errors);
    printed.output.trim().to_owned()
}

#[tokio::test]
async fn the_standard_webhooks_library_verifies_a_notification() {
    let (app, jobs) = (App::start().await, folder());
    app.on("/reports", Reply::ok("done"));
    app.on("/hooks/ready", Reply::status(204));
    let proxy = Spillway::proxy(RULES, &app).jobs("work", jobs.path()).start().await;
    let _consumer = Spillway::consume(RULES, &app).jobs("work", jobs.path()).start().await;
    let location = proxy.client().post("/reports", "May").await.header("location");
    let told = app.until_asked("/hooks/ready", 1).await.remove(0);
    let headers: serde_json::Value = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| (name, told.header(name).unwrap_or_default().to_owned()))
        .into_iter()
        .collect();
    let environment = [
        ("KEY".to_owned(), receivers_key().await),
        ("HEADERS".to_owned(), headers.to_string()),
        ("BODY".to_owned(), String::from_utf8_lossy(&told.body).into_owned()),
    ];
    let verify = r"
import json, os
from standardwebhooks import Webhook, WebhookVerificationError
hook, headers, body = Webhook(os.environ['KEY']), json.loads(os.environ['HEADERS']), os.environ['BODY']
print(hook.verify(body, headers)['id'])
try:
    hook.verify(body.replace('succeeded', 'failed'), headers)
except WebhookVerificationError as error:
    print(error)
";
    let printed = python(verify, &environment).await;
    let id = location.rsplit('/').next().unwrap_or_default();
    assert_eq!(printed, format!("{id}\nNo matching signature found"));
}

#[tokio::test]
async fn a_message_of_the_extended_client_is_run_with_its_body() {
    let (emulator, app) = (Emulator::start().await, App::start().await);
    let queue = provision(&emulator).await;
    app.on("/reports", Reply::ok("done"));
    let _consumer = spillway!(consume, &app, emulator, queue, "s3://results").start().await;
    let send = format!(
        "body = json.dumps({{'user_id': 7, 'text': 'żółw' * 100_000}})\nsqs.send_message(QueueUrl='{queue}', MessageBody=body)"
    );
    extended(&emulator, &send).await;
    let asked = app.until_asked("/reports", 1).await.remove(0);
    let json: serde_json::Value = serde_json::from_slice(&asked.body).expect("JSON");
    assert_eq!(
        (json["user_id"].as_u64(), json["text"].as_str()),
        (Some(7), Some("żółw".repeat(100_000).as_str()))
    );
}

#[tokio::test]
async fn the_extended_client_reads_our_claim_checks_with_a_prefix_or_without() {
    let (emulator, app) = (Emulator::start().await, App::start().await);
    let queue = provision(&emulator).await;
    for results in ["s3://results", "s3://results/deep/er"] {
        let proxy = spillway!(proxy, &app, emulator, queue, results).start().await;
        let body = "żółw".repeat(250_000);
        assert_eq!(proxy.client().post("/reports", body).await.status, 202);
        let receive = format!(
            "m = sqs.receive_message(QueueUrl='{queue}', WaitTimeSeconds=5, MessageAttributeNames=['All'])['Messages'][0]\nprint(m['Body'] == 'żółw' * 250_000, m['MessageAttributes']['route']['StringValue'])\nsqs.delete_message(QueueUrl='{queue}', ReceiptHandle=m['ReceiptHandle'])"
        );
        assert_eq!(extended(&emulator, &receive).await, "True reports", "{results}");
    }
}

#[tokio::test]
async fn a_pointer_out_of_our_place_is_no_job_and_holds_up_nobody() {
    let (cloud, app) = (Cloud::start().await, App::start().await);
    cloud.bucket("results");
    cloud.queue("work", &[("VisibilityTimeout", "1")]).await;
    app.on("/reports", Reply::ok("done"));
    // One at a time: a message that is held for ever would be the last.
    let consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    for key in ["elsewhere/x", "jobs/../secret", "jobs/a b"] {
        let pointer = serde_json::json!([
            "software.amazon.payloadoffloading.PayloadS3Pointer",
            { "s3BucketName": "results", "s3Key": key }
        ]);
        cloud.send("work", &pointer.to_string(), &[("ExtendedPayloadSize", "5")]).await;
    }
    cloud.send("work", "{}", &[]).await;
    assert_eq!(app.until_asked("/reports", 1).await[0].body, "{}");
    let counted = r#"spillway_jobs_total{outcome="undecodable",queue="work",reason="undecodable"}"#;
    eventually("they are counted", || async {
        (consumer.metric(counted).await >= 3.0).then_some(())
    })
    .await;
    assert_eq!(app.count("/reports"), 1);
}

/// No static keys, as in a pod with a role: the token is all there is.
fn by_role(setup: support::Setup, token: &std::path::Path) -> support::Setup {
    let setup = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"]
        .into_iter()
        .fold(setup, support::Setup::without);
    setup
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/spillway")
        .env("AWS_ROLE_SESSION_NAME", "tests")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &token.display().to_string())
}

#[tokio::test]
async fn a_pod_with_a_role_needs_no_keys() {
    let (emulator, app, files) = (Emulator::start().await, App::start().await, folder());
    let queue = provision(&emulator).await;
    app.on("/reports", Reply::ok("done"));
    let token = files.path().join("token");
    std::fs::write(&token, "e30.e30.e30").expect("a file");
    let proxy = spillway!(proxy, &app, emulator, queue, "s3://results");
    let proxy = by_role(proxy, &token).start().await;
    let consumer = spillway!(consume, &app, emulator, queue, "s3://results");
    let _consumer = by_role(consumer, &token).start().await;
    let client = proxy.client();
    let accepted = client.post("/reports", "May").await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let waiting = client.with("prefer", "wait=20");
    let status = waiting.get(&accepted.header("location")).await.json();
    assert_eq!(status["status"], "succeeded");

    // The same without its token has nothing else to sign with.
    let proxy = spillway!(proxy, &app, emulator, queue, "s3://results");
    let proxy = by_role(proxy, &files.path().join("none")).start().await;
    let refused = proxy.client().post("/reports", "May").await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "offload-unavailable"));
}

#[tokio::test]
async fn keda_sees_the_job_that_runs_and_those_that_wait() {
    let (emulator, app) = (Emulator::start().await, App::start().await);
    let queue = provision(&emulator).await;
    let gate = Gate::default();
    app.on("/reports", Reply::ok("done").behind(&gate));
    app.on("/hooks/ready", Reply::status(204));
    let proxy = spillway!(proxy, &app, emulator, queue, "s3://results").start().await;
    for number in 0..3 {
        assert_eq!(proxy.client().post("/reports", number.to_string()).await.status, 202);
    }
    let _consumer = spillway!(consume, &app, emulator, queue, "s3://results").start().await;
    app.until_asked("/reports", 1).await;
    let read = format!(
        "a = sqs.get_queue_attributes(QueueUrl='{queue}', AttributeNames=['ApproximateNumberOfMessages', 'ApproximateNumberOfMessagesNotVisible', 'ApproximateNumberOfMessagesDelayed'])['Attributes']\nprint(a['ApproximateNumberOfMessages'], a['ApproximateNumberOfMessagesNotVisible'], a['ApproximateNumberOfMessagesDelayed'])"
    );
    assert_eq!(emulator.boto3(&read).await, "2 1 0", "visible, in flight, delayed");
    gate.open();
    eventually("KEDA may scale to zero", || async {
        (emulator.boto3(&read).await == "0 0 0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn boto3_speaks_with_our_own_cloud_as_with_any_other() {
    let cloud = Cloud::start().await;
    let lines = r"
import boto3
sqs, s3 = boto3.client('sqs'), boto3.client('s3')
url = sqs.create_queue(QueueName='q', Attributes={'MaximumMessageSize': '2048'})['QueueUrl']
text = {'DataType': 'String', 'StringValue': 'v'}
sent = sqs.send_message_batch(QueueUrl=url, Entries=[
    {'Id': 'a', 'MessageBody': 'one', 'MessageAttributes': {'n': text}, 'MessageGroupId': 'g'},
    {'Id': 'b', 'MessageBody': 'x' * 2049}])
print([e['Id'] for e in sent['Successful']], [(e['Id'], e['SenderFault']) for e in sent['Failed']])
m = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10, MessageAttributeNames=['All'], MessageSystemAttributeNames=['All'])['Messages'][0]
print(m['Body'], m['MessageAttributes']['n']['StringValue'], m['Attributes']['MessageGroupId'], m['Attributes']['ApproximateReceiveCount'])
print(sqs.get_queue_attributes(QueueUrl=sqs.get_queue_url(QueueName='q')['QueueUrl'], AttributeNames=['All'])['Attributes']['ApproximateNumberOfMessagesNotVisible'])
sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=m['ReceiptHandle'], VisibilityTimeout=0)
try:
    sqs.delete_message(QueueUrl=url, ReceiptHandle='none')
except sqs.exceptions.ReceiptHandleIsInvalid:
    print('stale')
s3.create_bucket(Bucket='b', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})
for n in range(5):
    s3.put_object(Bucket='b', Key=f'k/{n} &+', Body=b'0123456789', IfNoneMatch='*')
try:
    s3.put_object(Bucket='b', Key='k/0 &+', Body=b'', IfNoneMatch='*')
except s3.exceptions.ClientError as error:
    print(error.response['Error']['Code'])
print(s3.get_object(Bucket='b', Key='k/1 &+', Range='bytes=2-4')['Body'].read(), s3.head_object(Bucket='b', Key='k/1 &+')['ContentLength'])
pages = s3.get_paginator('list_objects_v2').paginate(Bucket='b', Prefix='k/', StartAfter='k/0 &+', PaginationConfig={'PageSize': 2})
found = [o for page in pages for o in page['Contents']]
print([o['Key'] for o in found], found[0]['LastModified'].year > 2025)
s3.delete_object(Bucket='b', Key='k/4 &+')
print(s3.list_objects_v2(Bucket='b')['KeyCount'])
";
    let mut environment = cloud.environment();
    environment.push(("AWS_DEFAULT_REGION".to_owned(), "eu-west-1".to_owned()));
    let wanted = "['a'] [('b', True)]\none v g 1\n1\nstale\nPreconditionFailed\nb'234' 10\n['k/1 &+', 'k/2 &+', 'k/3 &+', 'k/4 &+'] True\n4";
    assert_eq!(python(lines, &environment).await, wanted);
}
