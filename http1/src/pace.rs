//! How long a slow peer is waited for.

use std::time::Duration;

/// How long a peer may pause in an upload or in reading, as nginx's `client_body_timeout` and `send_timeout`
/// have it. After that it counts as gone.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a peer may take, besides what its bytes earn, before it is slow.
pub const GRACE: Duration = Duration::from_secs(30);
/// The rate in bytes per second below which a peer is slow (Apache's `RequestReadTimeout` has 500).
pub const RATE_MIN: u64 = 500;

/// The time spent waiting for one peer within one message, against the bytes that moved. Waiting for
/// the other side of the proxy does not count.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pace {
    bytes: u64,
    waited: Duration,
}

impl Pace {
    /// Notes that so many bytes were moved.
    pub fn moved(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Notes how long the peer was waited for.
    pub fn waited(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(time);
    }

    /// How long the peer may still take for the next byte before it is slow.
    pub fn left(&self) -> Duration {
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / RATE_MIN);
        // However much it moved before, one byte must come within the grace period.
        GRACE.saturating_add(earned).saturating_sub(self.waited).min(GRACE)
    }

    /// Whether the peer has moved less than it should have in the time for which it was waited for.
    pub fn is_slow(&self) -> bool {
        self.left().is_zero()
    }

    /// The rate in bytes per second of the time for which it was waited for.
    pub fn rate(&self) -> u64 {
        self.bytes / self.waited.as_secs().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_moves_enough_is_waited_for_and_a_trickle_is_not() {
        let mut steady = Pace::default();
        let mut trickle = Pace::default();
        for _ in 0..1000 {
            steady.moved(1000);
            steady.waited(Duration::from_secs(1));
            trickle.moved(1);
            trickle.waited(Duration::from_secs(1));
        }
        assert_eq!((steady.left(), trickle.left()), (GRACE, Duration::ZERO));
    }

    #[test]
    fn no_credit_is_longer_than_the_grace() {
        let mut fast = Pace::default();
        fast.moved(1_000_000_000);
        assert_eq!(fast.left(), GRACE);
    }
}
