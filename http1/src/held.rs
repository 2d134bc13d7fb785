//! A limit on how many of a kind may go on at once: for one more, the one that matters least is ended.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;

/// The ones that go on at the moment.
#[derive(Debug)]
pub struct Held {
    most: usize,
    state: Mutex<HeldTable>,
}

#[derive(Debug, Default)]
struct HeldTable {
    /// Ordered by how much each matters, then by age.
    held: BTreeMap<(bool, u64), oneshot::Sender<()>>,
    count: u64,
}

impl Held {
    /// A limit of `most` at once.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    /// Adds one. Over the limit the oldest of those that matter less is ended first, and then the oldest of
    /// the others.
    pub fn enter(self: &Arc<Self>, matters_more: bool) -> Hold {
        let (tell, told) = oneshot::channel();
        let mut state = self.lock();
        state.count += 1;
        let key = (matters_more, state.count);
        state.held.insert(key, tell);
        if state.held.len() > self.most
            && let Some((_, tell)) = state.held.pop_first()
        {
            // The other one may have ended by itself.
            let _ = tell.send(());
        }
        drop(state);
        Hold { held: Arc::clone(self), key, told: Some(told) }
    }

    fn lock(&self) -> MutexGuard<'_, HeldTable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place under the limit, until it is dropped. Ready when its holder must end.
#[derive(Debug)]
pub struct Hold {
    held: Arc<Held>,
    key: (bool, u64),
    /// The signal; none once it came.
    told: Option<oneshot::Receiver<()>>,
}

impl Future for Hold {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(told) = &mut self.told {
            let _ = ready!(Pin::new(told).poll(context));
            self.told = None;
        }
        Poll::Ready(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.lock().held.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn is_let_go(hold: &mut Hold) -> bool {
        Pin::new(hold).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_of_those_that_matter_less_goes_first() {
        let held = Held::new(3);
        let mut important = held.enter(true);
        let (mut first, mut second) = (held.enter(false), held.enter(false));
        let mut third = held.enter(false);
        assert!(is_let_go(&mut first) && !is_let_go(&mut second) && !is_let_go(&mut important));
        drop(third);
        third = held.enter(true);
        assert!(!is_let_go(&mut second), "one had ended");
        let mut fourth = held.enter(true);
        assert!(is_let_go(&mut second) && !is_let_go(&mut important));
        let _fifth = held.enter(true);
        assert!(is_let_go(&mut important) && !is_let_go(&mut third) && !is_let_go(&mut fourth));
    }
}
