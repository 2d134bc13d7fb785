//! Requests and answers drawn from bytes: mostly what HTTP knows, written in all the ways it may be
//! written, and now and then anything. What repeats is counted first: bytes that have run out are
//! zeros for ever.

use arbitrary::{Result, Unstructured};
use rules::UnixMillis;
use rules::{Fields, Head, ResponseHead};

/// A moment in 2026, in milliseconds since 1970; drawn times lie around it.
pub const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

const STATUSES: [u16; 18] =
    [200, 200, 200, 203, 204, 206, 301, 302, 303, 304, 308, 404, 410, 418, 500, 501, 503, 599];
const DIRECTIVES: [&str; 16] = [
    "max-age",
    "s-maxage",
    "no-store",
    "no-cache",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "stale-while-revalidate",
    "stale-if-error",
    "immutable",
    "no-transform",
    "only-if-cached",
    "x",
    "\u{e9}",
];
const VALUES: [&str; 14] = [
    "0",
    "1",
    "5",
    "60",
    "3600",
    "\"60\"",
    "60s",
    "-1",
    "1.5",
    "2147483648",
    "99999999999999999999",
    "\"set-cookie, no-store, x\"",
    "x",
    "",
];
const NAMES: [&str; 7] =
    ["accept-encoding", "Accept-Language", "Accept-Language", "authorization", "x-a", "*", ""];
const ETAGS: [&str; 4] = ["\"1\"", "W/\"1\"", "\"2, 3\"", "*"];

/// None, and in the older forms an hour after [`NOW`].
const DATES: [&str; 5] = [
    "0",
    "",
    "Sun, 06 Nov 1994 08:49:37 UTC",
    "Monday, 21-Sep-26 15:13:20 GMT",
    "Mon Sep 21 15:13:20 2026",
];

/// Field lines in order; values are bytes, as they are on the wire.
#[derive(Clone, Default)]
pub struct Lines(pub Vec<(String, Vec<u8>)>);

/// As a message is written, to be read in a failure.
impl std::fmt::Debug for Lines {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.0.iter().map(|(name, value)| format!("{name}: {}", value.escape_ascii()));
        out.debug_list().entries(lines).finish()
    }
}

impl Lines {
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }
}

impl Fields for Lines {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let own = self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        own.for_each(|(_, value)| visit(value));
    }
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    pub target: String,
    pub fields: Lines,
}

impl Request {
    pub fn head(&self) -> Head<'_> {
        let (scheme, host) = ("http", "h");
        Head { method: self.method, scheme, host, target: &self.target, fields: &self.fields }
    }

    pub fn draw(drawn: &mut Unstructured<'_>, target: String) -> Result<Self> {
        let method = *drawn.choose(&["GET", "GET", "GET", "HEAD", "POST", "OPTIONS"])?;
        let mut fields = Lines::default();
        for _ in 0..drawn.int_in_range(0..=3)? {
            let (name, value) = match drawn.int_in_range(0..=10)? {
                0 => ("cache-control", control(drawn)?.into_bytes()),
                1 => ("authorization", b"Bearer 1".to_vec()),
                2 => ("cookie", b"theme=1; sid=2".to_vec()),
                3 => ("accept-language", choose(drawn, &["de, en", "en, de", "EN,de", "*", ""])?),
                4 => ("accept-encoding", choose(drawn, &["gzip", "br, gzip", "identity"])?),
                5 => ("range", choose(drawn, &["bytes=0-1", "bytes=-1", "bytes=9-", "bytes=2-1"])?),
                6 => ("if-none-match", choose(drawn, &ETAGS)?),
                7 => ("if-modified-since", date(drawn)?),
                8 => ("if-range", choose(drawn, &ETAGS)?),
                9 => ("x-a", choose(drawn, &["1", "2"])?),
                _ => (*drawn.choose(&["content-length", "upgrade", "pragma", "x-b"])?, raw(drawn)?),
            };
            fields.0.push((name.to_owned(), value));
        }
        Ok(Self { method, target, fields })
    }
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub fields: Lines,
}

