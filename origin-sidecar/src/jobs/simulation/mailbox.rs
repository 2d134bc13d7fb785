//! The queue: visibility, receive counts, dead letters, duplicates, reordering, old receipts.

use super::check;
use super::faults::{Rng, Weather};
use super::log::{Event, NOBODY, What};
use super::world::{Link, State, To};
use net::boxed::Boxed;
use rules::UnixMillis;
use std::sync::Arc;
use std::time::Duration;
use stores::queue::{Depth, Message, Queue, QueueError, Received};

/// Small, so that ordinary bodies need a claim check.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// How much later a duplicate comes, at most.
const DUPLICATE_MS: u64 = 3_000;
const UNDEAD_MS: u64 = 20_000;

struct Letter {
    number: u64,
    job: usize,
    message: Message,
    receives: u64,
    sent: u64,
    visible: u64,
    /// It was deleted once and came again.
    is_undead: bool,
    /// Who has it in hand, and for how long at a time; `None` when it was given back, or was
    /// delivered twice at once.
    held: Option<(usize, u64)>,
}

pub(super) struct Mailbox {
    letters: Vec<Letter>,
    /// Jobs of the dead letters.
    pub dead: Vec<usize>,
    buried_after: u64,
    sent: u64,
}

/// `number/receives`
fn parse(receipt: &str) -> Option<(u64, u64)> {
    let (number, receives) = receipt.split_once('/')?;
    Some((number.parse().ok()?, receives.parse().ok()?))
}

impl Mailbox {
    pub(super) fn new(buried_after: u64) -> Self {
        Self { letters: Vec::new(), dead: Vec::new(), buried_after, sent: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    pub(super) fn next_visible(&self) -> Option<u64> {
        self.letters.iter().map(|letter| letter.visible).min()
    }

    /// The letter that a receipt names, if the receipt is good for it.
    fn find(&mut self, receipt: &str, takes_old: bool) -> Option<&mut Letter> {
        let (number, receives) = parse(receipt)?;
        let is_it = |letter: &&mut Letter| {
            letter.number == number && (letter.receives == receives || takes_old)
        };
        self.letters.iter_mut().find(is_it)
    }

    fn choose(&self, now: u64, rng: &mut Rng, is_reordered: bool) -> Option<usize> {
        let visible = self.letters.iter().enumerate().filter(|(_, letter)| letter.visible <= now);
        let mut visible: Vec<(u64, usize)> =
            visible.map(|(at, letter)| (letter.visible, at)).collect();
        visible.sort_unstable();
        let end = if is_reordered { visible.len() as u64 } else { 1 };
        let (_, at) = visible.get(usize::try_from(rng.below(end)).unwrap_or(0))?;
        Some(*at)
    }
}

impl State {
    fn send(&mut self, now: u64, time: u64, message: Message) -> String {
        let id = message.attributes.get("job-id").cloned().unwrap_or_default();
        let job = self.job(&id);
        self.jobs[job].is_sent = true;
        self.mailbox.sent += 1;
        let number = self.mailbox.sent;
        self.log.push(Event {
            at: now,
            process: NOBODY,
            what: What::Sent { message: number, job },
        });
        let (receives, is_undead) = (0, false);
        self.mailbox.letters.push(Letter {
            number,
            job,
            message,
            receives,
            sent: time,
            visible: now,
            is_undead,
            held: None,
        });
        format!("m{number}")
    }

    fn take(&mut self, at: usize, now: u64, visibility: u64, process: usize) -> Option<Received> {
        let Weather { duplicated, .. } = self.weather;
        let buried_after = self.mailbox.buried_after;
        let letter = &mut self.mailbox.letters[at];
        let (message, job) = (letter.number, letter.job);
        if letter.receives >= buried_after {
            self.mailbox.letters.remove(at);
            self.mailbox.dead.push(job);
            self.log.push(Event { at: now, process, what: What::Buried { message, job } });
            return None;
        }
        let held = letter.held.replace((process, visibility));
        let came = letter.visible;
        letter.receives += 1;
        letter.visible = now + visibility;
        let receives = letter.receives;
        self.log.push(Event { at: now, process, what: What::Received { message, job, receives } });
        if self.rng.chance(duplicated) {
            letter.visible = now + self.rng.below(DUPLICATE_MS);
            letter.held = None;
            self.log.push(Event { at: now, process, what: What::Twice { message } });
        }
        let received = Received {
            id: format!("m{message}"),
            receipt: format!("{message}/{receives}"),
            body: letter.message.body.clone(),
            attributes: letter.message.attributes.clone(),
            group: letter.message.group.clone(),
            receives,
            sent: UnixMillis(letter.sent),
        };
        if let Some((holder, ms)) = held {
            check::received(self, came, (message, job), (holder, ms));
        }
        Some(received)
    }

    fn take_visible(&mut self, now: u64, max: usize, ms: u64, process: usize) -> Vec<Received> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let is_reordered = self.weather.is_reordered;
            let Some(at) = self.mailbox.choose(now, &mut self.rng, is_reordered) else { break };
            if let Some(received) = self.take(at, now, ms.max(1), process) {
                taken.push(received);
            }
        }
        taken
    }

