//! The contracts against everything that speaks SQS or S3 and can be had here. Where a peer is not
//! what the real service is, the table says so, and a difference that is gone is a failure too.

use super::directory::Directory;
use super::emulator::{Emulator, config};
use super::{queue_contract, results_contract};
use aws_config::SdkConfig;
use aws_sdk_sqs::types::QueueAttributeName;
use http::Method;
use http_body_util::BodyExt;
use net::boxed::ObjectBody;
use std::sync::Arc;
use stores::queue::sqs::SqsQueue;
use stores::results::Results;
use stores::results::s3::S3Results;
use support::Cloud;

/// `peer, case, what comes instead`. What SQS does is what its documentation says.
const DIFFERENCES: [(&str, &str, &str); 2] = [
    // SQS: the last receipt handle of a message that is gone is still good for a delete.
    ("ministack", "a delete may be repeated", "receipt-stale"),
    // SQS: an old receipt handle may not delete the message.
    ("moto", "an out-of-date receipt can do nothing", "delete a@1 -> receipt-stale"),
];

/// What each case of a contract came to, judged against the table.
struct Judge {
    peer: &'static str,
    faults: Vec<String>,
}

impl Judge {
    fn of(peer: &'static str) -> Self {
        Self { peer, faults: Vec::new() }
    }

    fn take(&mut self, case: &str, result: Result<(), String>) {
        let mut known = DIFFERENCES.iter().filter(|(peer, _, _)| *peer == self.peer);
        let known = known.find(|(_, name, _)| *name == case).map(|(_, _, outcome)| *outcome);
        match (result, known) {
            (Ok(()), None) => {}
            (Err(fault), Some(outcome)) if fault.contains(outcome) => {}
            (Ok(()), Some(_)) => self.faults.push(format!("{case}\n    no longer differs")),
            (Err(fault), _) => self.faults.push(format!("{case}\n    {fault}")),
        }
    }

    fn end(self) {
        assert!(self.faults.is_empty(), "{}:\n  {}", self.peer, self.faults.join("\n  "));
    }
}

async fn queue_contract_of(peer: &'static str, config: &SdkConfig) {
    let client = aws_sdk_sqs::Client::new(config);
    let mut judge = Judge::of(peer);
    let cases = queue_contract::CASES.iter().chain(queue_contract::RECEIPTS);
    for (at, (name, script)) in cases.enumerate() {
        let url = create_queue(&client, &format!("case-{at}"), &[]).await;
        let queue = SqsQueue::connect(config, url).await.expect("the queue");
        judge.take(name, queue_contract::run(&queue, script).await);
    }
    judge.end();
}

async fn results_contract_of(peer: &'static str, config: &SdkConfig) {
    let spool = Directory::new();
    create_bucket(config.endpoint_url().expect("an endpoint")).await;
    let mut judge = Judge::of(peer);
    for (at, (name, script)) in results_contract::CASES.iter().enumerate() {
        // A prefix is a store of its own.
        let results = S3Results::connect(config, "jobs".into(), format!("case/{at}/")).await;
        let results: Arc<dyn Results> = Arc::new(results.expect("the store"));
        judge.take(name, results_contract::run(&results, spool.path(), script).await);
    }
    judge.end();
}

/// With a dead-letter queue.
pub(super) async fn create_queue(
    client: &aws_sdk_sqs::Client,
    name: &str,
    attributes: &[(QueueAttributeName, &str)],
) -> String {
    let dead = format!("{name}-dead");
    let url = client.create_queue().queue_name(&dead).send().await.expect("a dead-letter queue");
    let url = url.queue_url.expect("its address");
    let arn = QueueAttributeName::QueueArn;
    let told = client.get_queue_attributes().queue_url(url).attribute_names(arn.clone());
    let told = told.send().await.expect("its name").attributes.expect("attributes");
    let policy = format!(
        r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":{}}}"#,
        told[&arn],
        queue_contract::MAX_RECEIVES
    );
    let mut call = client
        .create_queue()
        .queue_name(name)
        .attributes(QueueAttributeName::RedrivePolicy, policy);
    for (name, value) in attributes {
        call = call.attributes(name.clone(), *value);
    }
    call.send().await.expect("a queue").queue_url.expect("its address")
}

async fn create_bucket(endpoint: &str) {
    let empty: ObjectBody = http_body_util::Empty::new().map_err(|it| match it {}).boxed_unsync();
    let request = http::Request::builder()
        .method(Method::PUT)
        .uri(format!("{endpoint}/jobs"))
        // Names the service, as the emulators have many on one port, and the one region in which a
        // bucket is made without a document.
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request",
        )
        .body(empty)
        .expect("a request");
    let answer = net::https::client().request(request).await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
}

#[tokio::test]
async fn moto_keeps_the_contract_of_sqs() {
    queue_contract_of("moto", &Emulator::start().config().await).await;
}

#[tokio::test]
async fn moto_keeps_the_contract_of_s3() {
    results_contract_of("moto", &Emulator::start().config().await).await;
}

#[tokio::test]
async fn ministack_keeps_the_contract_of_sqs() {
    queue_contract_of("ministack", &Emulator::ministack().config().await).await;
}

#[tokio::test]
async fn seaweedfs_keeps_the_contract_of_s3() {
    results_contract_of("seaweedfs", &Emulator::seaweedfs().await.config().await).await;
}

#[tokio::test]
async fn our_own_cloud_keeps_the_contract_of_sqs() {
    let cloud = Cloud::start().await;
    queue_contract_of("cloud", &config(&cloud.url()).await).await;
}

#[tokio::test]
async fn our_own_cloud_keeps_the_contract_of_s3() {
    let cloud = Cloud::start().await;
    results_contract_of("cloud", &config(&cloud.url()).await).await;
}
