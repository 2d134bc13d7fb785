//! HTTP dates (RFC 9110 section 5.6.7): the three forms, case-insensitive, and nothing else. A date
//! in another form is invalid, which for `Expires` means the past (RFC 9111 section 5.3).

use crate::time::UnixMillis;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// Two-digit years from this one on belong to the last century.
const CENTURY_TURN: u64 = 70;

/// Parses a date to milliseconds since 1970. `None` for an invalid date and for one before 1970.
pub fn parse(text: &str) -> Option<UnixMillis> {
    let text = text.trim().to_ascii_lowercase();
    match text.split_once(", ") {
        Some((day, rest)) if day.len() == 3 => is_day(day).then(|| imf(rest))?,
        Some((day, rest)) => DAYS.contains(&day).then(|| rfc850(rest))?,
        None => asctime(&text),
    }
}

/// Formats milliseconds since 1970 as an IMF-fixdate, the form that servers must send.
pub fn format(moment: UnixMillis) -> String {
    let seconds = moment.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date_of(days);
    let name = |list: &[&str], at: u64| {
        let name = list.get(at as usize).and_then(|name| name.get(..3)).unwrap_or_default();
        [
            name.get(..1).unwrap_or_default().to_ascii_uppercase().as_str(),
            name.get(1..).unwrap_or_default(),
        ]
        .concat()
    };
    // The first of January 1970 was a Thursday.
    let (weekday, month) = (name(&DAYS, (days + 3) % 7), name(&MONTHS, month - 1));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// The date (year, month, day) of a number of days since 1970-01-01. Years begin in March here, so
/// that a leap day is the last of its year:
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let in_next_year = month >= 10;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if in_next_year { month - 9 } else { month + 3 };
    (year + era * 400 + u64::from(in_next_year), month, day)
}

fn is_day(short: &str) -> bool {
    DAYS.iter().any(|day| day.get(..3) == Some(short))
}

/// Parses an IMF-fixdate: `06 nov 1994 08:49:37 gmt`.
fn imf(text: &str) -> Option<UnixMillis> {
    let mut parts = text.split(' ');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let (time, zone) = (parts.next()?, parts.next()?);
    if zone != "gmt" || parts.next().is_some() {
        return None;
    }
    moment(number(year, 4)?, month, number(day, 2)?, time)
}

/// Parses the RFC 850 form: `06-nov-94 08:49:37 gmt`.
fn rfc850(text: &str) -> Option<UnixMillis> {
    let (date, rest) = text.split_once(' ')?;
    let time = rest.strip_suffix(" gmt")?;
    let mut parts = date.split('-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let year = number(year, 2)?;
    let year = if year < CENTURY_TURN { 2000 + year } else { 1900 + year };
    moment(year, month, number(day, 2)?, time)
}

/// Parses the asctime form: `sun nov  6 08:49:37 1994`.
fn asctime(text: &str) -> Option<UnixMillis> {
    let (day_name, rest) = text.split_once(' ')?;
    let (month, rest) = rest.split_once(' ')?;
    let (day, rest) = match rest.strip_prefix(' ') {
        Some(rest) => (number(rest.get(..1)?, 1)?, rest.get(1..)?),
        None => (number(rest.get(..2)?, 2)?, rest.get(2..)?),
    };
    let (time, year) = rest.strip_prefix(' ')?.split_once(' ')?;
    if !is_day(day_name) {
        return None;
    }
    moment(number(year, 4)?, month, day, time)
}

/// Parses a number of exactly this many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn moment(year: u64, month: &str, day: u64, time: &str) -> Option<UnixMillis> {
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let mut parts = time.split(':');
    let mut next = |max: u64| number(parts.next()?, 2).filter(|value| *value <= max);
    // A leap second counts as the second before it.
    let (hour, minute, second) = (next(23)?, next(59)?, next(60)?.min(59));
    if parts.next().is_some() || year < 1970 || day == 0 || day > days_of(year, month) {
        return None;
    }
    let days = days_before(year, month) + day - 1;
    Some(UnixMillis((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to the first of the month.
fn days_before(year: u64, month: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    years + (1..month).map(|month| days_of(year, month)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn the_three_forms_name_the_same_moment_in_any_case() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "SUN, 06 nOV 1994 08:49:37 gMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text), Some(UnixMillis(784_111_777_000)), "{text}");
        }
    }

    #[test]
    fn what_is_not_exactly_one_of_them_is_no_date() {
        for text in [
            "0",
            "",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov  1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Foo, 06 Nov 1994 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_is_read_as_httpdate_writes_it(second in 0_u64..253_402_300_799) {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            prop_assert_eq!(parse(&text), Some(UnixMillis(second * 1000)));
            prop_assert_eq!(format(UnixMillis(second * 1000 + 999)), text);
        }

        #[test]
        fn no_text_and_no_moment_panics(moment in any::<u64>(), text in "\\PC{0,40}|[SunovGMT0-9:,\\- ]{0,32}") {
            parse(&text);
            format(UnixMillis(moment));
        }
    }
}
