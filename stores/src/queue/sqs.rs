//! Amazon SQS (standard queues) by the official SDK.

mod batch;
mod calls;
mod error;

use super::limits::{RECEIVE_MAX, check, check_visibility};
use super::{Depth, Message, Queue, QueueError, Received};
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use aws_smithy_http_client::tls;
use batch::{Batch, Entry};
use net::boxed::Boxed;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OnceCell, oneshot};

/// How long one attempt of any call but receive may take. SQS usually answers within 20 ms.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a call may take with its retries: the whole time that an enqueue has before its client gets 503.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The number of attempts of one call, within [`CALL_TIMEOUT`].
const ATTEMPTS: u32 = 3;

/// How long connecting may take: one lost SYN costs 1 s, and there is time for one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an idle connection is kept. SQS closes them after about a minute, and a request that is written
/// into one that is just being closed fails (aws-sdk-rust#1417).
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the first call of a batch waits for company: a tenth of what SQS takes to answer.
const LINGER: Duration = Duration::from_millis(2);

/// The longest time for which SQS keeps a message: 14 days. Its default is 4.
const RETENTION_SECONDS_MAX: u64 = 1_209_600;

/// The largest message of a queue that has not told its own limit, in bytes: that of queues made before 2025.
const MESSAGE_BYTES_ASSUMED: usize = 256 << 10;

/// Loads credentials, region and endpoint by AWS's own chain: environment, profile, web identity, container,
/// instance.
pub async fn aws_config() -> SdkConfig {
    aws_loader().load().await
}

/// The loader of that configuration, with rustls and ring. The certificates are those of the image.
pub fn aws_loader() -> ConfigLoader {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .build_https();
    aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(timeouts())
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build()
}

/// An SQS queue. The names of its errors are `message-illegal`, `message-too-large`, `refused`,
/// `receipt-stale`, `closed`, `queue-missing`, `throttled`, `denied`, `unavailable`, `timeout`,
/// `unreachable`, `not-sent`.
pub struct SqsQueue {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    url: String,
    bytes_max: AtomicUsize,
    /// The `maxReceiveCount` of the redrive policy; 0 where none is known.
    receives_max: AtomicU64,
    /// The address of the dead-letter queue; none where there is no redrive policy.
    dead: OnceCell<Option<String>>,
    sends: Batch<Message, String>,
    deletes: Batch<String, ()>,
}

impl SqsQueue {
    /// Asks the queue for its limits. If SQS can't be reached now, that is no error: the sidecar has other
    /// things to do, and learns the limits when [`Queue::depth`] gets through.
    pub async fn connect(config: &SdkConfig, url: String) -> Result<Self, String> {
        if url.ends_with(".fifo") {
            return Err(format!("{url}: FIFO queues are not supported, use a standard queue"));
        }
        let client = Client::from_conf(client_config(config, &url));
        let inner = Inner::new(client, url);
        match inner.attributes(&inner.url).await {
            Ok(attributes) => {
                inner.learn(&attributes);
                inner.check_retention(&attributes);
            }
            Err(error) => {
                tracing::warn!(url = %inner.url, %error, "the queue's limits are unknown")
            }
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn send_now(&self, message: Message) -> Result<String, QueueError> {
        let bytes_max = self.message_bytes_max();
        let bytes = check(&message, bytes_max)?;
        self.submit::<Sends>(message, bytes, bytes_max).await
    }

    /// Waits for the batch of which the call is part. The batch runs in a task of its own, so that a caller
    /// that leaves does not end it for the others.
    async fn submit<K: Kind>(
        &self,
        item: K::Item,
        bytes: usize,
        bytes_max: usize,
    ) -> Result<K::Done, QueueError> {
        let (answer, waiting) = oneshot::channel();
        let added = K::batch(&self.inner).add(Entry { item, bytes, answer }, bytes_max);
        for full in added.full {
            let inner = self.inner.clone();
            tokio::spawn(async move { K::flush(&inner, full).await });
        }
        if let Some(number) = added.began {
            let inner = self.inner.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LINGER).await;
                if let Some(entries) = K::batch(&inner).take(number) {
                    K::flush(&inner, entries).await;
                }
            });
        }
        let closed = |_| QueueError { name: "closed", detail: "the program is ending".into() };
        waiting.await.map_err(closed)?
    }
}

/// The two kinds of calls that are sent in batches.
trait Kind {
    type Item: Send + 'static;
    type Done: Send + 'static;
    fn batch(inner: &Inner) -> &Batch<Self::Item, Self::Done>;
    fn flush(
        inner: &Inner,
        entries: Vec<Entry<Self::Item, Self::Done>>,
    ) -> impl Future<Output = ()> + Send;
}

struct Sends;

impl Kind for Sends {
    type Item = Message;
    type Done = String;