impl Response {
    pub fn head(&self) -> ResponseHead<'_> {
        ResponseHead { status: self.status, fields: &self.fields }
    }

    pub fn draw(drawn: &mut Unstructured<'_>) -> Result<Self> {
        let status = if drawn.ratio(15, 16)? {
            *drawn.choose(&STATUSES)?
        } else {
            drawn.int_in_range(100..=599)?
        };
        let mut fields = Lines::default();
        for _ in 0..drawn.int_in_range(0..=6)? {
            let (name, value) = match drawn.int_in_range(0..=14)? {
                0..=2 => ("cache-control", control(drawn)?.into_bytes()),
                3 => ("age", choose(drawn, &VALUES)?),
                4 => ("date", date(drawn)?),
                5 => ("expires", date(drawn)?),
                6 => ("last-modified", date(drawn)?),
                7 => ("etag", choose(drawn, &ETAGS)?),
                8 => ("vary", names(drawn)?.into_bytes()),
                9 => ("set-cookie", b"sid=1".to_vec()),
                10 => (
                    "content-type",
                    choose(drawn, &["text/html", "text/event-stream", "image/png"])?,
                ),
                11 => ("cdn-cache-control", control(drawn)?.into_bytes()),
                12 => ("pragma", b"no-cache".to_vec()),
                13 => ("content-language", choose(drawn, &["de", "en, de", ""])?),
                _ => {
                    let names =
                        ["cache-control", "age", "date", "vary", "cache-tag", "surrogate-key"];
                    (*drawn.choose(&names)?, raw(drawn)?)
                }
            };
            fields.0.push((name.to_owned(), value));
        }
        Ok(Self { status, fields })
    }
}

/// A few directives, in any case, with values that fit or not.
fn control(drawn: &mut Unstructured<'_>) -> Result<String> {
    let mut list = Vec::new();
    for _ in 0..drawn.int_in_range(1..=3)? {
        let mut name = (*drawn.choose(&DIRECTIVES)?).to_owned();
        if drawn.ratio(1, 8)? {
            name.make_ascii_uppercase();
        }
        let is_numeric = name.to_ascii_lowercase().contains("age") || name.contains("stale-");
        if drawn.ratio(if is_numeric { 15 } else { 3 }, 16)? {
            name = format!("{name}={}", drawn.choose(&VALUES)?);
        }
        list.push(name);
    }
    Ok(list.join(*drawn.choose(&[", ", ", ", ",", " , ", ",,"])?))
}

fn names(drawn: &mut Unstructured<'_>) -> Result<String> {
    let count = drawn.int_in_range(1..=2)?;
    let list: Vec<&str> =
        (0..count).map(|_| drawn.choose(&NAMES).copied()).collect::<Result<_>>()?;
    Ok(list.join(", "))
}

/// A date around [`NOW`].
fn date(drawn: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if drawn.ratio(1, 8)? {
        return choose(drawn, &DATES);
    }
    let days = *drawn.choose(&[-40_i64, -2, -1, 0, 0, 1, 2])?;
    let seconds = drawn.int_in_range(-100_i64..=100)?;
    let at = NOW.as_secs().saturating_add_signed(days * 86_400 + seconds);
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
    Ok(httpdate::fmt_http_date(moment).into_bytes())
}

fn choose(drawn: &mut Unstructured<'_>, among: &[&str]) -> Result<Vec<u8>> {
    Ok(drawn.choose(among)?.as_bytes().to_vec())
}

/// Bytes that a field value may have (RFC 9110 section 5.5).
pub fn raw(drawn: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; drawn.int_in_range(0..=12)?];
    drawn.fill_buffer(&mut bytes)?;
    bytes.retain(|byte| *byte >= 0x20 && *byte != 0x7f);
    Ok(bytes.trim_ascii().to_vec())
}
