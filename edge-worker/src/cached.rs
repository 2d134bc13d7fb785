//! A request that may be answered from the store: look up, fetch, judge, keep.

use crate::fetched::{Fetched, Renewal, fetch};
use crate::incoming::pairs;
use crate::store::{self, Found};
use crate::{Call, js, redirected, reply};
use rules::cache::conditional::{Selected, select};
use rules::cache::status::Miss;
use rules::cache::{
    Bypass, CacheStatus, Judgement, Lookup, NotStored, OriginFailure, Plan, Tier, judge,
};
use rules::{Head, ResponseHead};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use wasm_bindgen::prelude::JsValue;
use web_sys::Response;
use worker::console_error;

/// Cloudflare ends background work so long after the answer; a renewal older than this is dead
/// and must not keep others from trying.
pub(crate) const BACKGROUND_MS: u64 = 30_000;

thread_local! {
    /// Addresses that are being renewed in the background by this isolate, and since when.
    static RENEWING: RefCell<HashMap<String, u64>> = RefCell::new(HashMap::new());
}

pub(crate) async fn serve(call: Rc<Call>, mut plan: Plan<'static>) -> Result<Response, JsValue> {
    let address = store::address(&call, &plan);
    if redirected::passes(&address) {
        let status = CacheStatus::Bypass(Bypass::Uncacheable);
        return crate::pass(&call, plan.target(), status).await;
    }
    plan.learned = redirected::learned(&call);
    let (found, miss, names) = look_up(&call, &address).await;
    let Some(found) = found else {
        if plan.only_if_cached {
            return reply::only_if_cached(call.rules);
        }
        plan.learned.extend(names.iter().cloned());
        let fetched = fetch(&call, &mut plan, None).await?;
        return forward(&call, &plan, &address, fetched, miss, names);
    };
    match found.record.entry.look_up(js::now()) {
        Lookup::Fresh { age, ttl } => {
            from_entry(&call, &found, age, &CacheStatus::Hit { ttl }.member(Tier::Edge)).await
        }
        Lookup::StaleWhileRevalidate { age, ttl } => {
            renew(&call, plan, address);
            from_entry(&call, &found, age, &CacheStatus::StaleHit { ttl }.member(Tier::Edge)).await
        }
        Lookup::Expired { .. } if plan.only_if_cached => {
            found.discard();
            reply::only_if_cached(call.rules)
        }
        Lookup::Expired { age, ttl } => {
            let fetched = fetch(&call, &mut plan, Some(&found)).await?;
            expired(&call, &plan, &address, found, fetched, Aged { seconds: age, ttl }).await
        }
    }
}

struct Aged {
    seconds: u64,
    ttl: i64,
}

/// A store that fails is an empty store.
async fn look_up(call: &Call, address: &str) -> (Option<Box<Found>>, Miss, Vec<String>) {
    match store::find(address, &call.incoming.head()).await {
        Ok(store::Lookup::Found(found)) => (Some(found), Miss::Stale, Vec::new()),
        Ok(store::Lookup::OtherVariant { names }) => (None, Miss::Vary, names),
        Ok(store::Lookup::Nothing) => (None, Miss::Uri, Vec::new()),
        Err(thrown) => {
            console_error!("spillway-edge: store-read: {}", js::reason(&thrown));
            (None, Miss::Uri, Vec::new())
        }
    }
}

/// Answers from an entry that had to be asked for again.
async fn expired(
    call: &Rc<Call>,
    plan: &Plan<'static>,
    address: &str,
    found: Box<Found>,
    fetched: Fetched,
    aged: Aged,
) -> Result<Response, JsValue> {
    let failed = match &fetched {
        Fetched::Confirmed(_) | Fetched::Whole(_) => None,
        Fetched::New(response) if response.status() < 500 => None,
        Fetched::New(response) => Some((OriginFailure::Status, Some(response.status()))),
        Fetched::Failed(_) => Some((OriginFailure::Unreachable, None)),
    };
    let way = fetched.way()?;
    let is_refused = |it: &Response| matches!(it.status(), 401 | 403);
    if plan.is_sealed && matches!(&fetched, Fetched::New(it) | Fetched::Whole(it) if is_refused(it))
    {
        // A token that the app does not take any more reads no stored answer either.
        let url = found.url().to_owned();
        in_background(call, async move { store::delete(&url).await });
    }
    if let Some((how, status)) = failed
        && found.record.entry.serves_on_error(how, js::now())
    {
        if let Fetched::New(response) = &fetched {
            store::discard(response);
        }
        let status = CacheStatus::StaleOnError { ttl: aged.ttl, status };
        return from_entry(call, &found, aged.seconds, &behind(way, status)).await;
    }
    let Fetched::Confirmed(renewal) = fetched else {
        found.discard();
        return forward(call, plan, address, fetched, Miss::Stale, Vec::new());
    };
    let cookies = renewal.cookies.clone();
    let answer = renewed(call, plan, address, &found, renewal, way).await?;
    for cookie in cookies {
        answer.headers().append("set-cookie", &cookie)?;
    }
    Ok(answer)
}