    fn delete_letter(&mut self, now: u64, receipt: &str) -> bool {
        let Weather { undead, takes_old_receipts, .. } = self.weather;
        let (message, _) = parse(receipt).unwrap_or_default();
        let mut note = |what| self.log.push(Event { at: now, process: NOBODY, what });
        let Some(letter) = self.mailbox.find(receipt, takes_old_receipts) else {
            note(What::Stale { message });
            return false;
        };
        note(What::Deleted { message });
        if !letter.is_undead && self.rng.chance(undead) {
            letter.is_undead = true;
            letter.visible = now + self.rng.below(UNDEAD_MS);
            letter.held = None;
            note(What::Undead { message });
        } else {
            self.mailbox.letters.retain(|letter| letter.number != message);
        }
        true
    }

    fn hide_letter(&mut self, now: u64, receipt: &str, ms: u64) -> bool {
        let takes_old = self.weather.takes_old_receipts;
        let (message, receives) = parse(receipt).unwrap_or_default();
        let found = self.mailbox.find(receipt, takes_old).map(|letter| {
            letter.visible = now + ms;
            // Only a heartbeat hides it for as long as the delivery did.
            let is_beat = |(_, held): &(usize, u64)| *held == ms && letter.receives == receives;
            letter.held = letter.held.filter(is_beat);
        });
        let what = found.map_or(What::Stale { message }, |()| What::Hidden { message, ms });
        self.log.push(Event { at: now, process: NOBODY, what });
        found.is_some()
    }
}

/// One process's handle to the queue.
pub(super) struct SimQueue(pub Link);

fn failed() -> QueueError {
    QueueError { name: "unavailable", detail: "trouble".to_owned() }
}

fn stale() -> QueueError {
    QueueError { name: "receipt-stale", detail: "received again, or gone".to_owned() }
}

pub(super) fn millis(of: Duration) -> u64 {
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX)
}

impl SimQueue {
    async fn poll(
        &self,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Received>, QueueError> {
        let Link { world, process } = &self.0;
        self.0.living().await;
        let course = self.0.course(To::Queue, "receive");
        let Some(before) = course.effect else {
            tokio::time::sleep(Duration::from_millis(course.answer)).await;
            return Err(failed());
        };
        tokio::time::sleep(Duration::from_millis(before)).await;
        let until = world.now() + millis(wait);
        let taken = loop {
            let mut arrived = std::pin::pin!(world.arrived.notified());
            arrived.as_mut().enable();
            self.0.living().await;
            let now = world.now();
            let mut next = until;
            {
                let mut state = world.state();
                if now < state.queue_out_until.max(state.processes[*process].cut_off_until) {
                    return Err(failed());
                }
                let taken = state.take_visible(now, max, millis(visibility), *process);
                if !taken.is_empty() || now >= until {
                    if !course.is_smooth() {
                        state.troubled(*process, now + course.answer);
                    }
                    break taken;
                }
                next = state.mailbox.next_visible().map_or(next, |visible| next.min(visible));
            }
            let pause = Duration::from_millis(next.saturating_sub(now).max(1));
            let _ = tokio::time::timeout(pause, arrived).await;
        };
        let rest = Duration::from_millis(course.answer.saturating_sub(before));
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        self.0.living().await;
        if course.is_told { Ok(taken) } else { Err(failed()) }
    }
}

impl Queue for SimQueue {
    fn send(&self, message: Message) -> Boxed<'_, Result<String, QueueError>> {
        Box::pin(async move {
            let sent = self.0.call(To::Queue, "send", move |link| {
                let (now, time) = (link.world.now(), link.world.time());
                let id = link.world.state().send(now, time.0, message);
                link.world.arrived.notify_waiters();
                id
            });
            sent.await.ok_or_else(failed)
        })
    }

    fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Boxed<'_, Result<Vec<Received>, QueueError>> {
        Box::pin(self.poll(max, wait, visibility))
    }

    fn delete<'a>(&'a self, receipt: &'a str) -> Boxed<'a, Result<(), QueueError>> {
        let receipt = receipt.to_owned();
        Box::pin(async move {
            let deleted = self.0.call(To::Queue, "delete", move |link| {
                let now = link.world.now();
                link.world.state().delete_letter(now, &receipt)
            });
            deleted.await.ok_or_else(failed)?.then_some(()).ok_or_else(stale)
        })
    }

    fn set_visibility<'a>(
        &'a self,
        receipt: &'a str,
        visibility: Duration,
    ) -> Boxed<'a, Result<(), QueueError>> {
        let receipt = receipt.to_owned();
        Box::pin(async move {
            let hidden = self.0.call(To::Queue, "hide", move |link| {
                let now = link.world.now();
                let hidden = link.world.state().hide_letter(now, &receipt, millis(visibility));
                link.world.arrived.notify_waiters();
                hidden
            });
            hidden.await.ok_or_else(failed)?.then_some(()).ok_or_else(stale)
        })
    }

    fn depth(&self) -> Boxed<'_, Result<Depth, QueueError>> {
        Box::pin(std::future::ready(Ok(Depth::default())))
    }

    fn dead_letters(&self) -> Boxed<'_, Result<Option<Arc<dyn Queue>>, QueueError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn is_billed(&self) -> bool {
        true
    }

    fn message_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX
    }
}
