//! Collects single calls into one batch call: a batch of ten costs SQS and its bill as much as one.

use crate::queue::QueueError;
use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The largest number of entries in one batch call of SQS.
const ENTRIES_MAX: usize = 10;

/// One call that waits for its batch.
pub(super) struct Entry<T, R> {
    pub item: T,
    /// The size as SQS counts it; zero where the size does not matter.
    pub bytes: usize,
    pub answer: oneshot::Sender<Result<R, QueueError>>,
}

/// What the caller has to do after adding an entry.
pub(super) struct Added<T, R> {
    /// Batches that are full and go now.
    pub full: Vec<Vec<Entry<T, R>>>,
    /// The entry began a batch: the caller takes it by this number after a short while.
    pub began: Option<u64>,
}

pub(super) struct Batch<T, R> {
    state: Mutex<State<T, R>>,
}

struct State<T, R> {
    entries: Vec<Entry<T, R>>,
    bytes: usize,
    /// The number of the batch to which the entries belong, so that a late timer does not take the next
    /// batch.
    number: u64,
}

impl<T, R> Batch<T, R> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { entries: Vec::new(), bytes: 0, number: 0 }) }
    }

    /// Adds an entry of at most `bytes_max` bytes, which is also the limit of a batch.
    pub(super) fn add(&self, entry: Entry<T, R>, bytes_max: usize) -> Added<T, R> {
        let mut state = self.lock();
        let mut full = Vec::new();
        if state.bytes + entry.bytes > bytes_max && !state.entries.is_empty() {
            full.push(state.next());
        }
        state.bytes += entry.bytes;
        state.entries.push(entry);
        let began = (state.entries.len() == 1).then_some(state.number);
        if state.entries.len() == ENTRIES_MAX {
            full.push(state.next());
        }
        Added { full, began }
    }

    /// The entries of that batch, unless they have gone already.
    pub(super) fn take(&self, number: u64) -> Option<Vec<Entry<T, R>>> {
        let mut state = self.lock();
        (state.number == number).then(|| state.next())
    }

    fn lock(&self) -> MutexGuard<'_, State<T, R>> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R> State<T, R> {
    fn next(&mut self) -> Vec<Entry<T, R>> {
        self.number += 1;
        self.bytes = 0;
        take(&mut self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(batch: &Batch<char, ()>, item: char, bytes: usize) -> (Vec<String>, Option<u64>) {
        let (answer, _) = oneshot::channel();
        let added = batch.add(Entry { item, bytes, answer }, 100);
        (added.full.into_iter().map(text).collect(), added.began)
    }

    fn text(entries: Vec<Entry<char, ()>>) -> String {
        entries.iter().map(|it| it.item).collect()
    }

    #[test]
    fn the_tenth_entry_sends_the_batch() {
        let batch = Batch::new();
        assert_eq!(add(&batch, 'a', 1), (vec![], Some(0)));
        for item in 'b'..='i' {
            assert_eq!(add(&batch, item, 1), (vec![], None));
        }
        assert_eq!(add(&batch, 'j', 1), (vec!["abcdefghij".to_owned()], None));
        assert_eq!(add(&batch, 'k', 1), (vec![], Some(1)));
    }

    #[test]
    fn bytes_end_a_batch_before_the_entry_that_is_too_much() {
        let batch = Batch::new();
        add(&batch, 'a', 60);
        assert_eq!(add(&batch, 'b', 40), (vec![], None));
        assert_eq!(add(&batch, 'c', 1), (vec!["ab".to_owned()], Some(1)));
        assert_eq!(add(&batch, 'd', 100), (vec!["c".to_owned()], Some(2)));
    }

    #[test]
    fn a_late_timer_takes_nothing() {
        let batch = Batch::new();
        let (_, began) = add(&batch, 'a', 100);
        add(&batch, 'b', 100);
        assert!(batch.take(began.expect("the first")).is_none());
        assert_eq!(batch.take(1).map(text).as_deref(), Some("b"));
    }
}