/// Answers from an entry that a 304 has confirmed, and keeps it on, or no longer where its new fields
/// forbid that: then the body is good for this one answer.
async fn renewed(
    call: &Rc<Call>,
    plan: &Plan<'static>,
    address: &str,
    found: &Found,
    renewal: Renewal,
    way: Option<String>,
) -> Result<Response, JsValue> {
    let Renewal { fields, judged, .. } = renewal;
    let judgement = match judged {
        Ok(judgement) => judgement,
        Err(why) => {
            let status =
                CacheStatus::Miss { reason: Miss::Stale, stored: Err(why), collapsed: false };
            let answer = found.under(&fields, status)?;
            reply::edited(call, plan.target(), &answer)?;
            let url = found.url().to_owned();
            in_background(call, async move { store::delete(&url).await });
            return if plan.is_head { bodiless(&answer, answer.status()) } else { Ok(answer) };
        }
    };
    let body = found.split()?;
    let found = found.renewed((*judgement).clone(), &fields)?;
    // A cache behind us may have confirmed an old answer because its own origin failed.
    let age = judgement.entry.age(js::now()) / 1000;
    keep(call, address, *judgement, fields, body, Vec::new());
    from_entry(call, &found, age, &behind(way, CacheStatus::Revalidated)).await
}

/// Our member behind those of the caches that were asked in this request.
fn behind(way: Option<String>, status: CacheStatus) -> String {
    let member = status.member(Tier::Edge);
    way.map_or_else(|| member.clone(), |way| format!("{way}, {member}"))
}

/// Answers with what the origin sent, and keeps it if it may be kept.
fn forward(
    call: &Rc<Call>,
    plan: &Plan<'static>,
    address: &str,
    fetched: Fetched,
    reason: Miss,
    names: Vec<String>,
) -> Result<Response, JsValue> {
    let response = match fetched {
        Fetched::New(response) => response,
        Fetched::Whole(response) => {
            let stored = Err(NotStored::ShownTooLittle);
            let status = CacheStatus::Miss { reason, stored, collapsed: false };
            let answer = reply::passed(&response, status)?;
            reply::edited(call, plan.target(), &answer)?;
            return if plan.is_head { bodiless(&answer, answer.status()) } else { Ok(answer) };
        }
        Fetched::Failed(failure) => {
            let stored = Err(NotStored::Status);
            let status = CacheStatus::Miss { reason, stored, collapsed: false };
            return reply::failed(call.rules, &failure, status);
        }
        Fetched::Confirmed(_) => return Err("a 304 without an entry".into()),
    };
    let head = call.incoming.head();
    let fields = pairs(&response.headers());
    let judged = judged(plan, &head, &response, &fields);
    let stored = judged.as_ref().map(|_| ()).map_err(|reason| *reason);
    let status = CacheStatus::Miss { reason, stored, collapsed: false };
    let mut client_cache_control = None;
    let mut not_modified = false;
    let answer = match judged {
        Ok(judgement) => {
            client_cache_control = judgement.client_cache_control.clone();
            let selected = select(&head, &judgement.entry, response.status(), None);
            not_modified = selected == Selected::NotModified;
            let removed = judgement.remove.clone();
            let answer = reply::passed(&response.clone()?, status)?;
            for name in removed {
                answer.headers().delete(&name)?;
            }
            reply::edit(&answer.headers(), &judgement.edits)?;
            store::date(&answer.headers(), judgement.entry.received)?;
            keep(call, address, judgement, fields, response, names);
            answer
        }
        Err(_) => {
            let answer = reply::passed(&response, status)?;
            reply::edited(call, plan.target(), &answer)?;
            answer
        }
    };
    if let Some(value) = client_cache_control {
        answer.headers().set("cache-control", &value)?;
    }
    if not_modified {
        return bodiless(&answer, 304);
    }
    if plan.is_head { bodiless(&answer, answer.status()) } else { Ok(answer) }
}

fn judged(
    plan: &Plan<'_>,
    head: &Head<'_>,
    response: &Response,
    fields: &Vec<(String, String)>,
) -> Result<Judgement, NotStored> {
    if store::is_too_large(response) {
        return Err(NotStored::TooLarge);
    }
    judge(plan, head, &ResponseHead { status: response.status(), fields }, js::now())
}

