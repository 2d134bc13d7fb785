//! What `http-cache-semantics` 3.0.0 reads otherwise than the RFCs say. Each is mended in what it is
//! shown by writing the same thing in the way that it reads well, or by saying outright what it leaves
//! out.

use super::view::{Directive, Shown, View};
use crate::message::NOW;
use std::time::{Duration, UNIX_EPOCH};

pub struct Defect {
    pub name: &'static str,
    /// Shows the peer the same in other words; whether anything was to be changed.
    pub mend: fn(&mut View) -> bool,
}

/// In the order in which they are mended.
#[rustfmt::skip]
pub const ALL: [Defect; 17] = [
    // RFC 9111 section 5.2: directives are matched in any case. `No-Store` is stored.
    Defect { name: "case", mend: |view| each_directive(view, |(name, _)| changed(name, name.to_ascii_lowercase())) },
    // RFC 9110 section 5.5: obs-text in a line does not undo what else it says. `no-store, x=é` is
    // stored, for as long as Last-Modified suggests.
    Defect { name: "obs-text", mend: obs_text },
    // RFC 9110 section 5.6.4: a comma in quotes does not part directives.
    Defect { name: "quoted-comma", mend: |view| each_directive(view, |(_, value)| value.as_mut().is_some_and(no_comma)) },
    // RFC 9111 section 1.2.1: a number too large is 2^31, and `Age: 18446744073709551615` no panic.
    // Section 4.2.1: what is no number makes the answer stale, a directive without one too.
    Defect { name: "seconds", mend: seconds },
    Defect { name: "age-number", mend: age_number },
    // A directive that takes no value and has one is that directive (RFC 9111 section 5.2.3).
    Defect { name: "flag-with-value", mend: flag_with_value },
    // RFC 9111 sections 5.2.2.4 and 5.2.2.7: with names of fields they are about those fields. The
    // peer may take them for the whole answer, and does; a cookie that is named is stored without.
    Defect { name: "field-names", mend: field_names },
    // RFC 9111 section 4.2.1: of two lifetimes one may take the shorter, and need not forbid stale
    // answers, which allows them to be stored under Authorization.
    Defect { name: "repeated", mend: |view| repeated(&mut view.answer) },
    // RFC 8246 section 2: about reloads of what is fresh; no lifetime of a day.
    Defect { name: "immutable", mend: |view| view.answer.drop(|(name, _)| name == b"immutable") },
    // RFC 9111 section 4.2.3: what is old by its Date is old.
    Defect { name: "apparent-age", mend: apparent_age },
    // RFC 9110 section 5.6.7: the three forms, all in GMT. It reads those of mail.
    Defect { name: "dates", mend: dates },
    // RFC 9111 section 5.4: Pragma is for requests.
    Defect { name: "pragma", mend: |view| drop_field(&mut view.answer, "pragma") },
    // RFC 9111 section 5.2.2.3 is not known to it.
    Defect { name: "must-understand", mend: must_understand },
    // RFC 9111 section 3: any final status that has a lifetime.
    Defect { name: "status", mend: status },
    // RFC 9111 section 5.2.2.8: as must-revalidate; the answer has its lifetime before that.
    Defect { name: "proxy-revalidate", mend: proxy_revalidate },
    // RFC 9111 section 5.2.2.10: implies proxy-revalidate.
    Defect { name: "s-maxage-is-strict", mend: |view| view.answer.says("s-maxage") && view.answer.say("must-revalidate") },
    // RFC 9111 section 4.1 with RFC 9110 section 5.3: all lines of a field are compared, not the first
    // (rusty-http-cache-semantics issue 29).
    Defect { name: "vary-lines", mend: vary_lines },
];

const SECONDS: [&[u8]; 4] = [b"max-age", b"s-maxage", b"stale-while-revalidate", b"stale-if-error"];
const FLAGS: [&[u8]; 6] = [
    b"no-store",
    b"public",
    b"must-revalidate",
    b"proxy-revalidate",
    b"must-understand",
    b"immutable",
];
const DELTA_MAX: u64 = 1 << 31;
/// That the peer stores at all.
const UNDERSTOOD: [u16; 14] =
    [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501];

