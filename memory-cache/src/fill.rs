//! An answer that is stored while it comes in, and read meanwhile by all who asked for it.
//!
//! What has come lies in one piece of memory, from which each reader takes copies at its own pace. Once it
//! turns out that the answer can't be kept, only what the slowest reader lacks is held, and no more than the
//! most that an answer may have: then that reader is cut off.

use crate::purge::Mark;
use crate::room::{Room, UNKNOWN_BYTES_MIN};
use crate::store::Store;
use crate::stored::{Stored, mapped, own};
use crate::weight;
use bytes::Bytes;
use memmap2::MmapMut;
use rules::cache::NotStored;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bytes that a reader takes at once: a read from the application has as many at most.
const PIECE_BYTES_MAX: usize = 128 * 1024;
/// Bytes of an answer that is not kept which are read ahead of its fastest reader.
const AHEAD_BYTES_MAX: u64 = 128 * 1024;
/// Bytes of it that are held for a slower reader, however little room there is: one who has read all that
/// there was is not cut off by the next piece.
const WINDOW_BYTES_MIN: u64 = AHEAD_BYTES_MAX + PIECE_BYTES_MAX as u64;

/// What all readers of one answer share.
pub struct Fill {
    /// The answer but for its body, and but for its length where that is not known yet.
    pub head: Arc<Stored>,
    /// The length of the body in bytes, where the answer announced it.
    pub length: Option<u64>,
    /// When the fetch of the answer began.
    pub mark: Mark,
    /// Hash of the rules under which the fetch began.
    pub config: Arc<str>,
    state: Mutex<State>,
}

struct State {
    memory: Memory,
    /// Counts that memory for as long as somebody reads from it.
    room: Room,
    /// How many bytes of the body have come so far.
    came: u64,
    end: Option<End>,
    readers: BTreeMap<u64, Place>,
    /// How many readers there have been so far; numbers them.
    count: u64,
    filler: Option<Waker>,
}

enum Memory {
    /// The whole body so far, in as many pages as the answer needs.
    Pages(MmapMut),
    /// The whole body so far, in a block that grows.
    Whole(Vec<u8>),
    /// Only the last part of what has come, because the answer is not kept.
    Window(VecDeque<u8>),
}

enum End {
    /// The body is complete and kept.
    Whole(Bytes),
    /// The body is complete but not kept; what some reader still lacks is in the window.
    Over,
    Broken,
}

/// How far one reader has read.
struct Place {
    at: u64,
    /// Whether it is the reader of the request that caused the fetch: others must not slow it down, and it is
    /// not cut off.
    is_leader: bool,
    is_cut: bool,
    waker: Option<Waker>,
}

