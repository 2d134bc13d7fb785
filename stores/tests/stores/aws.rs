//! SQS and S3 beyond the contracts: batches, limits, and servers that misbehave.

use super::emulator::{Emulator, config};
use super::peers::create_queue;
use aws_sdk_sqs::types::QueueAttributeName;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use stores::queue::sqs::SqsQueue;
use stores::queue::{Message, Queue};
use stores::results::s3::S3Results;
use stores::results::{Condition, PutError, Results};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

#[tokio::test]
async fn sqs_sends_and_deletes_many_at_once() {
    let emulator = Emulator::start();
    let config = emulator.config().await;
    let client = aws_sdk_sqs::Client::new(&config);
    let url = create_queue(&client, "many", &[]).await;
    let queue = Arc::new(SqsQueue::connect(&config, url).await.expect("the queue"));

    let mut sends = tokio::task::JoinSet::new();
    for at in 0..25 {
        let queue = queue.clone();
        let message = Message { body: format!("body {at}"), ..Message::default() };
        sends.spawn(async move { (queue.send(message).await.expect("sent"), at) });
    }
    let mut sent = sends.join_all().await;
    sent.sort();

    let mut received = Vec::new();
    let mut receipts = Vec::new();
    while received.len() < sent.len() {
        let wait = Duration::from_secs(20);
        let messages = queue.receive(10, wait, Duration::from_secs(600)).await.expect("received");
        assert!(!messages.is_empty(), "only {} of {} came", received.len(), sent.len());
        for message in messages {
            let at = message.body.trim_start_matches("body ").parse().expect("a body of ours");
            received.push((message.id, at));
            receipts.push(message.receipt);
        }
    }
    received.sort();
    assert_eq!(received, sent, "each id belongs to the body it was given for");

    // One that the queue does not know fails alone.
    receipts.push("unknown".into());
    let mut deletes = tokio::task::JoinSet::new();
    for receipt in receipts {
        let queue = queue.clone();
        deletes.spawn(async move { queue.delete(&receipt).await.map_err(|error| error.name) });
    }
    let mut outcomes = deletes.join_all().await;
    outcomes.sort();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 25);
    assert_eq!(outcomes.last(), Some(&Err("receipt-stale")));
    assert_eq!(queue.depth().await.expect("the depth").in_flight, 0);
}

#[tokio::test]
async fn sqs_tells_its_own_limit() {
    let emulator = Emulator::start();
    let config = emulator.config().await;
    let client = aws_sdk_sqs::Client::new(&config);
    let small = [(QueueAttributeName::MaximumMessageSize, "2048")];
    let url = create_queue(&client, "small", &small).await;
    let queue = SqsQueue::connect(&config, url.clone()).await.expect("the queue");
    assert_eq!(queue.message_bytes_max(), 2048);
    let message = |bytes| Message { body: "x".repeat(bytes), ..Message::default() };
    queue.send(message(2048)).await.expect("as large as the queue takes");
    let error = queue.send(message(2049)).await.expect_err("one byte more");
    assert_eq!(error.name, "message-too-large");

    let missing = url.replace("small", "missing");
    // It may be made later: what it refuses is named by each call.
    let missing = SqsQueue::connect(&config, missing).await.expect("an address");
    let error = missing.send(message(1)).await.expect_err("no such queue");
    assert_eq!(error.name, "queue-missing");
    let error = SqsQueue::connect(&config, format!("{url}.fifo")).await.err().expect("FIFO");
    assert!(error.contains("standard queue"), "{error}");
}

#[tokio::test]
async fn a_missing_bucket_is_not_a_missing_key() {
    let emulator = Emulator::start();
    let config = emulator.config().await;
    let results = S3Results::connect(&config, "none".into(), String::new()).await.expect("a store");
    let error = results.get("a", None).await.err().expect("no bucket");
    assert_eq!(error.name, "bucket-missing");
    let error = results.put("a", Bytes::new(), Condition::IfMatch("\"x\"".into())).await;
    assert!(matches!(error, Err(PutError::Failed(error)) if error.name == "bucket-missing"));
}

/// A server that reads the first bytes of each request and then hangs up, or holds its tongue.
struct BadServer {
    endpoint: String,
    requests: Arc<AtomicU32>,
}

impl BadServer {
    async fn start(hangs_up: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(AtomicU32::new(0));
        let count = requests.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 64 << 10]).await;
                count.fetch_add(1, Ordering::Relaxed);
                if !hangs_up {
                    held.push(stream);
                }
            }
        });
        Self { endpoint, requests }
    }
}

#[tokio::test]
async fn only_what_may_happen_twice_is_sent_twice() {
    let server = BadServer::start(true).await;
    let config = config(&server.endpoint).await;
    let results = S3Results::connect(&config, "jobs".into(), String::new()).await.expect("a store");

    let created = results.put("a", Bytes::from("x"), Condition::IfAbsent).await;
    assert!(matches!(created, Err(PutError::Failed(error)) if error.name == "unreachable"));
    assert_eq!(server.requests.swap(0, Ordering::Relaxed), 1);

    let error = results.get("a", None).await.err().expect("no answer");
    assert_eq!(error.name, "unreachable");
    assert_eq!(server.requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn silence_ends_in_a_timeout() {
    let server = BadServer::start(false).await;
    let config = config(&server.endpoint).await;
    let url = format!("{}/123456789012/jobs", server.endpoint);
    let results = S3Results::connect(&config, "jobs".into(), String::new()).await.expect("a store");
    // Connecting is no error: the sidecar starts without SQS.
    let queue = SqsQueue::connect(&config, url).await.expect("the queue");
    let message = Message { body: "b".into(), ..Message::default() };
    let (sent, received, head) = tokio::join!(
        queue.send(message),
        queue.receive(1, Duration::ZERO, Duration::from_secs(1)),
        results.head("a")
    );
    assert_eq!(sent.expect_err("silence").name, "timeout");
    assert_eq!(received.expect_err("silence").name, "timeout");
    assert_eq!(head.expect_err("silence").name, "timeout");
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let config = config(&endpoint).await;
    let queue = SqsQueue::connect(&config, format!("{endpoint}/1/jobs")).await.expect("the queue");
    let error = queue.send(Message { body: "b".into(), ..Message::default() }).await;
    assert_eq!(error.expect_err("nobody there").name, "unreachable");
    let results = S3Results::connect(&config, "jobs".into(), String::new()).await.expect("a store");
    assert_eq!(results.head("a").await.expect_err("nobody there").name, "unreachable");
}
