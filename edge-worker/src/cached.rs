//! A request that may be answered from the store: looks the entry up, fetches, judges and keeps the answer.

use crate::call::{BACKGROUND, Call};
use crate::fetched::{Fetched, New, Renewal, fetch};
use crate::incoming::pairs;
use crate::redirected::Passing;
use crate::store::{self, Dressed, Found};
use crate::{js, origin, passed, redirected, reply};
use rules::UnixMillis;
use rules::cache::conditional::{Selected, select};
use rules::cache::status::Miss;
use rules::cache::{AtHand, Bypass, CacheStatus, Judgement, NotStored, OldEntry, Plan, Reply};
use rules::hygiene::named_by_connection;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use wasm_bindgen::prelude::JsValue;
use web_sys::Response;
use worker::console_error;

thread_local! {
    /// Addresses that are being renewed in the background by this isolate, and since when.
    static RENEWING: RefCell<HashMap<String, UnixMillis>> = RefCell::new(HashMap::new());
}

pub(crate) async fn serve(call: Rc<Call>, mut plan: Plan<'static>) -> Result<Response, JsValue> {
    let address = store::address(&call, &plan);
    plan.learned = redirected::learned(&call);
    let (found, miss, names) = look_up(&call, &address).await;
    let lookup = found.as_ref().map(|found| found.record.entry.look_up(js::now()));
    match (plan.at_hand(lookup), found) {
        (AtHand::Serve(status), Some(found)) => from_entry(&call, &found, (None, status)).await,
        (AtHand::ServeAndRenew(status), Some(found)) => {
            renew(&call, plan, address);
            from_entry(&call, &found, (None, status)).await
        }
        (AtHand::OnlyIfCached, found) => {
            found.inspect(|found| found.discard());
            reply::only_if_cached(call.rules)
        }
        // A request that is redirected to its own path is sent on as it is, also where an older answer is
        // still stored.
        (_, found) if redirected::passing(&address) == Some(Passing::Whole) => {
            found.inspect(|found| found.discard());
            let status = CacheStatus::Bypass(Bypass::Uncacheable);
            passed::pass(&call, plan.target(), status).await
        }
        (_, None) if redirected::passing(&address) == Some(Passing::Planned) => {
            own_range(&call, &plan, CacheStatus::Bypass(Bypass::Uncacheable)).await
        }
        (_, found) => {
            plan.learned.extend(names.iter().cloned());
            let fetched = fetch(&call, &mut plan, found.as_deref()).await?;
            finish(&call, &plan, Asked { address, found, miss, names }, fetched).await
        }
    }
}

/// What a fetch is for.
struct Asked {
    address: String,
    /// The entry that was stored when the fetch began, and why it did not suffice.
    found: Option<Box<Found>>,
    miss: Miss,
    /// The request fields that variants at this address depend on.
    names: Vec<String>,
}

/// Looks an entry up; a store that fails counts as empty.
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

/// Answers with what was stored or with what the fetch brought.
async fn finish(
    call: &Rc<Call>,
    plan: &Plan<'static>,
    asked: Asked,
    fetched: Fetched,
) -> Result<Response, JsValue> {
    let outcome = fetched.outcome();
    if let (Some(found), OldEntry::Removed(_)) = (&asked.found, outcome.old_entry(plan)) {
        let url = found.url().to_owned();
        in_background(call, async move { store::delete(&url).await });
    }
    let entry = asked.found.as_ref().map(|found| &found.record.entry);
    let reply = outcome.reply(&call.incoming.head(), (entry, asked.miss), js::now());
    match (reply, fetched, &asked.found) {
        (Reply::Stale(status), fetched, Some(found)) => {
            let way = fetched.way()?;
            fetched.discard();
            from_entry(call, found, (way, status)).await
        }
        (Reply::Fetched(status), Fetched::Confirmed(renewal), Some(found)) => {
            renewed(call, plan, (&asked.address, found), renewal, status).await
        }
        (Reply::Fetched(status), Fetched::New(new), found) => {
            found.as_ref().inspect(|found| found.discard());
            forward(call, plan, (&asked.address, asked.names), *new, status)
        }
        (Reply::Fetched(status), Fetched::Whole(response), found) => {
            found.as_ref().inspect(|found| found.discard());
            unkept(call, plan, &response, status)
        }
        (Reply::OwnRange(status), fetched, found) => {
            found.as_ref().inspect(|found| found.discard());
            fetched.discard();
            // Browsers ask for the next part at once.
            redirected::pass_for_a_while(asked.address, Passing::Planned);
            own_range(call, plan, status).await
        }
        (_, Fetched::Failed(failure), found) => {
            found.as_ref().inspect(|found| found.discard());
            let (reason, stored) = (asked.miss, Err(NotStored::Status));
            let status = CacheStatus::Miss { reason, stored, collapsed: false };
            reply::failed(call.rules, &failure, status)
        }
        _ => Err("the answer to a fetch and what follows from it do not fit".into()),
    }
}

/// Sends on a request for a part of something that is not stored.
async fn own_range(
    call: &Rc<Call>,
    plan: &Plan<'static>,
    status: CacheStatus,
) -> Result<Response, JsValue> {
    match origin::own_range(call, plan).await? {
        Ok(response) => unkept(call, plan, &response, status),
        Err(failure) => reply::failed(call.rules, &failure, status),
    }
}

