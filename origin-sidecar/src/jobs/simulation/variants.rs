//! The code with a fault of design in it. Each is a wrapper around a trait, so that the code that
//! is shipped carries no switches, and each must be caught.

use super::mailbox::millis;
use super::world::Link;
use crate::jobs::envelope::pack;
use crate::jobs::job::Job;
use crate::jobs::lines::Lines;
use crate::jobs::record::ADOPTED;
use bytes::Bytes;
use net::boxed::Boxed;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stores::queue::{Depth, Message, Queue, QueueError, Received};
use stores::results::{Condition, Listed, Object, PutError, Results, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// As it is shipped.
    Whole,
    /// 202 before the message is durable.
    SendsLater,
    /// Nobody takes a lease.
    LeasesNot,
    /// Leases are taken and never renewed.
    RenewsNot,
    /// The message is deleted when it is received.
    DeletesFirst,
    /// An adopted request is queued as well.
    QueuesAdopted,
    /// `If-None-Match` and `If-Match` are not sent.
    IgnoresConditions,
    /// The accept record of a key is written over that of an earlier request.
    TakesKeysAgain,
    /// The visibility of a running job is not extended.
    BeatsNot,
    /// The message of a job that has ended is let go instead of deleted.
    SkipsDuplicates,
}

impl Variant {
    pub(super) const BROKEN: [Self; 9] = [
        Self::SendsLater,
        Self::LeasesNot,
        Self::RenewsNot,
        Self::DeletesFirst,
        Self::QueuesAdopted,
        Self::IgnoresConditions,
        Self::TakesKeysAgain,
        Self::BeatsNot,
        Self::SkipsDuplicates,
    ];

    pub(super) fn wrap(
        self,
        link: &Link,
        queue: Arc<dyn Queue>,
        results: Arc<dyn Results>,
    ) -> (Arc<dyn Queue>, Arc<dyn Results>) {
        if self == Self::Whole {
            return (queue, results);
        }
        let skipped = Mutex::default();
        let link = link.clone();
        let own =
            BrokenQueue { variant: self, inner: Arc::clone(&queue), link: link.clone(), skipped };
        let store =
            BrokenStore { variant: self, inner: results, queue, link, written: Mutex::default() };
        (Arc::new(own), Arc::new(store))
    }
}

struct BrokenQueue {
    variant: Variant,
    inner: Arc<dyn Queue>,
    link: Link,
    /// Receipts of messages whose job had ended.
    skipped: Mutex<BTreeSet<String>>,
}

impl BrokenQueue {
    fn note_ended(&self, received: &Received) {
        let id = received.attributes.get("job-id").map_or("", String::as_str);
        let mut state = self.link.world.state();
        let job = state.job(id);
        if state.jobs[job].outcome.is_some() {
            let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
            skipped.insert(received.receipt.clone());
        }
    }
}

impl Queue for BrokenQueue {
    fn send(&self, message: Message) -> Boxed<'_, Result<String, QueueError>> {
        if self.variant != Variant::SendsLater {
            return self.inner.send(message);
        }
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            inner.send(message).await
        });
        Box::pin(std::future::ready(Ok(String::new())))
    }

    fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Boxed<'_, Result<Vec<Received>, QueueError>> {
        Box::pin(async move {
            let received = self.inner.receive(max, wait, visibility).await?;
            for received in &received {
                match self.variant {
                    Variant::DeletesFirst => self.inner.delete(&received.receipt).await?,
                    Variant::SkipsDuplicates => self.note_ended(received),
                    _ => {}
                }
            }
            Ok(received)
        })
    }

    fn delete<'a>(&'a self, receipt: &'a str) -> Boxed<'a, Result<(), QueueError>> {
        let skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        if skipped.contains(receipt) {
            return Box::pin(std::future::ready(Ok(())));
        }
        self.inner.delete(receipt)
    }

    fn set_visibility<'a>(
        &'a self,
        receipt: &'a str,
        visibility: Duration,
    ) -> Boxed<'a, Result<(), QueueError>> {
        // Longer than any backoff of these rules: only a heartbeat.
        let is_beat = super::schedule::VISIBILITIES.contains(&millis(visibility));
        if self.variant == Variant::BeatsNot && is_beat {
            return Box::pin(std::future::ready(Ok(())));
        }
        self.inner.set_visibility(receipt, visibility)
    }

    fn depth(&self) -> Boxed<'_, Result<Depth, QueueError>> {
        self.inner.depth()
    }

    fn dead_letters(&self) -> Boxed<'_, Result<Option<Arc<dyn Queue>>, QueueError>> {
        self.inner.dead_letters()
    }

    fn is_billed(&self) -> bool {
        self.inner.is_billed()
    }

    fn message_bytes_max(&self) -> usize {
        self.inner.message_bytes_max()
    }
}

