//! Moments and lengths of time, both in milliseconds: two types, so that neither is taken for the other, nor
//! for seconds.
//!
//! All arithmetic stops at the ends of `u64` instead of overflowing: a rule may say any length, and a clock may
//! be wrong.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Div, Mul, Sub};
use std::time::Duration;

/// A length of time in milliseconds.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// A moment in milliseconds since 1970-01-01 00:00 UTC, leap seconds not counted.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// Longer than anything lasts.
    pub const MAX: Self = Self(u64::MAX);

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Whole seconds, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }
}

impl UnixMillis {
    /// Later than anything happens.
    pub const MAX: Self = Self(u64::MAX);

    /// Whole seconds since 1970, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Nothing where the other is longer.
impl Sub for Millis {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Mul<u64> for Millis {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Div<u64> for Millis {
    type Output = Self;

    fn div(self, parts: u64) -> Self {
        Self(self.0 / parts)
    }
}

impl Add<Millis> for UnixMillis {
    type Output = Self;

    fn add(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl Sub<Millis> for UnixMillis {
    type Output = Self;

    fn sub(self, length: Millis) -> Self {
        Self(self.0.saturating_sub(length.0))
    }
}

/// The time from the other moment to this one; nothing where the other is later.
impl Sub for UnixMillis {
    type Output = Millis;

    fn sub(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<Millis> for Duration {
    fn from(length: Millis) -> Self {
        Self::from_millis(length.0)
    }
}

/// Parts of a millisecond are dropped.
impl From<Duration> for Millis {
    fn from(length: Duration) -> Self {
        Self(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let (early, late) = (UnixMillis(1_000), UnixMillis(1_500));
        assert_eq!((late - early, early - late), (Millis(500), Millis::ZERO));
        assert_eq!((early + Millis(500), early - Millis(2_000)), (late, UnixMillis(0)));
        assert_eq!((late + Millis::MAX, Millis::MAX + Millis(1)), (UnixMillis::MAX, Millis::MAX));
        assert_eq!((Millis(5) - Millis(6), Millis::MAX * 2), (Millis::ZERO, Millis::MAX));
        assert_eq!(Millis::from_secs(u64::MAX), Millis::MAX);
    }

    #[test]
    fn seconds_are_whole_ones_and_durations_stay_what_they_are() {
        assert_eq!((Millis(1_999).as_secs(), UnixMillis(1_999).as_secs()), (1, 1));
        assert_eq!(Duration::from(Millis(1_500)), Duration::from_millis(1_500));
        assert_eq!(Millis::from(Duration::from_micros(1_999)), Millis(1));
        assert_eq!(Millis::from(Duration::MAX), Millis::MAX);
    }

    #[test]
    fn on_the_wire_they_are_numbers() {
        let text = serde_json::to_string(&(Millis(7), UnixMillis(8))).expect("JSON");
        assert_eq!(text, "[7,8]");
        let read: (Millis, UnixMillis) = serde_json::from_str(&text).expect("the same");
        assert_eq!(read, (Millis(7), UnixMillis(8)));
    }
}
