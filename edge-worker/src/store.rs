//! Entries in `caches.default`, under our own policy. The API's policy ignores `Vary`, has no stale windows
//! and decides by `Cache-Control`. So an entry is kept for as long as it can be of any use, and carries in
//! one private field what our policy needs to know about it.

use crate::call::Call;
use crate::incoming::{Incoming, View, pairs};
use crate::{js, reply};
use rules::cache::{CacheStatus, Entry, Judgement, Plan, Tier, fits, secondary};
use rules::head::first;
use rules::hex::hex;
use rules::hygiene::named_by_connection;
use rules::{Edit, Head, Millis, Rules};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Headers, Request, RequestInit, Response};

/// The path below which entries lie: under the reserved prefix and on the request's own host, where
/// Cloudflare wants a Worker's entries. Nobody can ask for it from outside: see [`is_inside`].
const PREFIX: &str = "/edge-cache/";
/// The field with the record of an entry.
const RECORD: &str = "x-spillway-record";
/// The field with names of request fields. An entry that has it is a marker, whose variants lie at other
/// addresses.
const VARY: &str = "x-spillway-vary";
/// The field with the tags by which the platform's API purges entries.
const TAG: &str = "cache-tag";
/// Fields about caching. They are taken off a stored answer, so that the API does not act on them, and put
/// back before a client sees it.
const HIDDEN: [&str; 9] = [
    "cache-control",
    // The bytes are kept as the origin encoded them, and nobody on the way may decode them or encode them
    // once more.
    "content-encoding",
    TAG,
    "cdn-cache-control",
    "cloudflare-cdn-cache-control",
    "expires",
    "set-cookie",
    "spillway-cache-control",
    "vary",
];
/// Fields that the API adds to an answer it gives back, and our own, which an origin must not be able to
/// write.
const DROPPED: [&str; 4] = ["age", "cf-cache-status", RECORD, VARY];
/// How long an answer is kept, in seconds, that must be revalidated each time and may be confirmed by a 304.
const VALIDATOR: Millis = Millis(86_400_000);
/// The largest body in bytes that is stored. Client and store read it at once, and what the slower one has
/// not read lies in the isolate's 128 MiB.
pub(crate) const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The record of an entry: what is kept of an answer besides its head and body.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) entry: Entry,
    /// The status code of the answer. It is stored as a 200, because the API does not keep all others.
    status: u16,
    /// The origin's fields about caching.
    hidden: Vec<(String, String)>,
    /// The `Cache-Control` that clients are sent in place of the origin's.
    client_cache_control: Option<String>,
    /// The length of the body in bytes, where the origin said it: the API does not tell that of a body that
    /// was streamed.
    length: Option<u64>,
}

/// A stored answer as the API gave it back.
pub(crate) struct Found {
    pub(crate) record: Record,
    /// The address of the entry itself, not of the marker.
    url: String,
    response: Response,
}

/// What is added to a stored answer when it is served.
pub(crate) struct Dressed {
    /// The age in seconds.
    pub(crate) age: u64,
    /// The `Cache-Status` members of this request, which replace those that were stored.
    pub(crate) way: Option<String>,
    pub(crate) status: CacheStatus,
}

pub(crate) enum Lookup {
    Nothing,
    /// There are variants, but none fits this request.
    OtherVariant {
        names: Vec<String>,
    },
    Found(Box<Found>),
}

/// Whether a request asks for an entry's own address.
pub(crate) fn is_inside(rules: &Rules, incoming: &Incoming) -> bool {
    let rest = incoming.target.strip_prefix(rules.document.jobs.base.as_str());
    rest.is_some_and(|rest| rest.starts_with(PREFIX))
}

/// The address of a plan's entry.
pub(crate) fn address(call: &Call, plan: &Plan<'_>) -> String {
    let (incoming, base) = (&call.incoming, &call.rules.document.jobs.base);
    let key = hex(&Sha256::digest(plan.key.as_bytes()));
    format!("{}://{}{base}{PREFIX}{key}", incoming.scheme, incoming.host)
}

fn variant(address: &str, names: &[String], head: &Head<'_>) -> String {
    let values = secondary(names.iter().map(String::as_str), head);
    format!("{address}-{}", hex(&Sha256::digest(values.as_bytes())))
}