struct BrokenStore {
    variant: Variant,
    inner: Arc<dyn Results>,
    queue: Arc<dyn Queue>,
    link: Link,
    /// Leases that this process has written.
    written: Mutex<BTreeSet<String>>,
}

fn is_lease(key: &str) -> bool {
    key.starts_with("leases/") || key.starts_with(ADOPTED)
}

impl BrokenStore {
    fn hides(&self, key: &str) -> bool {
        self.variant == Variant::LeasesNot && is_lease(key)
    }

    fn drops(&self, key: &str, condition: &Condition) -> bool {
        if self.variant != Variant::RenewsNot || !is_lease(key) {
            return self.hides(key);
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        !written.insert(key.to_owned()) && *condition != Condition::IfAbsent
    }

    /// The message that an adopted request would have been.
    async fn requeue(&self, id: &str) {
        let (request, number) = {
            let state = self.link.world.state();
            let own = |at: &&super::world::Execution| {
                at.process == self.link.process && at.job.is_none() && at.is_open
            };
            let Some(open) = state.executions.iter().rfind(own) else { return };
            (open.request, open.number)
        };
        let job = Job {
            id: id.to_owned(),
            route: Some("slow".to_owned()),
            bare: None,
            method: "POST".to_owned(),
            target: "/slow".to_owned(),
            host: "app".to_owned(),
            headers: Lines(vec![(
                "user-agent".to_owned(),
                format!("try-{number}").as_str().into(),
            )]),
            body: Bytes::from(request.to_string()).into(),
            group: None,
            deadline: None,
            sealed: None,
            token: None,
        };
        if let Ok(message) = pack(&job, self.inner.as_ref(), usize::MAX).await {
            let _ = self.queue.send(message).await;
        }
    }
}

impl Results for BrokenStore {
    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>> {
        if self.drops(key, &condition) {
            return Box::pin(std::future::ready(Ok("\"none\"".to_owned())));
        }
        let condition = match self.variant {
            Variant::IgnoresConditions => Condition::Always,
            Variant::TakesKeysAgain if key.starts_with("jobs/") => Condition::Always,
            _ => condition,
        };
        Box::pin(async move {
            let etag = self.inner.put(key, body, condition).await?;
            if self.variant == Variant::QueuesAdopted
                && let Some(id) = key.strip_prefix(ADOPTED)
            {
                self.requeue(id).await;
            }
            Ok(etag)
        })
    }

    fn put_file<'a>(
        &'a self,
        key: &'a str,
        path: &'a Path,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>> {
        self.inner.put_file(key, path, condition)
    }

    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<(u64, u64)>,
    ) -> Boxed<'a, Result<Option<Object>, StoreError>> {
        if self.hides(key) {
            return Box::pin(std::future::ready(Ok(None)));
        }
        self.inner.get(key, range)
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(String, u64)>, StoreError>> {
        if self.hides(key) {
            return Box::pin(std::future::ready(Ok(None)));
        }
        self.inner.head(key)
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), StoreError>> {
        self.inner.delete(key)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        max: usize,
    ) -> Boxed<'a, Result<Vec<Listed>, StoreError>> {
        self.inner.list(prefix, after, max)
    }

    fn signed_url<'a>(
        &'a self,
        key: &'a str,
        life: Duration,
        headers: &'a [(String, String)],
    ) -> Boxed<'a, Result<Option<String>, StoreError>> {
        self.inner.signed_url(key, life, headers)
    }

    fn is_billed(&self) -> bool {
        self.inner.is_billed()
    }

    fn bucket(&self) -> &str {
        self.inner.bucket()
    }
}
