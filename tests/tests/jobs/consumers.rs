//! Other people's consumers: a program in plain Python works off jobs that Spillway queued, and ends them.

use support::{
    App, Client, Cloud, Emulator, Gate, Reply, SECRET, Spillway, folder, python, run_with,
};

const RULES: &str = r#"
    [[route]]
    name    = "reports"
    match   = { path = "/reports", methods = ["POST"] }
    [route.offload]
    queue     = "work"
    when      = "always"
    deadline  = "1h"
    replay_as = "caller"
    auth      = { check = "/me", identity = "check:X-User-Id", keep = ["X-User-Id"], login = "none" }

    [queue.work]
    foreign_consumers = true
    notify            = { app = "/hooks/ready" }
"#;

/// What a consumer in Python does with a message: `end` brings the job's end, `message` is what was received.
const CONSUMER: &str = r#"
import json, os, urllib.request, urllib.error
message = sqs.receive_message(QueueUrl=os.environ['QUEUE'], WaitTimeSeconds=10, MessageAttributeNames=['All'])['Messages'][0]
attributes = {name: each['StringValue'] for name, each in message['MessageAttributes'].items()}
job = attributes['job-id']

def end(body, type='text/csv', query='', token=attributes['outcome-token'], id=job):
    request = urllib.request.Request(f"{os.environ['SPILLWAY']}/_spillway/jobs/{id}/outcome{query}", body, method='PUT',
        headers={'Authorization': f'Bearer {token}', 'Content-Type': type})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)['status']
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)['type'].rsplit('/')[-1]
"#;

struct World {
    app: App,
    emulator: Emulator,
    proxy: Spillway,
    queue: String,
}

async fn app() -> App {
    let app = App::start().await;
    app.on("/me", Reply::status(204).with("x-user-id", "alice"));
    app.on("/hooks/ready", Reply::status(204));
    app
}

async fn world() -> World {
    let (app, emulator) = (app().await, Emulator::start().await);
    emulator.boto3("s3.create_bucket(Bucket='results', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})").await;
    let queue = emulator.boto3("print(sqs.create_queue(QueueName='work')['QueueUrl'])").await;
    let setup = Spillway::proxy(RULES, &app)
        .with("--queue", &format!("work=sqs:{queue}"))
        .with("--results", "s3://results/jobs");
    let environment = emulator.environment();
    let setup = environment.iter().fold(setup, |setup, (name, value)| setup.env(name, value));
    let proxy = setup.start().await;
    World { app, emulator, proxy, queue }
}

impl World {
    fn client(&self) -> Client {
        self.proxy.client().with("sec-fetch-site", "none").with("cookie", "session=a")
    }

    async fn start_job(&self, body: &str) -> String {
        let accepted = self.client().post("/reports", body.to_owned()).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        accepted.header("location")
    }

    /// Runs these lines after those of [`CONSUMER`].
    async fn python(&self, lines: &str) -> String {
        let mut environment = self.emulator.environment();
        environment.push(("QUEUE".to_owned(), self.queue.clone()));
        environment.push(("SPILLWAY".to_owned(), self.proxy.url()));
        let begin = "import boto3\nsqs = boto3.client('sqs', 'eu-west-1')\ns3 = boto3.client('s3', 'eu-west-1')";
        python(&format!("{begin}{CONSUMER}{lines}\n"), &environment).await
    }
}

/// The names of results that are compared.
const OK: &str = "(200, 'succeeded')";
const ENDED: &str = "(409, 'job-ended')";

