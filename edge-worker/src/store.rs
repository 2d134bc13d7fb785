//! Entries in `caches.default`, under our policy and not under that API's: it ignores `Vary`, has
//! no stale windows and decides by `Cache-Control`. So an entry is kept for as long as it can be
//! of any use, and carries in one private field what the policy needs to know of it.

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

/// Under the reserved prefix and on the request's own host, which is where Cloudflare wants a
/// Worker's entries. Nobody can ask for it from outside: see [`is_inside`].
const PREFIX: &str = "/edge-cache/";
/// The record of an entry.
const RECORD: &str = "x-spillway-record";
/// Names of request fields: the entry is a marker, and the variants lie at other addresses.
const VARY: &str = "x-spillway-vary";
/// The tags by which the platform purges entries, when its API is asked to.
const TAG: &str = "cache-tag";
/// What a stored answer says about caching: taken off, so that the API does not act on it, and
/// put back before a client sees the answer.
const HIDDEN: [&str; 9] = [
    "cache-control",
    // The bytes are kept as the origin coded them, and nobody on the way is to take that off or put it
    // on once more.
    "content-encoding",
    TAG,
    "cdn-cache-control",
    "cloudflare-cdn-cache-control",
    "expires",
    "set-cookie",
    "spillway-cache-control",
    "vary",
];
/// What the API adds to an answer it gives back, and our own fields, which an origin must not be able to write.
const DROPPED: [&str; 4] = ["age", "cf-cache-status", RECORD, VARY];
/// An answer that must be asked for each time, but may be confirmed by 304, is kept so long.
const VALIDATOR: Millis = Millis(86_400_000);
/// A stored body is read by client and store at once, and what the slower one has not taken lies
/// in the isolate's 128 MiB. Larger bodies pass by.
pub(crate) const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What is kept of an answer besides its head and body.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) entry: Entry,
    /// The answer's own; stored is a 200, as the API keeps not all others.
    status: u16,
    /// The origin's words about caching.
    hidden: Vec<(String, String)>,
    /// Sent to clients in place of the origin's `Cache-Control`.
    client_cache_control: Option<String>,
    /// Of the body, when the origin said it: the API tells it of no body that was streamed.
    length: Option<u64>,
}

/// A stored answer as the API gave it back.
pub(crate) struct Found {
    pub(crate) record: Record,
    /// Where exactly it lies; not the marker.
    url: String,
    response: Response,
}

/// What is said of a stored answer when it is served.
pub(crate) struct Dressed {
    /// Seconds.
    pub(crate) age: u64,
    /// `Cache-Status` members of this request, in the place of those that were stored.
    pub(crate) way: Option<String>,
    pub(crate) status: CacheStatus,
}

pub(crate) enum Lookup {
    Nothing,
    /// There are variants, but none for this request.
    OtherVariant {
        names: Vec<String>,
    },
    Found(Box<Found>),
}

/// Whether somebody asks for an entry's own address.
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

/// One look, or two when the answer varies.
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
    // An entry of an older version of this program is no entry; such may have left a coding in sight.
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

/// Forgets the entry, or the marker and with it all variants. In this data centre only.
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

/// Parts the origin's fields into the record and those that are stored as they are.
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
    // Of a coded body no parts are given: who stands between us and the client may have to decode it.
    let length =
        length(&headers).filter(|_| !origin.iter().any(|(name, _)| name == "content-encoding"));
    Ok((Record { entry, status, hidden, client_cache_control, length }, headers))
}

impl Found {
    /// The same body under the fields that a 304 brought.
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

    /// The bytes `from..=to`, cut by the API.
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

    /// The body under the fields that a 304 left, for an answer that is not kept on.
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

    /// Where exactly it lies, as [`delete`] takes it.
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

/// Statuses whose responses a runtime makes without a body only (Fetch standard, null body status).
fn is_bodiless(status: u16) -> bool {
    matches!(status, 204 | 205 | 304)
}

/// Tells the runtime that nobody will read this body.
pub(crate) fn discard(response: &Response) {
    if let Some(body) = response.body() {
        // Nobody waits for it: it fails only on a body that has been read.
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
