//! The calls to the SDK, and its answers.

use super::batch::Entry;
use super::error;
use crate::local::millis;
use crate::queue::limits::{ATTRIBUTE_TYPE, WAIT_MAX};
use crate::queue::{Message, QueueError, Received};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Config;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, DeleteMessageBatchRequestEntry, Message as SdkMessage,
    MessageAttributeValue, MessageSystemAttributeName, SendMessageBatchRequestEntry,
};
use rules::UnixMillis;
use std::time::Duration;

/// How much longer than its wait a receive may take before the connection counts as dead. Without
/// a bound the SDK has waited for ever (aws-sdk-rust#1094).
const RECEIVE_SLACK: Duration = Duration::from_secs(10);

/// The results of a batch by position, which is the id that we give SQS for each entry.
type BatchResults<R> = Vec<Option<Result<R, QueueError>>>;

pub(super) async fn send(client: &Client, url: &str, entries: Vec<Entry<Message, String>>) {
    let (messages, answers) = split(entries);
    let call = messages.into_iter().enumerate().map(send_entry).collect::<Result<Vec<_>, _>>();
    let call = match call {
        Ok(call) => call,
        Err(fault) => return fail(answers, &not_built(&fault)),
    };
    let count = call.len();
    let output = client.send_message_batch().queue_url(url).set_entries(Some(call)).send().await;
    match output {
        Err(fault) => fail(answers, &error::of(&fault)),
        Ok(output) => {
            let mut results = failures(count, &output.failed);
            for sent in output.successful {
                set(&mut results, &sent.id, Ok(sent.message_id));
            }
            answer(answers, results);
        }
    }
}

pub(super) async fn delete(client: &Client, url: &str, entries: Vec<Entry<String, ()>>) {
    let (receipts, answers) = split(entries);
    let call = receipts.into_iter().enumerate().map(|(at, receipt)| {
        DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(receipt).build()
    });
    let call = match call.collect::<Result<Vec<_>, _>>() {
        Ok(call) => call,
        Err(fault) => return fail(answers, &not_built(&fault)),
    };
    let count = call.len();
    let output = client.delete_message_batch().queue_url(url).set_entries(Some(call)).send().await;
    match output {
        Err(fault) => fail(answers, &error::of(&fault)),
        Ok(output) => {
            let mut results = failures(count, &output.failed);
            for deleted in output.successful {
                set(&mut results, &deleted.id, Ok(()));
            }
            answer(answers, results);
        }
    }
}

pub(super) async fn receive(
    client: &Client,
    url: &str,
    max: i32,
    wait: Duration,
    visibility: Duration,
) -> Result<Vec<Received>, QueueError> {
    let wait = seconds(wait.min(WAIT_MAX));
    let bound = Duration::from_secs(u64::try_from(wait).unwrap_or(0)) + RECEIVE_SLACK;
    let timeouts =
        TimeoutConfig::builder().operation_attempt_timeout(bound).operation_timeout(bound).build();
    // The consumer's loop asks again by itself; a retry here would wait a second time.
    let bounded = Config::builder().timeout_config(timeouts).retry_config(RetryConfig::disabled());
    let output = client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(max)
        .wait_time_seconds(wait)
        .visibility_timeout(seconds(visibility))
        .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
        .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
        .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId)
        .message_attribute_names("All")
        .customize()
        .config_override(bounded)
        .send()
        .await
        .map_err(|fault| error::of(&fault))?;
    Ok(output.messages.unwrap_or_default().into_iter().filter_map(received).collect())
}

/// The duration in seconds, as SQS counts, rounded up so that only zero releases the message.
pub(super) fn seconds(duration: Duration) -> i32 {
    i32::try_from(millis(duration).0.div_ceil(1000)).unwrap_or(i32::MAX)
}

