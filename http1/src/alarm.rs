//! A timer for waits that mostly end long before their time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is set for the first wait, and again only when it runs out too early or would run out too
/// late: setting one for each of many short waits costs more than a needless wake-up.
#[derive(Default)]
pub(crate) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready from the instant `end` on.
    pub fn poll(&mut self, context: &mut Context<'_>, end: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() > end {
            timer.as_mut().reset(end);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn one_timer_serves_waits_that_end_sooner_and_later_than_the_one_before() {
        let mut alarm = Alarm::default();
        for seconds in [60, 1, 30, 2, 2] {
            let end = Instant::now() + Duration::from_secs(seconds);
            let late = tokio::time::timeout_at(end + Duration::from_secs(1), async {
                poll_fn(|context| alarm.poll(context, end)).await;
            });
            late.await.expect("it rang in time");
            assert!(Instant::now() >= end);
        }
    }
}
