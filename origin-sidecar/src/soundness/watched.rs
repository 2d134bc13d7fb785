//! Wraps queue and results, and records the refusals among their answers.

use super::{Call, Dependency, Soundness, is_definite};
use bytes::Bytes;
use net::boxed::Boxed;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stores::queue::{Depth, Message, Queue, QueueError, Received};
use stores::results::{Condition, Listed, Object, PutError, Results, StoreError};

/// Records the answers of one backend.
struct Ear {
    part: Dependency,
    soundness: Arc<Soundness>,
}

/// The name and the detail of an error.
type ErrorDetail<'a> = Option<(&'static str, &'a str)>;

impl Ear {
    /// Records an answer. An error that is no answer, or another error, changes nothing.
    fn hears(&self, call: Call, said: ErrorDetail<'_>) {
        match said {
            None => self.soundness.works(&self.part, call),
            Some((name, detail)) if is_definite(name) => {
                self.soundness.refuses(&self.part, call, name, detail);
            }
            Some(_) => {}
        }
    }

    async fn of_queue<T>(
        &self,
        call: Call,
        answer: Boxed<'_, Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        let answer = answer.await;
        let error = answer.as_ref().err();
        self.hears(call, error.map(|error| (error.name, error.detail.as_str())));
        answer
    }

    async fn of_results<T>(
        &self,
        call: Call,
        answer: Boxed<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = answer.await;
        let error = answer.as_ref().err();
        self.hears(call, error.map(|error| (error.name, error.detail.as_str())));
        answer
    }

    async fn of_write(
        &self,
        answer: Boxed<'_, Result<String, PutError>>,
    ) -> Result<String, PutError> {
        let answer = answer.await;
        let said = match &answer {
            Err(PutError::Failed(error)) => Some((error.name, error.detail.as_str())),
            Ok(_) | Err(PutError::Precondition) => None,
        };
        self.hears(Call::Write, said);
        answer
    }
}

pub struct WatchedQueue {
    inner: Arc<dyn Queue>,
    ear: Ear,
}

impl WatchedQueue {
    pub fn new(name: &str, inner: Arc<dyn Queue>, soundness: &Arc<Soundness>) -> Self {
        let part = Dependency::Queue(name.to_owned());
        Self { inner, ear: Ear { part, soundness: Arc::clone(soundness) } }
    }
}

impl Queue for WatchedQueue {
    fn send(&self, message: Message) -> Boxed<'_, Result<String, QueueError>> {
        self.ear.soundness.moves();
        Box::pin(self.ear.of_queue(Call::Send, self.inner.send(message)))
    }

    fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Boxed<'_, Result<Vec<Received>, QueueError>> {
        Box::pin(async move {
            let received = self.inner.receive(max, wait, visibility);
            let received = self.ear.of_queue(Call::Receive, received).await?;
            if !received.is_empty() {
                self.ear.soundness.moves();
            }
            Ok(received)
        })
    }

    fn delete<'a>(&'a self, receipt: &'a str) -> Boxed<'a, Result<(), QueueError>> {
        Box::pin(self.ear.of_queue(Call::Delete, self.inner.delete(receipt)))
    }

    fn set_visibility<'a>(
        &'a self,
        receipt: &'a str,
        visibility: Duration,
    ) -> Boxed<'a, Result<(), QueueError>> {
        Box::pin(self.ear.of_queue(Call::Hide, self.inner.set_visibility(receipt, visibility)))
    }

    fn depth(&self) -> Boxed<'_, Result<Depth, QueueError>> {
        Box::pin(self.ear.of_queue(Call::Count, self.inner.depth()))
    }

    fn dead_letters(&self) -> Boxed<'_, Result<Option<Arc<dyn Queue>>, QueueError>> {
        self.inner.dead_letters()
    }

    fn is_billed(&self) -> bool {
        self.inner.is_billed()
    }

    fn receives_max(&self) -> Option<u64> {
        self.inner.receives_max()
    }

    fn message_bytes_max(&self) -> usize {
        self.inner.message_bytes_max()
    }

    fn stands(&self) -> bool {
        self.inner.stands()
    }
}

pub struct WatchedResults {
    inner: Arc<dyn Results>,
    ear: Ear,
}

impl WatchedResults {
    pub fn new(inner: Arc<dyn Results>, soundness: &Arc<Soundness>) -> Self {
        Self { inner, ear: Ear { part: Dependency::Results, soundness: Arc::clone(soundness) } }
    }
}

impl Results for WatchedResults {
    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>> {
        Box::pin(self.ear.of_write(self.inner.put(key, body, condition)))
    }

    fn put_file<'a>(
        &'a self,
        key: &'a str,
        path: &'a Path,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>> {
        Box::pin(self.ear.of_write(self.inner.put_file(key, path, condition)))
    }

    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<(u64, u64)>,
    ) -> Boxed<'a, Result<Option<Object>, StoreError>> {
        Box::pin(self.ear.of_results(Call::Read, self.inner.get(key, range)))
    }

    /// Not recorded: S3's answer to a HEAD has no body that says what is missing.
    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(String, u64)>, StoreError>> {
        self.inner.head(key)
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), StoreError>> {
        Box::pin(self.ear.of_results(Call::Delete, self.inner.delete(key)))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        max: usize,
    ) -> Boxed<'a, Result<Vec<Listed>, StoreError>> {
        Box::pin(self.ear.of_results(Call::List, self.inner.list(prefix, after, max)))
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

    fn keeps_for_good(&self) -> bool {
        self.inner.keeps_for_good()
    }

    fn bucket(&self) -> &str {
        self.inner.bucket()
    }

    fn prefix(&self) -> &str {
        self.inner.prefix()
    }

    fn stands(&self) -> bool {
        self.inner.stands()
    }
}
