//! The two events that a connection waits for besides bytes: that there was no request for a while, and that
//! the server closes. Both are rare, so polling them at each request costs too much; a waker of their own
//! tells whether one of them has come since they were polled.

use super::idle::Closing;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// After so long without a request, or up to twice that, a connection frees what it can do without.
const QUIET_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Quiet,
    Closing,
}

#[derive(Default)]
pub(super) struct Standby {
    bell: Option<(Arc<EventWaker>, Waker)>,
    timer: Option<Pin<Box<Sleep>>>,
    has_been_used: bool,
}

/// Wakes the task, and remembers that it did.
struct EventWaker {
    has_rung: AtomicBool,
    task: Waker,
}

impl Wake for EventWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Standby {
    /// Notes that a request came.
    pub fn used(&mut self) {
        self.has_been_used = true;
    }

    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
        closing: Pin<&mut Closing<impl Future<Output = ()>>>,
    ) -> Poll<Event> {
        let own = self.bell.as_ref().filter(|(bell, _)| bell.task.will_wake(context.waker()));
        let waker = match own {
            Some((bell, _)) if !bell.has_rung.load(Ordering::Acquire) => return Poll::Pending,
            Some((bell, waker)) => {
                bell.has_rung.store(false, Ordering::Release);
                waker.clone()
            }
            None => self.hang(context.waker().clone()),
        };
        let mut context = Context::from_waker(&waker);
        if self.poll_quiet(&mut context).is_ready() {
            return Poll::Ready(Event::Quiet);
        }
        closing.poll(&mut context).map(|()| Event::Closing)
    }

    fn hang(&mut self, task: Waker) -> Waker {
        let bell = Arc::new(EventWaker { has_rung: AtomicBool::new(false), task });
        let waker = Waker::from(Arc::clone(&bell));
        self.bell = Some((bell, waker.clone()));
        waker
    }

    /// Nearly every wait ends long before, so the timer is not reset: it looks now and then whether there was
    /// a request.
    fn poll_quiet(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(QUIET_AFTER)));
        loop {
            ready!(timer.as_mut().poll(context));
            if !std::mem::take(&mut self.has_been_used) {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + QUIET_AFTER);
        }
    }
}