/// Whether the peer may be asked without a panic.
pub fn is_survived(view: &View) -> bool {
    let age = view.answer.first("age").and_then(|age| std::str::from_utf8(age).ok());
    age.and_then(|age| age.parse::<u64>().ok()).is_none_or(|age| age <= DELTA_MAX)
}

fn changed<T: PartialEq>(place: &mut T, new: T) -> bool {
    let is_new = *place != new;
    *place = new;
    is_new
}

fn each_directive(view: &mut View, mend: impl Fn(&mut Directive) -> bool) -> bool {
    let messages = view.messages().into_iter();
    messages.flat_map(Shown::directives).fold(false, |any, own| mend(own) | any)
}

fn each_value(view: &mut View, mend: impl Fn(&str, &mut Vec<u8>) -> bool) -> bool {
    let lines = view.messages().into_iter().flat_map(|shown| &mut shown.others);
    lines.fold(false, |any, (name, value)| mend(name, value) | any)
}

fn no_comma(value: &mut Vec<u8>) -> bool {
    changed(value, value.iter().map(|byte| if *byte == b',' { b';' } else { *byte }).collect())
}

fn ascii(value: &mut Vec<u8>) -> bool {
    changed(value, value.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect())
}

fn obs_text(view: &mut View) -> bool {
    let directives =
        each_directive(view, |(name, value)| ascii(name) | value.as_mut().is_some_and(ascii));
    each_value(view, |_, value| ascii(value)) | directives
}

/// Digits alone, 2^31 at most.
fn delta(text: &[u8]) -> u64 {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).unwrap_or_default();
    if is_number { text.parse().unwrap_or(DELTA_MAX).min(DELTA_MAX) } else { 0 }
}

fn seconds(view: &mut View) -> bool {
    view.answer.directives().filter(|(name, _)| SECONDS.contains(&name.as_slice())).fold(
        false,
        |any, (_, value)| {
            let text = value.clone().unwrap_or_default();
            let bare = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
            let number = delta(bare.unwrap_or(&text));
            changed(value, Some(number.to_string().into_bytes())) | any
        },
    )
}

/// The first member of the first line (RFC 9111 section 5.1).
fn age_number(view: &mut View) -> bool {
    let Some(age) = view.answer.first("age") else { return false };
    let first = age.split(|byte| *byte == b',').next().unwrap_or_default();
    let number = delta(first.trim_ascii());
    set_field(&mut view.answer, "age", number.to_string())
}

fn set_field(shown: &mut Shown, name: &str, value: String) -> bool {
    let value = value.into_bytes();
    match shown.others.iter_mut().find(|(own, _)| own == name) {
        Some((_, old)) => changed(old, value),
        None => {
            shown.others.push((name.to_owned(), value));
            true
        }
    }
}

fn drop_field(shown: &mut Shown, name: &str) -> bool {
    let before = shown.others.len();
    shown.others.retain(|(own, _)| own != name);
    shown.others.len() < before
}

/// Leaves the shortest of each lifetime, and the first of what else is there more than once.
fn repeated(shown: &mut Shown) -> bool {
    let all: Vec<Directive> = shown.control.iter().flatten().cloned().collect();
    let mut once: Vec<Directive> = Vec::new();
    for (name, value) in all {
        let seconds = |value: &Option<Vec<u8>>| delta(value.as_deref().unwrap_or_default());
        match once.iter_mut().find(|(own, _)| *own == name) {
            Some((_, own)) if SECONDS.contains(&name.as_slice()) => {
                *own = Some(seconds(own).min(seconds(&value)).to_string().into_bytes());
            }
            Some(_) => {}
            None => once.push((name, value)),
        }
    }
    let is_shorter = once.len() < shown.control.iter().map(Vec::len).sum();
    if is_shorter {
        shown.control = vec![once];
    }
    is_shorter
}