fn send_entry((at, message): (usize, Message)) -> Result<SendMessageBatchRequestEntry, BuildError> {
    let mut entry =
        SendMessageBatchRequestEntry::builder().id(at.to_string()).message_body(message.body);
    entry = entry.set_message_group_id(message.group);
    for (name, value) in message.attributes {
        let value = MessageAttributeValue::builder()
            .data_type(ATTRIBUTE_TYPE)
            .string_value(value)
            .build()?;
        entry = entry.message_attributes(name, value);
    }
    entry.build()
}

/// A received message; none for one without a receipt handle, with which nothing could be done. SQS sends no
/// such message.
fn received(message: SdkMessage) -> Option<Received> {
    let number = |name| message.attributes.as_ref()?.get(&name)?.parse::<u64>().ok();
    let receives = number(MessageSystemAttributeName::ApproximateReceiveCount).unwrap_or(1);
    let sent =
        number(MessageSystemAttributeName::SentTimestamp).map(UnixMillis).unwrap_or_default();
    let group = message.attributes.as_ref();
    let group = group.and_then(|it| it.get(&MessageSystemAttributeName::MessageGroupId)).cloned();
    // Binary attributes of other producers have no text and mean nothing to a job.
    let attributes = message.message_attributes.unwrap_or_default();
    let attributes =
        attributes.into_iter().filter_map(|(name, value)| Some((name, value.string_value?)));
    Some(Received {
        id: message.message_id.unwrap_or_default(),
        receipt: message.receipt_handle?,
        body: message.body.unwrap_or_default(),
        attributes: attributes.collect(),
        group,
        receives,
        sent,
    })
}

type Answers<R> = Vec<tokio::sync::oneshot::Sender<Result<R, QueueError>>>;

/// Leaves out the calls for which nobody waits any more: their callers were told of a failure.
fn split<T, R>(entries: Vec<Entry<T, R>>) -> (Vec<T>, Answers<R>) {
    let alive = entries.into_iter().filter(|it| !it.answer.is_closed());
    alive.map(|it| (it.item, it.answer)).unzip()
}

fn failures<R>(count: usize, failed: &[BatchResultErrorEntry]) -> BatchResults<R> {
    let mut results: BatchResults<R> = (0..count).map(|_| None).collect();
    for entry in failed {
        let detail = format!("{}: {}", entry.code, entry.message.as_deref().unwrap_or("no reason"));
        set(&mut results, &entry.id, Err(QueueError { name: error::name(&entry.code), detail }));
    }
    results
}

fn set<R>(results: &mut BatchResults<R>, id: &str, result: Result<R, QueueError>) {
    let place = id.parse().ok().and_then(|at: usize| results.get_mut(at));
    if let Some(place) = place {
        *place = Some(result);
    }
}

fn answer<R>(answers: Answers<R>, results: BatchResults<R>) {
    for (answer, result) in answers.into_iter().zip(results) {
        let missing = || QueueError {
            name: "unavailable",
            detail: "SQS did not say what became of this entry of the batch".into(),
        };
        // It does not matter if nobody waits any more.
        let _ = answer.send(result.unwrap_or_else(|| Err(missing())));
    }
}

fn fail<R>(answers: Answers<R>, error: &QueueError) {
    for answer in answers {
        let _ = answer.send(Err(error.clone()));
    }
}

fn not_built(fault: &BuildError) -> QueueError {
    QueueError { name: "refused", detail: fault.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_failures_reach_their_own_caller() {
        let failed = BatchResultErrorEntry::builder()
            .id("1")
            .code("InternalError")
            .sender_fault(false)
            .build()
            .expect("complete");
        let mut results = failures(3, &[failed]);
        set(&mut results, "0", Ok('a'));
        set(&mut results, "7", Ok('x'));
        let (answers, mut waiting): (Vec<_>, Vec<_>) =
            (0..3).map(|_| tokio::sync::oneshot::channel()).unzip();
        answer(answers, results);
        let mut name = |at: usize| {
            let result = waiting[at].try_recv().expect("answered");
            result.map_err(|error| error.name)
        };
        assert_eq!((name(0), name(1), name(2)), (Ok('a'), Err("unavailable"), Err("unavailable")));
    }

    #[test]
    fn only_zero_releases() {
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
    }
}
