//! S3 in path style: objects with conditions, ranges and lists. Signatures are not looked at.

use super::faults::Faults;
use super::{Answered, answered};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// Keys of one list at most, as in S3.
const KEYS_MAX: usize = 1000;

#[derive(Clone)]
struct Object {
    body: Bytes,
    etag: String,
    modified: SystemTime,
    content_type: String,
}

type Bucket = BTreeMap<String, Object>;

#[derive(Default)]
pub(super) struct S3 {
    pub faults: Arc<Faults>,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

/// A call as S3 sees it.
pub(super) struct Call {
    method: Method,
    bucket: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
}

impl Call {
    pub(super) fn of(parts: Parts) -> Self {
        let path = parts.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let pairs = parts.uri.query().unwrap_or_default().split('&');
        let query = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Self {
            method: parts.method,
            bucket: bucket.to_owned(),
            key: decoded(key),
            query: query.collect(),
            headers: parts.headers,
        }
    }

    /// By the name that the service has for it.
    pub(super) fn operation(&self) -> &'static str {
        match (self.method.as_str(), self.key.is_empty()) {
            ("PUT", true) => "CreateBucket",
            ("GET", true) => "ListObjectsV2",
            ("HEAD", true) => "HeadBucket",
            ("PUT", _) => "PutObject",
            ("GET", _) => "GetObject",
            ("HEAD", _) => "HeadObject",
            ("DELETE", _) => "DeleteObject",
            _ => "Other",
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

impl S3 {
    pub(super) fn create(&self, bucket: &str) {
        self.buckets.lock().expect("no panic").entry(bucket.to_owned()).or_default();
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> Option<Bytes> {
        let buckets = self.buckets.lock().expect("no panic");
        Some(buckets.get(bucket)?.get(key)?.body.clone())
    }

    pub(super) fn replace(&self, bucket: &str, key: &str, body: Option<Bytes>) {
        let mut buckets = self.buckets.lock().expect("no panic");
        let bucket = buckets.get_mut(bucket).expect("a bucket");
        match body {
            Some(body) => {
                let (etag, content_type) = ("\"by-hand\"".to_owned(), String::new());
                let modified = SystemTime::now();
                let object = Object { body, etag, modified, content_type };
                match bucket.get_mut(key) {
                    // Damage is not noticed by its etag.
                    Some(own) => own.body = object.body,
                    None => drop(bucket.insert(key.to_owned(), object)),
                }
            }
            None => drop(bucket.remove(key)),
        }
    }

    pub(super) fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let buckets = self.buckets.lock().expect("no panic");
        let keys = buckets.get(bucket).into_iter().flat_map(|bucket| bucket.keys());
        keys.filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    pub(super) fn call(&self, call: &Call, body: Bytes) -> Answered {
        let operation = call.operation();
        if operation == "CreateBucket" {
            self.create(&call.bucket);
            return answered(200, "");
        }
        let mut buckets = self.buckets.lock().expect("no panic");
        let Some(bucket) = buckets.get_mut(&call.bucket) else {
            return refused(404, "NoSuchBucket");
        };
        match operation {
            "HeadBucket" => answered(200, ""),
            "ListObjectsV2" => list(bucket, call),
            "PutObject" => put(bucket, call, body),
            "GetObject" | "HeadObject" => get(bucket, call),
            "DeleteObject" => {
                bucket.remove(&call.key);
                answered(204, "")
            }
            _ => refused(501, "NotImplemented"),
        }
    }
}

/// An error's document.
pub(super) fn refused(status: u16, code: &str) -> Answered {
    let document = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    let mut answer = answered(status, document);
    answer.headers_mut().insert(header::CONTENT_TYPE, "application/xml".parse().expect("a value"));
    answer
}

fn put(bucket: &mut Bucket, call: &Call, body: Bytes) -> Answered {
    let found = bucket.get(&call.key).map(|object| object.etag.as_str());
    match (call.header("if-none-match"), call.header("if-match"), found) {
        (Some("*"), _, Some(_)) => return refused(412, "PreconditionFailed"),
        (_, Some(_), None) => return refused(404, "NoSuchKey"),
        (_, Some(wanted), Some(found)) if wanted != found => {
            return refused(412, "PreconditionFailed");
        }
        _ => {}
    }
    let etag = etag(&body);
    let content_type = call.header("content-type").unwrap_or("binary/octet-stream").to_owned();
    let object = Object { body, etag: etag.clone(), modified: SystemTime::now(), content_type };
    bucket.insert(call.key.clone(), object);
    let mut answer = answered(200, "");
    answer.headers_mut().insert(header::ETAG, etag.parse().expect("a value"));
    answer
}

/// Of the content, as S3's is: the same bytes have the same.
fn etag(body: &[u8]) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(body);
        hasher.finish()
    };
    format!("\"{:016x}{:016x}\"", half(0), half(1))
}

fn get(bucket: &Bucket, call: &Call) -> Answered {
    let Some(object) = bucket.get(&call.key) else { return refused(404, "NoSuchKey") };
    let length = object.body.len();
    let (status, body, range) = match call.header("range").map(|range| part(range, length)) {
        None => (200, object.body.clone(), None),
        Some(None) => return refused(416, "InvalidRange"),
        Some(Some((first, last))) => {
            let range = format!("bytes {first}-{last}/{length}");
            (206, object.body.slice(first..=last), Some(range))
        }
    };
    let content_length = body.len();
    let mut answer =
        answered(status, if call.method == Method::HEAD { Bytes::new() } else { body });
    let mut set = |name: header::HeaderName, value: &str| {
        answer.headers_mut().insert(name, value.parse().expect("a value"));
    };
    set(header::ETAG, &object.etag);
    set(header::CONTENT_LENGTH, &content_length.to_string());
    set(header::CONTENT_TYPE, &object.content_type);
    set(header::ACCEPT_RANGES, "bytes");
    set(header::LAST_MODIFIED, &httpdate::fmt_http_date(object.modified));
    if let Some(range) = range {
        set(header::CONTENT_RANGE, &range);
    }
    answer
}

/// First and last byte; none when the object has no such part.
fn part(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = match (first, last) {
        ("", last) => (length.saturating_sub(last.parse().ok()?), length),
        (first, "") => (first.parse().ok()?, length),
        (first, last) => (first.parse().ok()?, last.parse().ok()?),
    };
    (first < length && first <= last).then_some((first, last.min(length - 1)))
}

fn list(bucket: &Bucket, call: &Call) -> Answered {
    let prefix = call.parameter("prefix");
    let after = match call.parameter("continuation-token") {
        "" => call.parameter("start-after"),
        token => token,
    };
    let max = call.parameter("max-keys").parse().unwrap_or(KEYS_MAX).min(KEYS_MAX);
    let from = after.max(prefix);
    let from = if from == after { Bound::Excluded(from) } else { Bound::Included(from) };
    let from = if after.is_empty() { Bound::Included(prefix) } else { from };
    let found = bucket.range::<str, _>((from, Bound::Unbounded));
    let mut found = found.take_while(|(key, _)| key.starts_with(prefix)).peekable();
    let (mut contents, mut last, mut count) = (String::new(), "", 0);
    while count < max
        && let Some((key, object)) = found.next()
    {
        contents += &format!(
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            escaped(key),
            timestamp(object.modified),
            escaped(&object.etag),
            object.body.len()
        );
        (last, count) = (key, count + 1);
    }
    let is_truncated = found.peek().is_some();
    let next = format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(last));
    let next = if is_truncated { next } else { String::new() };
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name><Prefix>{}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>{max}</MaxKeys><IsTruncated>{is_truncated}</IsTruncated>{next}{contents}</ListBucketResult>",
        escaped(&call.bucket),
        escaped(prefix)
    );
    let mut answer: Response<_> = answered(StatusCode::OK.as_u16(), document);
    answer.headers_mut().insert(header::CONTENT_TYPE, "application/xml".parse().expect("a value"));
    answer
}

/// `2026-11-24T10:24:00.123Z`
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    // Days to a date, by Howard Hinnant's `civil_from_days`.
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_487_394_776);
        assert_eq!(timestamp(at), "2026-11-24T02:29:54.776Z");
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn parts_are_cut_at_the_end_of_the_object() {
        assert_eq!(part("bytes=1-2", 3), Some((1, 2)));
        assert_eq!(part("bytes=1-", 3), Some((1, 2)));
        assert_eq!(part("bytes=-2", 3), Some((1, 2)));
        assert_eq!(part("bytes=0-99", 3), Some((0, 2)));
        assert_eq!(part("bytes=3-4", 3), None);
    }
}