/// Answers with the origin's answer, which is not kept.
fn unkept(
    call: &Rc<Call>,
    plan: &Plan<'static>,
    response: &Response,
    status: CacheStatus,
) -> Result<Response, JsValue> {
    let answer = reply::passed(response, status)?;
    reply::edited(call, plan.target(), &answer)?;
    if plan.is_head { bodiless(&answer, answer.status()) } else { Ok(answer) }
}

/// Answers from an entry that a 304 has confirmed. Keeps the entry, unless its new fields forbid that: then
/// the body serves this one answer.
async fn renewed(
    call: &Rc<Call>,
    plan: &Plan<'static>,
    (address, found): (&str, &Found),
    renewal: Renewal,
    status: CacheStatus,
) -> Result<Response, JsValue> {
    let Renewal { fields, judged, cookies } = renewal;
    let answer = match judged {
        Ok(judgement) => {
            let body = found.split()?;
            let found = found.renewed((*judgement).clone(), &fields)?;
            keep(call, address, *judgement, fields, body, Vec::new());
            from_entry(call, &found, (None, status)).await?
        }
        Err(_) => {
            let answer = found.under(&fields, status)?;
            reply::edited(call, plan.target(), &answer)?;
            if plan.is_head { bodiless(&answer, answer.status())? } else { answer }
        }
    };
    for cookie in cookies {
        answer.headers().append("set-cookie", &cookie)?;
    }
    Ok(answer)
}

/// Answers with what the origin sent, and keeps it if it may be kept.
fn forward(
    call: &Rc<Call>,
    plan: &Plan<'static>,
    (address, names): (&str, Vec<String>),
    new: New,
    status: CacheStatus,
) -> Result<Response, JsValue> {
    let New { response, fields, judged } = new;
    let Ok(judgement) = judged else { return unkept(call, plan, &response, status) };
    let selected = select(&call.incoming.head(), &judgement.entry, response.status(), None);
    let answer = reply::passed(&response.clone()?, status)?;
    let headers = answer.headers();
    let named = named_by_connection(&fields);
    for (name, _) in &fields {
        // The first client is told the same as later ones, and the age that the answer came with.
        if name != "age" && !judgement.keeps(name, &named) {
            headers.delete(name)?;
        }
    }
    reply::edit(&headers, &judgement.edits)?;
    if let Some(value) = &judgement.client_cache_control {
        headers.set("cache-control", value)?;
    }
    keep(call, address, judgement, fields, response, names);
    if selected == Selected::NotModified {
        return bodiless(&answer, 304);
    }
    if plan.is_head { bodiless(&answer, answer.status()) } else { Ok(answer) }
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

/// Revalidates a stale answer in the background, at most once at a time per address and isolate.
fn renew(call: &Rc<Call>, mut plan: Plan<'static>, address: String) {
    let now = js::now();
    let is_first = RENEWING.with_borrow_mut(|renewing| {
        renewing.retain(|_, since| now - *since < BACKGROUND);
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
    let fetched = fetch(call, plan, Some(&found)).await?;
    if let OldEntry::Removed(_) = fetched.outcome().old_entry(plan) {
        found.discard();
        fetched.discard();
        return store::delete(found.url()).await;
    }
    match fetched {
        Fetched::Confirmed(Renewal { fields, judged: Ok(judgement), .. }) => {
            let body = found.split()?;
            found.discard();
            store::keep(address, &head, *judgement, &fields, &body, &[]).await
        }
        Fetched::New(new) if new.judged.is_ok() => {
            found.discard();
            let New { response, fields, judged } = *new;
            let Ok(judgement) = judged else { return Ok(()) };
            store::keep(address, &head, judgement, &fields, &response, &[]).await
        }
        fetched => {
            found.discard();
            fetched.discard();
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

/// A stored answer, or the part of it that the request asks for. `way` are the members of the caches that were
/// asked in this request, where that came to nothing.
async fn from_entry(
    call: &Call,
    found: &Found,
    (way, status): (Option<String>, CacheStatus),
) -> Result<Response, JsValue> {
    let head = call.incoming.head();
    let dressed = Dressed { age: found.record.entry.age(js::now()).as_secs(), way, status };
    match select(&head, &found.record.entry, found.status(), found.length()) {
        Selected::NotModified => {
            found.discard();
            let answer = found.dress(reply::empty(304, &found.headers())?, &dressed)?;
            bodiless(&answer, 304)
        }
        Selected::Part { from, to } => match found.part(from, to).await? {
            Some(part) => {
                found.discard();
                found.dress(reply::copy(&part)?, &dressed)
            }
            None => found.answer(&dressed),
        },
        Selected::Unsatisfiable => {
            found.discard();
            let answer = found.dress(reply::empty(416, &found.headers())?, &dressed)?;
            let length = found.length().unwrap_or_default();
            answer.headers().set("content-range", &format!("bytes */{length}"))?;
            bodiless(&answer, 416)
        }
        Selected::Full if head.method == "HEAD" => {
            found.discard();
            found.dress(reply::empty(found.status(), &found.headers())?, &dressed)
        }
        Selected::Full => found.answer(&dressed),
    }
}

/// The fields of an answer under another status, without those that describe a body it does not have.
fn bodiless(answer: &Response, status: u16) -> Result<Response, JsValue> {
    store::discard(answer);
    let headers = answer.headers();
    if status == 304 || status == 416 {
        for (name, _) in pairs(&headers) {
            if Selected::NotModified.leaves_out(&name) {
                headers.delete(&name)?;
            }
        }
    }
    reply::empty(status, &headers)
}
