//! SQS: the AWS JSON 1.0 protocol that the SDKs speak, standard queues only. The MD5 sums of the
//! real service are left out: neither the Rust SDK nor boto3 looks at them.

mod entry;
mod queue;

use super::faults::{Fault, Faults};
use entry::{Refusal, message, seconds, text};
use queue::{Held, How, Queue};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What the queues are said to belong to.
pub(super) const ACCOUNT: &str = "000000000000";
const REGION: &str = "eu-west-1";
/// Bytes of a message and of a batch, attributes included.
const BYTES_MAX: usize = 1 << 20;
const ENTRIES_MAX: usize = 10;
const VISIBILITY: u64 = 30;
const VISIBILITY_MAX: u64 = 12 * 60 * 60;
const WAIT_MAX: u64 = 20;

type Answer = Result<Value, Refusal>;

pub(super) struct Sqs {
    pub faults: Arc<Faults>,
    queues: Mutex<HashMap<String, Queue>>,
    /// Something may have become visible.
    shown: Notify,
    ids: Mutex<u64>,
}

impl Sqs {
    pub(super) fn new() -> Self {
        let (queues, shown) = (Mutex::default(), Notify::new());
        Self { faults: Arc::default(), queues, shown, ids: Mutex::default() }
    }

    /// One call; `base` is the address that queue URLs begin with.
    pub(super) async fn call(
        &self,
        operation: &str,
        input: &Value,
        base: &str,
        fault: Fault,
    ) -> Answer {
        match operation {
            "CreateQueue" => self.create(input, base),
            "GetQueueUrl" => self.queue_url(input, base),
            "GetQueueAttributes" => self.attributes(input),
            "SendMessage" => self.send(input, BYTES_MAX),
            "ReceiveMessage" => self.receive(input).await,
            "DeleteMessage" => self.delete(input),
            "ChangeMessageVisibility" => self.change_visibility(input),
            "SendMessageBatch" => {
                entry::batch_fits(input)?;
                self.batch(input, fault, |entry| self.send(entry, BYTES_MAX))
            }
            "DeleteMessageBatch" => self.batch(input, fault, |entry| self.delete(entry)),
            "ChangeMessageVisibilityBatch" => {
                self.batch(input, fault, |entry| self.change_visibility(entry))
            }
            other => Err(Refusal::new("InvalidAction", format!("{other} is not there"))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.queues.lock().expect("no panic")
    }

    /// Does something with the queue that the input names by its URL.
    fn with<T>(
        &self,
        input: &Value,
        act: impl FnOnce(&mut Queue) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let url = text(input, "QueueUrl")?;
        let name = url.rsplit('/').next().unwrap_or_default();
        act(self.lock().get_mut(name).ok_or_else(Refusal::no_queue)?)
    }

    fn create(&self, input: &Value, base: &str) -> Answer {
        let name = text(input, "QueueName")?;
        let given = input["Attributes"].as_object().cloned().unwrap_or_default();
        let attributes = given.into_iter().map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name, value)
        });
        let mut queues = self.lock();
        let queue = queues.entry(name.to_owned()).or_default();
        queue.attributes.extend(attributes);
        Ok(json!({ "QueueUrl": format!("{base}/{ACCOUNT}/{name}") }))
    }

    fn queue_url(&self, input: &Value, base: &str) -> Answer {
        let name = text(input, "QueueName")?;
        if !self.lock().contains_key(name) {
            return Err(Refusal::no_queue());
        }
        Ok(json!({ "QueueUrl": format!("{base}/{ACCOUNT}/{name}") }))
    }

    fn attributes(&self, input: &Value) -> Answer {
        let name = text(input, "QueueUrl")?.rsplit('/').next().unwrap_or_default().to_owned();
        self.with(input, |queue| {
            let (visible, hidden) = queue.counts();
            let mut all: HashMap<String, String> = HashMap::from([
                ("ApproximateNumberOfMessages".to_owned(), visible.to_string()),
                ("ApproximateNumberOfMessagesNotVisible".to_owned(), hidden.to_string()),
                ("ApproximateNumberOfMessagesDelayed".to_owned(), "0".to_owned()),
                ("MaximumMessageSize".to_owned(), BYTES_MAX.to_string()),
                ("VisibilityTimeout".to_owned(), VISIBILITY.to_string()),
                ("QueueArn".to_owned(), format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")),
            ]);
            all.extend(queue.attributes.clone());
            let names = input["AttributeNames"].as_array().cloned().unwrap_or_default();
            let is_all = names.iter().any(|name| name == "All");
            all.retain(|name, _| is_all || names.iter().any(|wanted| wanted == name));
            Ok(json!({ "Attributes": all }))
        })
    }

    fn send(&self, input: &Value, bytes_max: usize) -> Answer {
        let id = {
            let mut ids = self.ids.lock().expect("no panic");
            *ids += 1;
            format!("{:08x}-0000-4000-8000-{:012x}", *ids >> 48, *ids & 0xffff_ffff_ffff)
        };
        let delay = seconds(input, "DelaySeconds", 900)?.unwrap_or(0);
        self.with(input, |queue| {
            let own = queue.number("MaximumMessageSize").and_then(|own| usize::try_from(own).ok());
            let message = message(input, id.clone(), own.unwrap_or(bytes_max))?;
            queue.send(message, Duration::from_secs(delay));
            Ok(())
        })?;
        self.shown.notify_waiters();
        Ok(json!({ "MessageId": id }))
    }

    async fn receive(&self, input: &Value) -> Answer {
        let until = Instant::now()
            + Duration::from_secs(seconds(input, "WaitTimeSeconds", WAIT_MAX)?.unwrap_or(0));
        let max = input["MaxNumberOfMessages"].as_u64().unwrap_or(1);
        if !(1..=10).contains(&max) {
            return Err(Refusal::invalid("MaxNumberOfMessages is from 1 to 10"));
        }
        let visibility = seconds(input, "VisibilityTimeout", VISIBILITY_MAX)?;
        loop {
            let mut shown = std::pin::pin!(self.shown.notified());
            // From here on no send is missed.
            shown.as_mut().enable();
            let (messages, next) = self.take(input, max, visibility)?;
            if !messages.is_empty() {
                return Ok(json!({ "Messages": messages }));
            }
            if Instant::now() >= until {
                return Ok(json!({}));
            }
            tokio::select! {
                () = shown => {}
                () = sleep_until(next.map_or(until, |next| next.min(until))) => {}
            }
        }
    }

    /// What is visible now, and when something else will be.
    fn take(
        &self,
        input: &Value,
        max: u64,
        visibility: Option<u64>,
    ) -> Result<(Vec<Value>, Option<Instant>), Refusal> {
        let mut dead = Vec::new();
        let (taken, next, target) = self.with(input, |queue| {
            let own = queue.number("VisibilityTimeout").unwrap_or(VISIBILITY);
            let visibility = Duration::from_secs(visibility.unwrap_or(own));
            let redrive = queue.redrive();
            let how = How {
                newest_first: self.faults.reorders(),
                twice: self.faults.duplicates(),
                max_receives: redrive.as_ref().map_or(u64::MAX, |(_, max)| *max),
            };
            let mut taken = Vec::new();
            while (taken.len() as u64) < max
                && let Some((message, receipt)) = queue.receive(visibility, how, &mut dead)
            {
                taken.push(entry::received(&message, &receipt, input));
            }
            Ok((taken, queue.next_visible(), redrive.map(|(target, _)| target)))
        })?;
        let mut queues = self.lock();
        if let Some(target) = target.and_then(|target| queues.get_mut(&target)) {
            dead.into_iter().for_each(|message| target.send(message, Duration::ZERO));
        }
        Ok((taken, next))
    }

    fn delete(&self, input: &Value) -> Answer {
        let handle = text(input, "ReceiptHandle")?;
        match self.with(input, |queue| Ok(queue.delete(handle)))? {
            Held::Stale => Err(Refusal::stale()),
            // A delete may be repeated.
            Held::Yes | Held::Gone => Ok(json!({})),
        }
    }

    fn change_visibility(&self, input: &Value) -> Answer {
        let handle = text(input, "ReceiptHandle")?;
        let visibility = seconds(input, "VisibilityTimeout", VISIBILITY_MAX)?
            .ok_or_else(|| Refusal::invalid("VisibilityTimeout is missing"))?;
        let visibility = Duration::from_secs(visibility);
        match self.with(input, |queue| Ok(queue.set_visibility(handle, visibility)))? {
            Held::Yes => {
                self.shown.notify_waiters();
                Ok(json!({}))
            }
            Held::Stale => Err(Refusal::stale()),
            Held::Gone => Err(Refusal::new("MessageNotInflight", "the message is not in flight")),
        }
    }

    /// Each entry by itself, as if it had been called alone.
    fn batch(&self, input: &Value, fault: Fault, act: impl Fn(&Value) -> Answer) -> Answer {
        let entries = input["Entries"].as_array().cloned().unwrap_or_default();
        if entries.is_empty() {
            return Err(Refusal::new("EmptyBatchRequest", "there are no entries"));
        }
        if entries.len() > ENTRIES_MAX {
            return Err(Refusal::new("TooManyEntriesInBatchRequest", "more than ten entries"));
        }
        let url = text(input, "QueueUrl")?;
        self.with(input, |_| Ok(()))?;
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for mut entry in entries {
            let id = text(&entry, "Id")?.to_owned();
            entry["QueueUrl"] = url.into();
            let done = match self.faults.fails_entry(fault) {
                true => Err(Refusal::broken()),
                false => act(&entry),
            };
            match done {
                Ok(mut answer) => {
                    answer["Id"] = id.into();
                    successful.push(answer);
                }
                Err(refusal) => failed.push(refusal.of_entry(&id)),
            }
        }
        Ok(json!({ "Successful": successful, "Failed": failed }))
    }

    /// Visible, and in flight; nothing for a queue that is not there.
    pub(super) fn counts(&self, queue: &str) -> (usize, usize) {
        self.lock().get(queue).map_or((0, 0), Queue::counts)
    }

    pub(super) fn bodies(&self, queue: &str) -> Vec<String> {
        self.lock().get(queue).map(Queue::bodies).unwrap_or_default()
    }

    pub(super) fn values(&self, queue: &str, attribute: &str) -> Vec<String> {
        self.lock().get(queue).map(|queue| queue.values(attribute)).unwrap_or_default()
    }
}
