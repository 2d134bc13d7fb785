//! A budget of bytes that tasks share.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The budget: a number of bytes for all.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    free: Arc<Semaphore>,
    bytes: u64,
}

/// Bytes of the budget, until this is dropped. A semaphore's own permit can't count as many.
#[derive(Debug)]
pub struct BytesPermit {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Drop for BytesPermit {
    fn drop(&mut self) {
        self.free.add_permits(self.bytes);
    }
}

impl BytesPermit {
    fn new(free: &Arc<Semaphore>, permit: OwnedSemaphorePermit) -> Self {
        let bytes = permit.num_permits();
        permit.forget();
        Self { free: Arc::clone(free), bytes }
    }

    /// Adds further bytes of the same budget.
    pub fn add(&mut self, mut more: Self) {
        self.bytes += std::mem::take(&mut more.bytes);
    }

    /// Wraps data so that it holds its permit as long as anybody uses it.
    pub fn around(self, bytes: Bytes) -> Bytes {
        struct PermittedBytes(Bytes, #[expect(dead_code, reason = "it is held")] BytesPermit);
        impl AsRef<[u8]> for PermittedBytes {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        Bytes::from_owner(PermittedBytes(bytes, self))
    }
}

impl ByteBudget {
    pub fn new(bytes: u64) -> Self {
        let places = usize::try_from(bytes).unwrap_or(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))), bytes }
    }

    /// The size of the whole budget.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes bytes that are free now; `None` when there are too few.
    pub fn try_take(&self, bytes: u64) -> Option<BytesPermit> {
        let count = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.free).try_acquire_many_owned(count).ok()?;
        Some(BytesPermit::new(&self.free, permit))
    }

    /// Takes bytes, and waits in turn for others to return theirs.
    pub async fn take(&self, bytes: u64, within: Duration) -> Option<BytesPermit> {
        if bytes > self.bytes {
            return None;
        }
        let count = u32::try_from(bytes).ok()?;
        let taken = Arc::clone(&self.free).acquire_many_owned(count);
        let permit = timeout(within, taken).await.ok()?.ok()?;
        Some(BytesPermit::new(&self.free, permit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_for_it_and_not_for_ever() {
        let (room, patience) = (ByteBudget::new(100), Duration::from_secs(5));
        let first = room.take(60, patience).await.expect("room");
        assert!(room.try_take(41).is_none() && room.take(41, patience).await.is_none());
        assert!(room.take(101, patience).await.is_none(), "there never is so much");
        let next = tokio::spawn({
            let room = room.clone();
            async move { room.take(100, patience).await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(next.await.expect("no panic"));
    }

    #[test]
    fn bytes_hold_their_room_until_the_last_copy_is_gone() {
        let room = ByteBudget::new(10);
        let bytes = room.try_take(10).expect("room").around(Bytes::from_static(b"0123456789"));
        let part = bytes.slice(2..3);
        drop(bytes);
        assert!(room.try_take(1).is_none());
        drop(part);
        assert!(room.try_take(10).is_some());
    }
}