/// Looks an entry up: once, or twice when the answer varies.
pub(crate) async fn find(address: &str, head: &Head<'_>) -> Result<Lookup, JsValue> {
    let Some(response) = get(address, None).await? else { return Ok(Lookup::Nothing) };
    let Some(names) = response.headers().get(VARY)? else {
        return Ok(
            read(address, response)?.map_or(Lookup::Nothing, |found| Lookup::Found(found.into()))
        );
    };
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    let url = variant(address, &names, head);
    let found = match get(&url, None).await? {
        Some(response) => read(&url, response)?,
        None => None,
    };
    match found.filter(|found| fits(&found.record.entry, head)) {
        Some(found) => Ok(Lookup::Found(found.into())),
        None => Ok(Lookup::OtherVariant { names }),
    }
}

fn read(url: &str, response: Response) -> Result<Option<Found>, JsValue> {
    let record = response.headers().get(RECORD)?;
    // An entry of an older version of this program counts as none, because its content coding may be visible
    // to the platform.
    if response.headers().has("content-encoding")? {
        return Ok(None);
    }
    let record = record.and_then(|json| serde_json::from_str(&json).ok());
    Ok(record.map(|record| Found { record, url: url.to_owned(), response }))
}

async fn get(url: &str, range: Option<&str>) -> Result<Option<Response>, JsValue> {
    let init = RequestInit::new();
    if let Some(range) = range {
        let headers = Headers::new()?;
        headers.set("range", range)?;
        init.set_headers(&headers);
    }
    let key = Request::new_with_str_and_init(url, &init)?;
    let cache = js::CACHES.with(js::Caches::default_cache);
    Ok(JsFuture::from(cache.match_with_request(&key)).await?.dyn_into().ok())
}

async fn put(url: &str, response: &Response) -> Result<(), JsValue> {
    let cache = js::CACHES.with(js::Caches::default_cache);
    JsFuture::from(cache.put_with_request(&Request::new_with_str(url)?, response)).await.map(|_| ())
}

/// Removes the entry, or the marker and with it all variants, in this data centre only.
pub(crate) async fn delete(address: &str) -> Result<(), JsValue> {
    let cache = js::CACHES.with(js::Caches::default_cache);
    JsFuture::from(cache.delete_with_request(&Request::new_with_str(address)?)).await.map(|_| ())
}

/// Stores `response`, whose body it consumes. `origin` are the fields as the origin sent them,
/// `known` the names that a marker lists already: variants stored under them stay in reach.
pub(crate) async fn keep(
    address: &str,
    head: &Head<'_>,
    judgement: Judgement,
    origin: &[(String, String)],
    response: &Response,
    known: &[String],
) -> Result<(), JsValue> {
    let entry = &judgement.entry;
    let mut kept = entry.useful_for();
    if entry.has_validator() {
        kept = kept.max(VALIDATOR);
    }
    let lifetime = format!("max-age={}", kept.0.div_ceil(1000));
    let url = if entry.vary.is_empty() {
        address.to_owned()
    } else {
        let mut names: Vec<String> = entry.vary.iter().map(|(name, _)| name.clone()).collect();
        names.extend(known.iter().cloned());
        names.sort();
        names.dedup();
        let headers = Headers::new()?;
        headers.set("cache-control", &lifetime)?;
        headers.set(VARY, &names.join(","))?;
        headers.set(TAG, &judgement.tags.join(","))?;
        put(address, &reply::empty(200, &headers)?).await?;
        variant(address, &names, head)
    };
    let (record, headers) = pack(judgement, origin, response.status())?;
    let json = serde_json::to_string(&record).map_err(|why| JsValue::from_str(&why.to_string()))?;
    headers.set(RECORD, &json)?;
    headers.set("cache-control", &lifetime)?;
    put(&url, &reply::coded(&reply::init(200, &headers), response)?).await
}

/// Splits the origin's fields into those of the record and those that are stored as they are.
fn pack(
    judgement: Judgement,
    origin: &[(String, String)],
    status: u16,
) -> Result<(Record, Headers), JsValue> {
    let headers = Headers::new()?;
    let mut hidden = Vec::new();
    let edits = &judgement.edits;
    let changed = edits.iter().map(Edit::name);
    let set = edits.iter().filter_map(|edit| Some((edit.name(), edit.value()?)));
    let kept = origin.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let kept = kept.filter(|(name, _)| !changed.clone().any(|own| own == *name));
    let named = named_by_connection(&origin);
    for (name, value) in kept.chain(set) {
        if DROPPED.contains(&name) || !judgement.keeps(name, &named) {
            continue;
        }
        if HIDDEN.contains(&name) {
            hidden.push((name.to_owned(), value.to_owned()));
        } else {
            headers.append(name, value)?;
        }
    }
    let Judgement { entry, client_cache_control, tags, .. } = judgement;
    headers.set(TAG, &tags.join(","))?;
    // Ranges of an encoded body are not served, because whoever stands between us and the client may have to
    // decode it.
    let length =
        length(&headers).filter(|_| !origin.iter().any(|(name, _)| name == "content-encoding"));
    Ok((Record { entry, status, hidden, client_cache_control, length }, headers))
}

