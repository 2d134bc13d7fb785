//! A redirect of a request to its own path: finds out whether the origin was shown too little, and which
//! fields it lacked (`rules::cache`, `Plan::leads_back`).
//!
//! The isolate remembers what it finds out. Other isolates learn it from the entries that it stores, because
//! a marker lists the names that these vary by.

use crate::call::{BACKGROUND, Call};
use crate::incoming::pairs;
use crate::origin;
use crate::{js, store};
use rules::cache::{Led, Plan, Trial};
use rules::{Millis, ResponseHead, UnixMillis};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use wasm_bindgen::prelude::JsValue;
use web_sys::Response;
use worker::console_warn;

/// The number of addresses that an isolate remembers; it has 128 MiB of memory.
const ADDRESSES_MAX: usize = 1_000;
/// How long an address bypasses the store, in milliseconds; the sidecar has the same value.
const PASSES: Millis = Millis(10_000);

thread_local! {
    /// Names of request fields that redirects of a route turned out to depend on.
    static LEARNED: RefCell<HashMap<&'static str, Vec<String>>> = RefCell::new(HashMap::new());
    /// Until when an address bypasses the store, and how. It does where no single field explains its
    /// redirects, where they may lead on for other clients, or where its answers may not be stored and parts
    /// of them are asked for.
    static PASSING: RefCell<HashMap<String, (UnixMillis, Passing)>> = RefCell::new(HashMap::new());
    /// The routes of which fields are being tried, and since when.
    static TRIED: RefCell<HashMap<&'static str, UnixMillis>> = RefCell::new(HashMap::new());
}

/// What this isolate knows about the request's route.
pub(crate) fn learned(call: &Call) -> Vec<String> {
    LEARNED.with_borrow(|all| all.get(call.route).cloned().unwrap_or_default())
}

/// How requests go to the origin for an address whose answers can't be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    /// With all that the client sent, because without it the origin redirects them to their own path.
    Whole,
    /// As a fetch for the store would go, but with the client's own conditions and range.
    Planned,
}

/// How requests for this address bypass the store, if they do.
pub(crate) fn passing(address: &str) -> Option<Passing> {
    let now = js::now();
    PASSING.with_borrow(|all| all.get(address).filter(|(until, _)| now < *until).map(|it| it.1))
}

/// The origin's answer to the client's whole request.
pub(crate) enum Whole {
    /// It does not differ: it is the same answer, or the first one was no redirect to its own path, or the
    /// origin gave no second one.
    Same(Response),
    /// It differs, and is the client's answer. It must not be kept, because it may depend on anything.
    Other(Response),
}

/// Where the origin redirects the request to its own path, asks once more with all that the client sent. If
/// that fails, the redirect is the answer.
pub(crate) async fn whole(
    call: &Rc<Call>,
    plan: &Plan<'static>,
    response: Response,
) -> Result<Whole, JsValue> {
    if !leads_back(call, plan, &response) {
        return Ok(Whole::Same(response));
    }
    let led = led(&response)?;
    // The method is that of the fetch it is compared with, because some origins answer HEAD differently.
    let Ok(whole) = origin::pass_as(call, "GET", plan.target()).await? else {
        return Ok(Whole::Same(response));
    };
    store::discard(&response);
    if self::led(&whole)? == led {
        // For other clients the redirect may lead on, depending on what is kept back here.
        pass_for_a_while(store::address(call, plan), Passing::Whole);
        return Ok(Whole::Same(whole));
    }
    let (owner, plan) = (Rc::clone(call), plan.clone());
    call.context.wait_until(async move { find_out(&owner, plan, led).await });
    Ok(Whole::Other(whole))
}

fn leads_back(call: &Call, plan: &Plan<'_>, response: &Response) -> bool {
    let (status, fields) = (response.status(), pairs(&response.headers()));
    plan.leads_back(&call.incoming.head(), &ResponseHead { status, fields: &fields })
}

fn led(response: &Response) -> Result<Led, JsValue> {
    let location = response.headers().get("location")?;
    Ok((response.status(), location.map(String::into_bytes)))
}

/// Tries the fields that were kept back one by one; a field whose presence changes the answer is learned for
/// the route. If none does, the address bypasses the store for a while.
async fn find_out(call: &Rc<Call>, mut plan: Plan<'static>, led: Led) {
    let now = js::now();
    let is_first = TRIED.with_borrow_mut(|tried| {
        // A trial that the platform cut off never reports its end.
        tried.retain(|_, since| now - *since < BACKGROUND);
        tried.insert(call.route, now).is_none()
    });
    if !is_first {
        return;
    }
    let is_known = |name: &String| plan.learned.contains(name);
    if !learned(call).iter().all(is_known) {
        // Something was learned since this answer was asked for, so the next one may be right.
        forget_trial(call);
        return;
    }
    // The fields that the origin would be sent.
    let Ok(headers) = origin::cleaned(&call.incoming) else { return forget_trial(call) };
    let names = pairs(&headers);
    let names = names.iter().map(|(name, _)| name.as_str());
    let untried = plan.untried(names, &call.incoming.head());
    let tried = untried.join(", ");
    let mut trial = Trial::new(plan.learned.clone(), untried, led);
    while let Some(fields) = trial.next_fields() {
        plan.learned = fields;
        trial.led(leads_to(call, &plan).await.as_ref());
    }
    let found = trial.found();
    forget_trial(call);
    if found.is_empty() {
        pass_for_a_while(store::address(call, &plan), Passing::Whole);
        console_warn!(
            "spillway-edge: shown-too-little: route {}: the origin redirects a request to its own path unless it is \
             sent whole, and none of these fields alone explains it: {tried}. Add what it depends on to the route's `headers`.",
            call.route,
        );
        return;
    }
    LEARNED.with_borrow_mut(|all| {
        let known = all.entry(call.route).or_default();
        known.extend(found);
        known.sort();
        known.dedup();
    });
}

fn forget_trial(call: &Call) {
    TRIED.with_borrow_mut(|tried| tried.remove(call.route));
}

/// Where the origin redirects what the plan asks for; none when the fetch fails.
async fn leads_to(call: &Call, plan: &Plan<'static>) -> Option<Led> {
    let response = origin::fill(call, plan, None).await.ok()?.ok()?;
    store::discard(&response);
    led(&response).ok()
}

/// Remembers for some seconds that the address bypasses the store.
pub(crate) fn pass_for_a_while(address: String, how: Passing) {
    let now = js::now();
    PASSING.with_borrow_mut(|all| {
        all.retain(|_, (until, _)| now < *until);
        if all.len() < ADDRESSES_MAX {
            all.insert(address, (now + PASSES, how));
        }
    });
}