#[tokio::test]
async fn a_plain_consumer_ends_a_job_and_its_client_gets_the_result() {
    let world = world().await;
    let location = world.start_job(r#"{"month": "May"}"#).await;
    let lines = "print(end(b'a,b\\n' + json.loads(message['Body'])['month'].encode()))\nprint(end(b'again'))";
    assert_eq!(world.python(lines).await, format!("{OK}\n{ENDED}"));
    let client = world.client();
    let status = client.get(&location).await.json();
    assert_eq!((&status["status"], &status["attempt"]), (&"succeeded".into(), &1.into()));
    let result = client.get(&format!("{location}/result")).await;
    assert_eq!((result.status, result.text().as_str()), (200, "a,b\nMay"));
    assert_eq!(result.header("content-type"), "text/csv");
    assert_eq!(result.header("content-security-policy"), "sandbox");
    let told = world.app.until_asked("/hooks/ready", 1).await.remove(0);
    let event: serde_json::Value = serde_json::from_slice(&told.body).expect("JSON");
    assert_eq!(
        (&event["data"]["status"], &event["data"]["user"]),
        (&"succeeded".into(), &"alice".into())
    );
}

#[tokio::test]
async fn a_page_of_another_consumers_is_a_download_and_a_failure_has_its_answer() {
    let world = world().await;
    let location = world.start_job("May").await;
    let lines = "print(end(b'<script>', 'text/html', '?code=422'))";
    assert_eq!(world.python(lines).await, "(200, 'failed')");
    let client = world.client();
    assert_eq!(client.get(&location).await.json()["reason"], "http-422");
    let result = client.get(&format!("{location}/result")).await;
    assert_eq!((result.status, result.text().as_str()), (422, "<script>"));
    assert_eq!(result.header("content-disposition"), "attachment");
    assert_eq!(result.header("content-security-policy"), "sandbox");
}

#[tokio::test]
async fn a_result_of_any_size_is_put_into_the_store_and_named() {
    let world = world().await;
    let location = world.start_job("May").await;
    let lines = r"
print(end(b'x' * (16 * 1024 * 1024 + 1)))
print(end(b'', query='?stored=true'))
s3.put_object(Bucket='results', Key=f'jobs/results/{job}', Body=b'x' * (17 * 1024 * 1024))
print(end(b'', query='?stored=true'))";
    let printed = world.python(lines).await;
    assert_eq!(printed, format!("(413, 'body-too-large')\n(400, 'bad-request')\n{OK}"));
    let result = world.client().get(&format!("{location}/result")).await;
    assert_eq!((result.status, result.body.len()), (200, 17 * 1024 * 1024));
}

#[tokio::test]
async fn a_token_is_good_for_its_own_job_and_for_nothing_else() {
    let world = world().await;
    // With everything that a message may have.
    let other = world.start_job(&"x".repeat(2 * 1024 * 1024)).await;
    let printed = world
        .python(
            r"
token = attributes['outcome-token']
print(len(attributes))
print(end(b'', id=job[:-1] + ('0' if job[-1] != '0' else '1')), end(b'', token=token[:-1]), end(b'', token=''))
print(end(b'', query='?code=302'), end(b'', query='?status=done'))
progress = urllib.request.Request(os.environ['SPILLWAY'] + f'/_spillway/jobs/{job}/progress', b'{}', method='PUT', headers={'Authorization': f'Bearer {token}'})
try:
    urllib.request.urlopen(progress)
except urllib.error.HTTPError as error:
    print(error.code)",
        )
        .await;
    let unknown = "(404, 'job-unknown')";
    assert_eq!(
        printed,
        format!(
            "10\n{unknown} {unknown} {unknown}\n(400, 'bad-request') (400, 'bad-request')\n404"
        )
    );
    assert_eq!(world.client().get(&other).await.json()["status"], "queued");
}

#[tokio::test]
async fn the_documented_object_ends_a_job_too() {
    let world = world().await;
    let location = world.start_job("May").await;
    world
        .python(
            r"
import time
s3.put_object(Bucket='results', Key=f'jobs/results/{job}', Body=b'a,b')
s3.put_object(Bucket='results', Key=f'jobs/outcome/{job}', IfNoneMatch='*', Body=json.dumps({
    'id': job, 'status': 'succeeded', 'attempt': 1, 'finished': int(time.time() * 1000),
    'answer': {'code': 200, 'headers': [['content-type', 'text/csv']], 'length': 3, 'object': f'results/{job}'}}))",
        )
        .await;
    let client = world.client();
    assert_eq!(client.get(&location).await.json()["status"], "succeeded");
    let result = client.get(&format!("{location}/result")).await;
    assert_eq!(
        (result.text().as_str(), result.header("content-type").as_str()),
        ("a,b", "text/csv")
    );
}

async fn cloud() -> Cloud {
    let cloud = Cloud::start().await;
    cloud.bucket("results");
    cloud.queue("work", &[("VisibilityTimeout", "30")]).await;
    cloud
}

/// `spillway jobs` over the cloud.
async fn operator(cloud: &Cloud, arguments: &[&str]) -> support::Ended {
    let folder = folder();
    let rules = folder.path().join("routes.toml");
    std::fs::write(&rules, RULES).expect("a rules file");
    let (rules, queue) =
        (rules.display().to_string(), format!("work=sqs:{}", cloud.queue_url("work")));
    let own = ["--routes", &rules, "--queue", &queue, "--results", "s3://results/jobs"];
    let mut environment = cloud.environment();
    environment.push(("SPILLWAY_SECRET".to_owned(), SECRET.to_owned()));
    run_with(&[&["jobs"], arguments, &own].concat(), &environment).await
}

#[tokio::test]
async fn a_result_that_is_put_into_the_store_is_an_end_unless_somebody_of_ours_has_begun() {
    let (app, cloud) = (app().await, cloud().await);
    let proxy = Spillway::proxy(RULES, &app).cloud("work", &cloud).start().await;
    let client = proxy.client().with("x-user", "alice");
    let (mine, other) = (client.post("/reports", "1").await, client.post("/reports", "2").await);
    let [mine, other] = [mine, other].map(|accepted| accepted.header("location"));
    let id = |location: &str| location.rsplit('/').next().expect("an id").to_owned();
    let put = |location: &str, body: &'static str| {
        cloud.replace("results", &format!("jobs/results/{}", id(location)), Some(body.into()));
    };
    assert_eq!(client.get(&mine).await.json()["status"], "queued");
    put(&mine, "theirs");
    assert_eq!(client.get(&mine).await.json()["status"], "succeeded");
    let result = client.get(&format!("{mine}/result")).await;
    assert_eq!((result.status, result.text().as_str()), (200, "theirs"));
    assert_eq!(result.header("content-security-policy"), "sandbox");
    // An attempt that died may have left a result without an outcome: the next one will write that.
    let lease = r#"{"holder":"gone","until":0,"attempt":1}"#;
    cloud.replace("results", &format!("jobs/leases/{}", id(&other)), Some(lease.into()));
    put(&other, "half of ours");
    assert_eq!(client.get(&other).await.json()["status"], "queued");
}