impl Found {
    /// Stores the same body under the fields that a 304 brought.
    pub(crate) fn renewed(
        &self,
        judgement: Judgement,
        origin: &[(String, String)],
    ) -> Result<Self, JsValue> {
        let (record, headers) = pack(judgement, origin, self.status())?;
        let response = reply::coded(&reply::init(200, &headers), &self.response)?;
        Ok(Self { record, url: self.url.clone(), response })
    }

    pub(crate) fn status(&self) -> u16 {
        self.record.status
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.record.length
    }

    /// The fields as the origin sent them.
    pub(crate) fn origin_fields(&self) -> Vec<(String, String)> {
        let is_own = |name: &str| DROPPED.contains(&name) || HIDDEN.contains(&name);
        let mut fields = pairs(&self.response.headers());
        fields.retain(|(name, _)| !is_own(name));
        fields.extend(self.record.hidden.iter().cloned());
        fields
    }

    /// A second handle on the body, for storing it again while a client reads it.
    pub(crate) fn split(&self) -> Result<Response, JsValue> {
        let copy = self.response.clone()?;
        if is_bodiless(self.status()) {
            return reply::empty(self.status(), &copy.headers());
        }
        reply::coded(&reply::init(self.status(), &copy.headers()), &copy)
    }

    /// The bytes `from..=to` of the body, cut by the API.
    pub(crate) async fn part(&self, from: u64, to: u64) -> Result<Option<Response>, JsValue> {
        let part = get(&self.url, Some(&format!("bytes={from}-{to}"))).await?;
        Ok(part.filter(|part| part.status() == 206))
    }

    /// The stored answer as clients see it.
    pub(crate) fn answer(&self, dressed: &Dressed) -> Result<Response, JsValue> {
        let headers = self.response.headers();
        if is_bodiless(self.status()) {
            self.discard();
            return self.dress(reply::empty(self.status(), &headers)?, dressed);
        }
        let init = reply::init(self.status(), &headers);
        self.dress(reply::coded(&init, &self.response)?, dressed)
    }

    /// Gives an answer made from this entry the fields that clients see.
    pub(crate) fn dress(&self, answer: Response, dressed: &Dressed) -> Result<Response, JsValue> {
        let headers = answer.headers();
        for name in DROPPED.iter().chain(&HIDDEN) {
            headers.delete(name)?;
        }
        for (name, value) in &self.record.hidden {
            headers.append(name, value)?;
        }
        if let Some(value) = &self.record.client_cache_control {
            headers.set("cache-control", value)?;
        }
        headers.set("age", &dressed.age.to_string())?;
        if let Some(way) = &dressed.way {
            headers.set("cache-status", way)?;
        }
        reply::add_status(&headers, &dressed.status.member(Tier::Edge))?;
        Ok(answer)
    }

    /// The body under the fields that a 304 left, for an answer that is no longer kept.
    pub(crate) fn under(
        &self,
        origin: &[(String, String)],
        status: CacheStatus,
    ) -> Result<Response, JsValue> {
        let headers = Headers::new()?;
        for (name, value) in origin {
            headers.append(name, value)?;
        }
        reply::add_status(&headers, &status.member(Tier::Edge))?;
        if is_bodiless(self.status()) {
            return reply::empty(self.status(), &headers);
        }
        reply::coded(&reply::init(self.status(), &headers), &self.response)
    }

    /// The address of the entry itself, as [`delete`] takes it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn headers(&self) -> Headers {
        self.response.headers()
    }

    pub(crate) fn discard(&self) {
        discard(&self.response);
    }
}

/// Whether a response with this status must have no body (Fetch standard, null body status).
fn is_bodiless(status: u16) -> bool {
    matches!(status, 204 | 205 | 304)
}

/// Tells the runtime that nobody will read this body.
pub(crate) fn discard(response: &Response) {
    if let Some(body) = response.body() {
        // Nobody waits for the promise: it fails only on a body that has been read.
        let _ = body.cancel();
    }
}

/// Whether the body is too large to be kept, as far as its length is known.
pub(crate) fn is_too_large(response: &Response) -> bool {
    length(&response.headers()).is_some_and(|length| length > BODY_BYTES_MAX)
}

fn length(headers: &Headers) -> Option<u64> {
    first(&View(headers), "content-length")?.parse().ok()
}
