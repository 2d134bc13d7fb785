//! How long a slow peer is waited for.

use std::time::Duration;

/// A pause of this length is nobody's fault, in uploads and in reading (nginx's `client_body_timeout`
/// and `send_timeout`). After it a peer counts as gone.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a peer may take, besides what its bytes earn, before it is slow.
pub const GRACE: Duration = Duration::from_secs(30);
/// Bytes a second below which a peer is slow (Apache's `RequestReadTimeout` takes 500).
pub const RATE_MIN: u64 = 500;

/// The time spent waiting for one peer within one message, against the bytes that moved. Waiting for
/// the other side of the proxy does not count.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pace {
    bytes: u64,
    waited: Duration,
}

impl Pace {
    /// So many bytes were moved.
    pub fn moved(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// The peer was waited for.
    pub fn waited(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(time);
    }

    /// How long it may still be waited for the next byte before the peer is slow.
    pub fn left(&self) -> Duration {
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / RATE_MIN);
        // However much it moved before: one byte must come within the grace.
        GRACE.saturating_add(earned).saturating_sub(self.waited).min(GRACE)
    }

    /// Whether it has moved less than it should have in the time that it was waited for.
    pub fn is_slow(&self) -> bool {
        self.left().is_zero()
    }

    /// Bytes a second, of the time that it was waited for.
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
