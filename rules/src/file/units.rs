//! Durations and sizes with units.

use crate::time::Millis;

/// Parses "250ms", "5s", "2m", "1h" or "7d" to milliseconds.
pub(super) fn duration(text: &str) -> Option<Millis> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    parse(text, &units).map(Millis)
}

/// Parses "512B", "64KiB", "10MiB" or "1GiB" to bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    parse(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)])
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_required() {
        assert_eq!(duration("250ms"), Some(Millis(250)));
        assert_eq!(duration("2m"), Some(Millis(120_000)));
        assert_eq!(duration("5"), None);
        assert_eq!(duration("-5s"), None);
        assert_eq!(duration("s"), None);
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("64kb"), None);
        assert_eq!(size("99999999999999999999B"), None);
    }
}