/// Stores in the background. A store that fails costs the next visitor a fetch, nothing more.
fn keep(
    call: &Rc<Call>,
    address: &str,
    judgement: Judgement,
    fields: Vec<(String, String)>,
    body: Response,
    names: Vec<String>,
) {
    let (owner, address) = (Rc::clone(call), address.to_owned());
    in_background(call, async move {
        let head = owner.incoming.head();
        store::keep(&address, &head, judgement, &fields, &body, &names).await
    });
}

/// Asks again behind a stale answer; at most once at a time per address and isolate.
fn renew(call: &Rc<Call>, mut plan: Plan<'static>, address: String) {
    let now = js::now();
    let is_first = RENEWING.with_borrow_mut(|renewing| {
        renewing.retain(|_, since| now.saturating_sub(*since) < BACKGROUND_MS);
        let is_first = !renewing.contains_key(&address);
        renewing.entry(address.clone()).or_insert(now);
        is_first
    });
    if !is_first {
        return;
    }
    let owner = Rc::clone(call);
    in_background(call, async move {
        let done = renew_now(&owner, &mut plan, &address).await;
        RENEWING.with_borrow_mut(|renewing| renewing.remove(&address));
        done
    });
}

async fn renew_now(
    call: &Rc<Call>,
    plan: &mut Plan<'static>,
    address: &str,
) -> Result<(), JsValue> {
    let head = call.incoming.head();
    let store::Lookup::Found(found) = store::find(address, &head).await? else { return Ok(()) };
    match fetch(call, plan, Some(&found)).await? {
        Fetched::Confirmed(Renewal { fields, judged: Ok(judgement), .. }) => {
            let body = found.split()?;
            found.discard();
            store::keep(address, &head, *judgement, &fields, &body, &[]).await
        }
        Fetched::Confirmed(Renewal { judged: Err(_), .. }) => {
            found.discard();
            store::delete(found.url()).await
        }
        Fetched::New(response) => {
            found.discard();
            let fields = pairs(&response.headers());
            let is_failure = response.status() >= 500;
            match judged(plan, &head, &response, &fields) {
                Ok(judgement) if !is_failure => {
                    store::keep(address, &head, judgement, &fields, &response, &[]).await
                }
                _ => {
                    store::discard(&response);
                    // Good, but no longer to be kept: the old answer is not the origin's any more.
                    if is_failure { Ok(()) } else { store::delete(address).await }
                }
            }
        }
        Fetched::Whole(response) => {
            store::discard(&response);
            found.discard();
            Ok(())
        }
        Fetched::Failed(_) => {
            found.discard();
            Ok(())
        }
    }
}

fn in_background(call: &Call, work: impl Future<Output = Result<(), JsValue>> + 'static) {
    call.context.wait_until(async move {
        if let Err(thrown) = work.await {
            console_error!("spillway-edge: store-write: {}", js::reason(&thrown));
        }
    });
}

/// A stored answer, or the part of it that the request asks for; `status` is its `Cache-Status`.
async fn from_entry(
    call: &Call,
    found: &Found,
    age: u64,
    status: &str,
) -> Result<Response, JsValue> {
    let head = call.incoming.head();
    let entry = &found.record.entry;
    match select(&head, entry, found.status(), found.length()) {
        Selected::NotModified => {
            found.discard();
            let answer = found.dress(reply::empty(304, &found.headers())?, age, status)?;
            bodiless(&answer, 304)
        }
        Selected::Part { from, to } => match found.part(from, to).await? {
            Some(part) => {
                found.discard();
                found.dress(reply::copy(&part)?, age, status)
            }
            None => found.answer(age, status),
        },
        Selected::Unsatisfiable => {
            found.discard();
            let answer = found.dress(reply::empty(416, &found.headers())?, age, status)?;
            let length = found.length().unwrap_or_default();
            answer.headers().set("content-range", &format!("bytes */{length}"))?;
            bodiless(&answer, 416)
        }
        Selected::Full if head.method == "HEAD" => {
            found.discard();
            found.dress(reply::empty(found.status(), &found.headers())?, age, status)
        }
        Selected::Full => found.answer(age, status),
    }
}

/// The fields of an answer under another status, without those of a body it does not have.
fn bodiless(answer: &Response, status: u16) -> Result<Response, JsValue> {
    store::discard(answer);
    let headers = answer.headers();
    if status == 304 || status == 416 {
        for name in ["content-length", "content-encoding", "transfer-encoding"] {
            headers.delete(name)?;
        }
    }
    reply::empty(status, &headers)
}
