//! A redirect of a request to its own path: whether the origin was shown too little, and of what
//! (`rules::cache`, `Plan::leads_back`).
//!
//! What is found out is remembered by the isolate; entries that were stored by it tell other isolates, because
//! a marker lists the names that they vary by.

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

/// Addresses that are remembered; an isolate has 128 MiB.
const ADDRESSES_MAX: usize = 1_000;
/// How long an address passes by the store, in milliseconds: as at the sidecar.
const PASSES: Millis = Millis(10_000);

thread_local! {
    /// Names of request fields that redirects of a route turned out to depend on.
    static LEARNED: RefCell<HashMap<&'static str, Vec<String>>> = RefCell::new(HashMap::new());
    /// Until when an address passes by the store, and how: no field alone explains its redirects, or they may
    /// lead on for others, or its answers may not be stored and parts of them are asked for.
    static PASSING: RefCell<HashMap<String, (UnixMillis, Passing)>> = RefCell::new(HashMap::new());
    /// Routes of which fields are tried, and since when.
    static TRIED: RefCell<HashMap<&'static str, UnixMillis>> = RefCell::new(HashMap::new());
}

/// What is known of the request's route.
pub(crate) fn learned(call: &Call) -> Vec<String> {
    LEARNED.with_borrow(|all| all.get(call.route).cloned().unwrap_or_default())
}

/// How requests for an address go to the origin whose answers can't be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    /// With all that the client sent: without it the origin redirects them to their own path.
    Whole,
    /// As a fetch for the store would, with the client's own conditions and range.
    Planned,
}

/// How requests for this address pass by the store, if they do.
pub(crate) fn passing(address: &str) -> Option<Passing> {
    let now = js::now();
    PASSING.with_borrow(|all| all.get(address).filter(|(until, _)| now < *until).map(|it| it.1))
}

/// What the origin answers to the client's request as it came.
pub(crate) enum Whole {
    /// The same, or what was asked is no redirect to its own path; or nothing else came.
    Same(Response),
    /// The client's answer. It is not to be kept: it may depend on anything.
    Other(Response),
}

/// Asks with all that the client sent, where the origin redirects the request to its own path. When that fails
/// the redirect is the answer.
pub(crate) async fn whole(
    call: &Rc<Call>,
    plan: &Plan<'static>,
    response: Response,
) -> Result<Whole, JsValue> {
    if !leads_back(call, plan, &response) {
        return Ok(Whole::Same(response));
    }
    let led = led(&response)?;
    // As the fetch that it is compared with: some origins answer HEAD in another way.
    let Ok(whole) = origin::pass_as(call, "GET", plan.target()).await? else {
        return Ok(Whole::Same(response));
    };
    store::discard(&response);
    if self::led(&whole)? == led {
        // For others it may lead on, by what is kept back here.
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

/// Tries the fields that were kept back one by one; what changes the answer by its presence is learned for
/// the route. If none does, the address passes by the store for a while.
async fn find_out(call: &Rc<Call>, mut plan: Plan<'static>, led: Led) {
    let now = js::now();
    let is_first = TRIED.with_borrow_mut(|tried| {
        // Of a trial that the platform cut off nothing is heard again.
        tried.retain(|_, since| now - *since < BACKGROUND);
        tried.insert(call.route, now).is_none()
    });
    if !is_first {
        return;
    }
    let is_known = |name: &String| plan.learned.contains(name);
    if !learned(call).iter().all(is_known) {
        // Something was learned since this answer was asked for: the next one may be right.
        forget_trial(call);
        return;
    }
    // Those that the origin would be sent.
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

/// Where the origin leads what the plan asks for; nothing when it fails.
async fn leads_to(call: &Call, plan: &Plan<'static>) -> Option<Led> {
    let response = origin::fill(call, plan, None).await.ok()?.ok()?;
    store::discard(&response);
    led(&response).ok()
}

/// Remembers it for some seconds.
pub(crate) fn pass_for_a_while(address: String, how: Passing) {
    let now = js::now();
    PASSING.with_borrow_mut(|all| {
        all.retain(|_, (until, _)| now < *until);
        if all.len() < ADDRESSES_MAX {
            all.insert(address, (now + PASSES, how));
        }
    });
}