    fn batch(inner: &Inner) -> &Batch<Message, String> {
        &inner.sends
    }

    async fn flush(inner: &Inner, entries: Vec<Entry<Message, String>>) {
        calls::send(&inner.client, &inner.url, entries).await;
    }
}

struct Deletes;

impl Kind for Deletes {
    type Item = String;
    type Done = ();

    fn batch(inner: &Inner) -> &Batch<String, ()> {
        &inner.deletes
    }

    async fn flush(inner: &Inner, entries: Vec<Entry<String, ()>>) {
        calls::delete(&inner.client, &inner.url, entries).await;
    }
}

impl Inner {
    fn new(client: Client, url: String) -> Self {
        Self {
            client,
            url,
            bytes_max: AtomicUsize::new(MESSAGE_BYTES_ASSUMED),
            receives_max: AtomicU64::new(0),
            dead: OnceCell::new(),
            sends: Batch::new(),
            deletes: Batch::new(),
        }
    }

    async fn attributes(&self, url: &str) -> Result<HashMap<Attribute, String>, QueueError> {
        let names = [
            Attribute::ApproximateNumberOfMessages,
            Attribute::ApproximateNumberOfMessagesDelayed,
            Attribute::ApproximateNumberOfMessagesNotVisible,
            Attribute::MaximumMessageSize,
            Attribute::MessageRetentionPeriod,
            Attribute::RedrivePolicy,
        ];
        let call = self.client.get_queue_attributes().queue_url(url);
        let output = call.set_attribute_names(Some(names.into())).send().await;
        Ok(output.map_err(|fault| error::of(&fault))?.attributes.unwrap_or_default())
    }

    fn learn(&self, attributes: &HashMap<Attribute, String>) {
        let limit = attributes.get(&Attribute::MaximumMessageSize).and_then(|it| it.parse().ok());
        if let Some(limit) = limit {
            self.bytes_max.store(limit, Ordering::Relaxed);
        }
        let policy = attributes.get(&Attribute::RedrivePolicy);
        let receives_max = policy.and_then(|policy| max_receive_count(policy)).unwrap_or(0);
        self.receives_max.store(receives_max, Ordering::Relaxed);
    }

    /// A job that waits longer than SQS keeps its message is lost, and SQS tells nobody.
    fn check_retention(&self, attributes: &HashMap<Attribute, String>) {
        let retention = attributes.get(&Attribute::MessageRetentionPeriod);
        let retention: Option<u64> = retention.and_then(|seconds| seconds.parse().ok());
        if let Some(seconds) = retention.filter(|seconds| *seconds < RETENTION_SECONDS_MAX) {
            tracing::warn!(
                url = %self.url,
                seconds,
                "the queue drops jobs that wait longer than this: set MessageRetentionPeriod to {RETENTION_SECONDS_MAX}"
            );
        }
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        let attributes = self.attributes(&self.url).await?;
        self.learn(&attributes);
        // A consumer that may not look at the dead letters must still see the rest.
        let dead = self.dead(&attributes).await.unwrap_or_else(|error| {
            tracing::warn!(url = %self.url, %error, "the dead letters cannot be counted");
            0
        });
        Ok(Depth {
            visible: number(&attributes, &Attribute::ApproximateNumberOfMessages)
                + number(&attributes, &Attribute::ApproximateNumberOfMessagesDelayed),
            in_flight: number(&attributes, &Attribute::ApproximateNumberOfMessagesNotVisible),
            dead,
            oldest: None,
        })
    }

    async fn dead(&self, attributes: &HashMap<Attribute, String>) -> Result<u64, QueueError> {
        let find = || self.dead_url(attributes.get(&Attribute::RedrivePolicy));
        let Some(url) = self.dead.get_or_try_init(find).await? else { return Ok(0) };
        let attributes = self.attributes(url).await?;
        Ok(number(&attributes, &Attribute::ApproximateNumberOfMessages)
            + number(&attributes, &Attribute::ApproximateNumberOfMessagesNotVisible))
    }

    /// The dead-letter queue as a queue of its own; it has the limits of this one.
    async fn dead_letters(&self) -> Result<Option<Arc<dyn Queue>>, QueueError> {
        let attributes = self.attributes(&self.url).await?;
        let find = || self.dead_url(attributes.get(&Attribute::RedrivePolicy));
        let Some(url) = self.dead.get_or_try_init(find).await? else { return Ok(None) };
        let inner = Self::new(self.client.clone(), url.clone());
        inner.bytes_max.store(self.bytes_max.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(Some(Arc::new(SqsQueue { inner: Arc::new(inner) })))
    }

    async fn dead_url(&self, policy: Option<&String>) -> Result<Option<String>, QueueError> {
        let Some((account, name)) = policy.and_then(|policy| dead_letter_target(policy)) else {
            return Ok(None);
        };
        let call = self.client.get_queue_url().queue_name(name);
        let output = call.queue_owner_aws_account_id(account).send().await;
        Ok(output.map_err(|fault| error::of(&fault))?.queue_url)
    }
}

impl Queue for SqsQueue {
    fn send(&self, message: Message) -> Boxed<'_, Result<String, QueueError>> {
        Box::pin(self.send_now(message))
    }

    fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Boxed<'_, Result<Vec<Received>, QueueError>> {
        Box::pin(async move {
            check_visibility(visibility)?;
            // There are ten at most, so the number fits.
            let max = max.clamp(1, RECEIVE_MAX) as i32;
            calls::receive(&self.inner.client, &self.inner.url, max, wait, visibility).await
        })
    }

    fn delete<'a>(&'a self, receipt: &'a str) -> Boxed<'a, Result<(), QueueError>> {
        // Receipts have no size limit of their own.
        Box::pin(self.submit::<Deletes>(receipt.to_owned(), 0, usize::MAX))
    }

    fn set_visibility<'a>(
        &'a self,
        receipt: &'a str,
        visibility: Duration,
    ) -> Boxed<'a, Result<(), QueueError>> {
        Box::pin(async move {
            check_visibility(visibility)?;
            let call = self.inner.client.change_message_visibility().queue_url(&self.inner.url);
            let call = call.receipt_handle(receipt).visibility_timeout(calls::seconds(visibility));
            call.send().await.map(|_| ()).map_err(|fault| error::of(&fault))
        })
    }

    fn depth(&self) -> Boxed<'_, Result<Depth, QueueError>> {
        Box::pin(self.inner.depth())
    }

    fn dead_letters(&self) -> Boxed<'_, Result<Option<Arc<dyn Queue>>, QueueError>> {
        Box::pin(self.inner.dead_letters())
    }

    fn is_billed(&self) -> bool {
        true
    }

    fn receives_max(&self) -> Option<u64> {
        Some(self.inner.receives_max.load(Ordering::Relaxed)).filter(|max| *max > 0)
    }

    fn message_bytes_max(&self) -> usize {
        self.inner.bytes_max.load(Ordering::Relaxed)
    }
}

fn client_config(config: &SdkConfig, url: &str) -> aws_sdk_sqs::Config {
    let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
    let builder =
        aws_sdk_sqs::config::Builder::from(config).timeout_config(timeouts()).retry_config(retries);
    match region(url) {
        // The SDK calls the endpoint of its region, whatever the queue's URL says.
        Some(region) => builder.region(Region::new(region.to_owned())).build(),
        None => builder.build(),
    }
}

/// The region in a URL of Amazon's own.
fn region(url: &str) -> Option<&str> {
    let host = url.strip_prefix("https://")?.split('/').next()?;
    let (region, rest) = host.strip_prefix("sqs.")?.split_once('.')?;
    rest.starts_with("amazonaws.com").then_some(region)
}

/// The account and the name in `{"deadLetterTargetArn":"arn:aws:sqs:REGION:ACCOUNT:NAME",…}`.
fn dead_letter_target(policy: &str) -> Option<(String, String)> {
    let policy: serde_json::Value = serde_json::from_str(policy).ok()?;
    let mut parts = policy.get("deadLetterTargetArn")?.as_str()?.rsplit(':');
    let name = parts.next()?.to_owned();
    Some((parts.next()?.to_owned(), name))
}

/// The `maxReceiveCount` of that policy, which is written as a number or as text.
fn max_receive_count(policy: &str) -> Option<u64> {
    let policy: serde_json::Value = serde_json::from_str(policy).ok()?;
    let count = policy.get("maxReceiveCount")?;
    count.as_u64().or_else(|| count.as_str()?.parse().ok())
}

fn number(attributes: &HashMap<Attribute, String>, name: &Attribute) -> u64 {
    attributes.get(name).and_then(|value| value.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_amazons_own_addresses() {
        let amazon = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs";
        assert_eq!(region(amazon), Some("eu-west-1"));
        assert_eq!(region("https://sqs.cn-north-1.amazonaws.com.cn/1/jobs"), Some("cn-north-1"));
        assert_eq!(region("http://127.0.0.1:5000/123456789012/jobs"), None);
        assert_eq!(region("https://sqs.example.com/1/jobs"), None);
    }

    #[test]
    fn the_dead_letter_queue_is_read_from_the_policy() {
        let policy =
            r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:42:jobs-dead","maxReceiveCount":3}"#;
        assert_eq!(dead_letter_target(policy), Some(("42".into(), "jobs-dead".into())));
        assert_eq!(dead_letter_target("{}"), None);
        assert_eq!(max_receive_count(policy), Some(3));
        assert_eq!(max_receive_count(r#"{"maxReceiveCount":"25"}"#), Some(25));
        assert_eq!(max_receive_count("{}"), None);
    }
}