fn flag_with_value(view: &mut View) -> bool {
    each_directive(view, |(name, value)| FLAGS.contains(&name.as_slice()) && changed(value, None))
}

fn field_names(view: &mut View) -> bool {
    let is_cookie = |own: &Directive| {
        let named = own.1.as_deref().unwrap_or_default().to_ascii_lowercase();
        is_about_fields(own) && named.windows(10).any(|name| name == b"set-cookie")
    };
    let is_without_cookie = view.answer.control.iter().flatten().any(is_cookie)
        && drop_field(&mut view.answer, "set-cookie");
    view.answer.drop(is_about_fields) | is_without_cookie
}

fn is_about_fields((name, value): &Directive) -> bool {
    let named = value.as_deref().map(|value| value.strip_prefix(b"\"").unwrap_or(value));
    let named = named.map(|value| value.strip_suffix(b"\"").unwrap_or(value));
    (name == b"private" || name == b"no-cache") && named.is_some_and(|named| !named.is_empty())
}

/// Milliseconds since 1970 of the first line, as another reader of dates has it.
fn date(shown: &Shown, name: &str) -> Option<u64> {
    let text = std::str::from_utf8(shown.first(name)?).ok()?;
    let moment = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(moment.as_millis()).ok()
}

/// As the peer writes them itself; what is none stays out, and an Expires that is none is long past.
fn dates(view: &mut View) -> bool {
    ["date", "last-modified", "expires"].into_iter().fold(false, |any, name| {
        if view.answer.first(name).is_none() {
            return any;
        }
        let done = match date(&view.answer, name) {
            Some(date) => {
                let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(date));
                set_field(&mut view.answer, name, text.replace("GMT", "+0000"))
            }
            None if name == "expires" => set_field(&mut view.answer, name, "0".to_owned()),
            None => drop_field(&mut view.answer, name),
        };
        done | any
    })
}

fn apparent_age(view: &mut View) -> bool {
    let Some(date) = date(&view.answer, "date") else { return false };
    let apparent = NOW.0.saturating_sub(date);
    let apparent = if apparent < view.clocks_ms { 0 } else { apparent / 1000 };
    let own = delta(view.answer.first("age").unwrap_or_default());
    apparent > own && set_field(&mut view.answer, "age", apparent.to_string())
}

fn must_understand(view: &mut View) -> bool {
    if !view.answer.says("must-understand") {
        return false;
    }
    let is_understood = UNDERSTOOD.contains(&view.status) && view.status != 303;
    if is_understood {
        view.answer.drop(|(name, _)| name == b"no-store")
    } else {
        view.answer.say("no-store")
    }
}

/// Shown as one that it knows, and that has no lifetime of its own either.
fn status(view: &mut View) -> bool {
    let is_final = view.status >= 200 && ![206, 304].contains(&view.status);
    is_final && !UNDERSTOOD.contains(&view.status) && changed(&mut view.status, 302)
}

/// Said as must-revalidate, which would allow more (RFC 9111 section 3.5) where nothing else does.
fn proxy_revalidate(view: &mut View) -> bool {
    let is_allowed =
        ["public", "s-maxage", "must-revalidate"].iter().any(|name| view.answer.says(name));
    if view.first.first("authorization").is_some() && !is_allowed {
        return false;
    }
    let is_said = view.answer.drop(|(name, _)| name == b"proxy-revalidate");
    is_said && (view.answer.say("must-revalidate") | is_said)
}

fn vary_lines(view: &mut View) -> bool {
    [&mut view.first, &mut view.second].into_iter().fold(false, |any, shown| {
        let names: Vec<String> = shown.others.iter().map(|(name, _)| name.clone()).collect();
        names.iter().fold(any, |any, name| {
            let own = shown.others.iter().filter(|(own, _)| own == name);
            let values: Vec<Vec<u8>> = own.map(|(_, value)| value.clone()).collect();
            if values.len() < 2 {
                return any;
            }
            drop_field(shown, name);
            shown.others.push((name.clone(), values.join(&b", "[..])));
            true
        })
    })
}