impl Fill {
    /// Adds a reader of the whole answer; none once its beginning is no longer held, or the fetch broke off.
    pub fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        let is_whole = !state.is_window() && !matches!(state.end, Some(End::Broken));
        is_whole.then(|| self.reader(&mut state, false))
    }

    fn reader(self: &Arc<Self>, state: &mut State, is_leader: bool) -> Reader {
        state.count += 1;
        let id = state.count;
        state.readers.insert(id, Place { at: 0, is_leader, is_cut: false, waker: None });
        Reader { fill: Arc::clone(self), id, at: 0, to: self.length }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many bytes at the beginning are no longer held.
    fn start(&self) -> u64 {
        match &self.memory {
            Memory::Pages(_) | Memory::Whole(_) => 0,
            Memory::Window(held) => self.came - held.len() as u64,
        }
    }

    fn is_window(&self) -> bool {
        matches!(self.memory, Memory::Window(_))
    }

    /// The bytes from `at` on: a copy of a piece, or a handle on the rest of the whole body.
    fn piece(&self, at: u64, most: u64) -> Bytes {
        let offset = (at - self.start()) as usize;
        let all = most.min(self.came - at) as usize;
        if let Some(End::Whole(body)) = &self.end {
            return body.slice(offset..offset + all);
        }
        let length = all.min(PIECE_BYTES_MAX);
        match &self.memory {
            Memory::Pages(pages) => Bytes::copy_from_slice(&pages[offset..offset + length]),
            Memory::Whole(bytes) => Bytes::copy_from_slice(&bytes[offset..offset + length]),
            Memory::Window(held) => held.range(offset..offset + length).copied().collect(),
        }
    }

    fn wake_readers(&mut self) {
        for place in self.readers.values_mut() {
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }

    fn wake_filler(&mut self) {
        if let Some(waker) = self.filler.take() {
            waker.wake();
        }
    }

    /// Frees what every reader has read.
    fn trim(&mut self) {
        let (start, came) = (self.start(), self.came);
        let places = self.readers.values().filter(|place| !place.is_cut);
        let slowest = places.map(|place| place.at).min().unwrap_or(came);
        if let Memory::Window(held) = &mut self.memory {
            held.drain(..(slowest - start) as usize);
        }
    }

    /// Cuts off readers that are further behind than may be held for them.
    fn cut(&mut self, most: u64) {
        let came = self.came;
        for place in self.readers.values_mut() {
            place.is_cut |= !place.is_leader && came - place.at > most;
        }
    }
}

/// A reader of an answer that is coming in.
pub struct Reader {
    fill: Arc<Fill>,
    id: u64,
    at: u64,
    /// The offset at which the answer ends for this reader, where that is known.
    to: Option<u64>,
}

impl Reader {
    /// Restricts the reader to the bytes `from..=to` of an answer of known length.
    pub fn part(mut self, from: u64, to: u64) -> Self {
        self.at = from;
        self.to = Some(to + 1);
        if let Some(place) = self.fill.lock().readers.get_mut(&self.id) {
            place.at = from;
        }
        self
    }

    /// The answer that is being read.
    pub fn fill(&self) -> &Fill {
        &self.fill
    }

    /// Bytes that this reader has not read yet; none where the length is not known.
    pub fn left(&self) -> Option<u64> {
        self.to.map(|to| to - self.at)
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the fetch broke off, or this reader was too slow for an answer that is not kept.
    pub fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left() == Some(0) {
            return Poll::Ready(None);
        }
        let state = &mut *self.fill.lock();
        let Some(place) = state.readers.get_mut(&self.id) else { return Poll::Ready(None) };
        if place.is_cut {
            return Poll::Ready(Some(Err(io::Error::other(
                "too slow for an answer that is not kept",
            ))));
        }
        if state.came <= self.at {
            return match &state.end {
                Some(End::Whole(_) | End::Over) => Poll::Ready(None),
                Some(End::Broken) => Poll::Ready(Some(Err(io::Error::other("it broke off")))),
                None => {
                    place.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            };
        }
        let piece = state.piece(self.at, self.to.map_or(u64::MAX, |to| to - self.at));
        self.at += piece.len() as u64;
        if let Some(place) = state.readers.get_mut(&self.id) {
            place.at = self.at;
        }
        if state.is_window() {
            state.trim();
            state.wake_filler();
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.fill.lock();
        state.readers.remove(&self.id);
        state.trim();
        state.wake_filler();
    }
}

/// What may be done next about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// More may be taken in.
    Read,
    /// Somebody has to read first what has come.
    Wait,
    /// Nobody reads it.
    Unread,
    /// Nobody reads it, and it is not kept.
    Useless,
}

/// Brings the answer in. Dropped before the end, it ends the answer with an error for every reader.
pub struct Filler {
    /// The answer that is being brought in.
    pub fill: Arc<Fill>,
    /// How many bytes may be held.
    most: u64,
    refused: Option<NotStored>,
}

impl Filler {
    /// Begins an answer, and makes its first reader, for whom it is fetched. `room` comes from
    /// [`Store::room_for`].
    pub fn new(
        store: &Store,
        room: Room,
        (head, length): (Arc<Stored>, Option<u64>),
        (mark, config): (Mark, Arc<str>),
    ) -> (Self, Reader) {
        let most = store.entry_bytes_max() as u64;
        let bytes = length.map_or(UNKNOWN_BYTES_MIN, |length| length as usize);
        let is_mapped = |length: &u64| *length >= weight::MAPPED_MIN as u64;
        let pages = length.filter(is_mapped).and_then(|length| mapped(length as usize));
        let memory = match pages {
            Some(pages) => Memory::Pages(pages),
            None => Memory::Whole(Vec::with_capacity(bytes)),
        };
        let (readers, end, filler) = (BTreeMap::new(), None, None);
        let state = State { memory, room, came: 0, end, readers, count: 0, filler };
        let fill = Arc::new(Fill { head, length, mark, config, state: Mutex::new(state) });
        let reader = fill.reader(&mut fill.lock(), true);
        (Self { fill, most, refused: None }, reader)
    }

    /// Why it can't be kept any more: `too-large` or `no-room`.
    pub fn refused(&self) -> Option<NotStored> {
        self.refused
    }

    /// What to do next; whoever asks is woken when that changes.
    pub fn next(&self, context: &Context<'_>) -> Next {
        let mut state = self.fill.lock();
        if !state.filler.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.filler = Some(context.waker().clone());
        }
        let places = || state.readers.values().filter(|place| !place.is_cut);
        if places().next().is_none() {
            return if state.is_window() { Next::Useless } else { Next::Unread };
        }
        if !state.is_window() {
            return Next::Read;
        }
        let ahead = places().map(|place| state.came - place.at).min().unwrap_or_default();
        let is_leader_behind =
            places().any(|place| place.is_leader && state.came - place.at >= self.most);
        if ahead >= AHEAD_BYTES_MAX || is_leader_behind { Next::Wait } else { Next::Read }
    }

    /// Takes in what has come.
    ///
    /// # Errors
    /// When it is more than was announced.
    pub fn push(&mut self, store: &Store, data: &[u8]) -> io::Result<()> {
        let mut guard = self.fill.lock();
        let state = &mut *guard;
        let came = state.came + data.len() as u64;
        if self.fill.length.is_some_and(|length| came > length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let Memory::Whole(bytes) = &mut state.memory
            && self.fill.length.is_none()
            && bytes.capacity() < came as usize
        {
            let wanted = (bytes.capacity() * 2).max(came as usize).min(self.most as usize);
            let is_too_large = came > self.most;
            if !is_too_large && store.grow(&mut state.room, wanted) {
                bytes.reserve_exact(wanted - bytes.len());
            } else {
                let reason = if is_too_large { NotStored::TooLarge } else { NotStored::NoRoom };
                self.refused = Some(reason);
                self.most = self.most.min(came).max(WINDOW_BYTES_MIN);
                let window = window(std::mem::take(bytes), self.most as usize);
                state.room.set(window.capacity());
                state.memory = Memory::Window(window);
            }
        }
        match &mut state.memory {
            Memory::Pages(pages) => {
                pages[state.came as usize..came as usize].copy_from_slice(data);
            }
            Memory::Whole(bytes) => bytes.extend_from_slice(data),
            Memory::Window(held) => held.extend(data),
        }
        state.came = came;
        if state.is_window() {
            state.cut(self.most);
            state.trim();
        }
        state.wake_readers();
        Ok(())
    }

    /// The whole body, in memory of its own size; none where it is not kept. From now on all read from it.
    ///
    /// # Errors
    /// When it is less than was announced.
    pub fn end(self) -> io::Result<Option<Bytes>> {
        let mut state = self.fill.lock();
        if self.fill.length.is_some_and(|length| state.came < length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let memory = std::mem::replace(&mut state.memory, Memory::Whole(Vec::new()));
        let body = match memory {
            Memory::Pages(pages) => Bytes::from_owner(pages),
            Memory::Whole(bytes) if bytes.len() == bytes.capacity() => bytes.into(),
            Memory::Whole(bytes) => own(&bytes),
            Memory::Window(held) => {
                state.memory = Memory::Window(held);
                state.end = Some(End::Over);
                state.wake_readers();
                return Ok(None);
            }
        };
        // From here on the store counts this memory.
        state.room.set(0);
        state.end = Some(End::Whole(body.clone()));
        state.wake_readers();
        Ok(Some(body))
    }
}

/// A window over what has come, allocated at its largest size, because a ring buffer that grows would double.
fn window(came: Vec<u8>, most: usize) -> VecDeque<u8> {
    let mut window = VecDeque::from(came);
    window.reserve_exact((most + PIECE_BYTES_MAX).saturating_sub(window.len()));
    window
}

impl Drop for Filler {
    fn drop(&mut self) {
        let mut state = self.fill.lock();
        state.end.get_or_insert(End::Broken);
        state.wake_readers();
    }
}

#[cfg(test)]
mod tests;