#[tokio::test]
async fn a_job_that_runs_here_is_not_ended_from_elsewhere() {
    let (app, cloud, gate) = (app().await, cloud().await, Gate::default());
    app.on("/reports", Reply::ok("done").behind(&gate));
    let proxy = Spillway::proxy(RULES, &app).cloud("work", &cloud).start().await;
    let _consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    let client = proxy.client().with("sec-fetch-site", "none").with("cookie", "session=a");
    let location = client.post("/reports", "May").await.header("location");
    app.until_asked("/reports", 1).await;
    let id = location.rsplit('/').next().expect("a segment");
    let refused = operator(&cloud, &["done", id]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("is being run"), "{}", refused.errors);
    gate.open();
    let status = client.with("prefer", "wait=20").get(&location).await.json();
    assert_eq!(status["status"], "succeeded");
}

#[tokio::test]
async fn an_operator_ends_a_job_and_a_consumer_tells_its_receivers() {
    let (app, cloud) = (app().await, cloud().await);
    let proxy = Spillway::proxy(RULES, &app).cloud("work", &cloud).start().await;
    let client = proxy.client().with("sec-fetch-site", "none").with("cookie", "session=a");
    let location = client.post("/reports", "May").await.header("location");
    let id = location.rsplit('/').next().expect("a segment");
    let typo = operator(&cloud, &["done", &id[1..]]).await;
    assert_eq!(typo.code, Some(1), "{}", typo.output);
    let done = operator(&cloud, &["done", id, "--code", "500", "--type", "text/plain"]).await;
    assert_eq!(done.code, Some(0), "{}", done.errors);
    assert_eq!(client.get(&location).await.json()["reason"], "http-500");
    let listed = operator(&cloud, &["list", "--status", "failed"]).await;
    assert!(listed.output.contains(id), "{}", listed.output);
    let retried = operator(&cloud, &["retry", id]).await;
    assert!(retried.errors.contains("no copy of its message"), "{}", retried.errors);
    let _consumer = Spillway::consume(RULES, &app).cloud("work", &cloud).start().await;
    app.until_asked("/hooks/ready", 1).await;
    assert_eq!(app.count("/reports"), 0, "its message is dropped");
}

#[tokio::test]
async fn a_queue_that_nobody_else_reads_has_no_tokens() {
    let (app, cloud) = (app().await, cloud().await);
    let rules = RULES.replace("foreign_consumers = true", "");
    let proxy = Spillway::proxy(&rules, &app).cloud("work", &cloud).start().await;
    let client = proxy.client().with("sec-fetch-site", "none").with("cookie", "session=a");
    assert_eq!(client.post("/reports", "May").await.status, 202);
    let mut environment = cloud.environment();
    environment.push(("AWS_DEFAULT_REGION".to_owned(), "eu-west-1".to_owned()));
    let lines = format!(
        "import boto3\nm = boto3.client('sqs').receive_message(QueueUrl='{}', MessageAttributeNames=['All'])['Messages'][0]\nprint('job-id' in m['MessageAttributes'], 'outcome-token' in m['MessageAttributes'])",
        cloud.queue_url("work")
    );
    assert_eq!(python(&lines, &environment).await, "True False");
}
