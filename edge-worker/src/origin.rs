//! Requests to the origin: what a client may not say is taken off, and the wait is bounded.

use crate::call::{Call, Failure};
use crate::incoming::{Incoming, View, pairs, split};
use crate::{js, reply};
use js_sys::{Array, Promise};
use rules::cache::{Entry, Plan, USER_AGENT, is_of_one_request};
use rules::signature::{self, Keys};
use rules::visitor::{self, Visitor};
use rules::{Head, Millis};
use rules::{hops, hygiene};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, Crypto, Headers, Request, RequestCache, RequestInit, RequestRedirect, Response,
};

/// How long the head of an answer may take on routes without `timeout`: as long as most load balancers wait.
pub(crate) const HEAD_TIMEOUT: Millis = Millis(60_000);

/// Fields that the edge itself writes; both are part of the key.
const OWN: [&str; 2] = ["x-forwarded-host", "x-forwarded-proto"];

/// The outer error is a fault of ours, the inner one the origin's.
pub(crate) type Answer = Result<Result<Response, Failure>, JsValue>;

/// Sends the request itself on, body and all.
pub(crate) async fn pass(call: &Call, target: &str) -> Answer {
    pass_as(call, &call.incoming.method, target).await
}

/// Sends the request itself on with this method.
pub(crate) async fn pass_as(call: &Call, method: &str, target: &str) -> Answer {
    let incoming = &call.incoming;
    let init = RequestInit::new();
    init.set_method(method);
    let headers = cleaned(incoming)?;
    headers.append(hops::FIELD, hops::MEMBER)?;
    init.set_headers(&headers);
    let has_body = !matches!(method, "GET" | "HEAD");
    init.set_body(&match incoming.request.body() {
        Some(body) if has_body => body.into(),
        _ => JsValue::UNDEFINED,
    });
    send(call, target, &init).await
}

/// Fetches an answer that the plan says may be stored, and shows the origin what the plan says it may see.
/// `entry` is the one to revalidate.
pub(crate) async fn fill(call: &Call, plan: &Plan<'_>, entry: Option<&Entry>) -> Answer {
    let head = call.incoming.head();
    let headers = planned(call, |name| plan.sends(name, &head))?;
    for (name, value) in plan.own_fields(entry) {
        headers.set(name, &String::from_utf8_lossy(value))?;
    }
    get(call, plan, &headers).await
}

/// Fetches the same for a request whose answer is known not to be kept, with the client's own conditions and
/// range.
pub(crate) async fn own_range(call: &Call, plan: &Plan<'_>) -> Answer {
    let head = call.incoming.head();
    let headers = planned(call, |name| is_of_one_request(name) || plan.sends(name, &head))?;
    for (name, value) in plan.own_fields(None) {
        headers.set(name, &String::from_utf8_lossy(value))?;
    }
    get(call, plan, &headers).await
}

fn planned(call: &Call, is_sent: impl Fn(&str) -> bool) -> Result<Headers, JsValue> {
    let headers = cleaned(&call.incoming)?;
    for (name, _) in pairs(&headers) {
        if !is_sent(&name) && !OWN.contains(&name.as_str()) {
            headers.delete(&name)?;
        }
    }
    if !headers.has("user-agent")? {
        headers.set("user-agent", USER_AGENT)?;
    }
    // The client's own fields are left behind with everything that is not part of the key, but not the number
    // of Spillway processes that the request has passed.
    headers.delete(hops::FIELD)?;
    for _ in 0..=hops::count(&call.incoming) {
        headers.append(hops::FIELD, hops::MEMBER)?;
    }
    Ok(headers)
}

async fn get(call: &Call, plan: &Plan<'_>, headers: &Headers) -> Answer {
    let init = RequestInit::new();
    init.set_method("GET");
    init.set_headers(headers);
    send(call, plan.target(), &init).await
}

async fn send(call: &Call, target: &str, init: &RequestInit) -> Answer {
    let url = match &call.origin {
        Some(origin) if is_origin(origin) => format!("{origin}{target}"),
        Some(origin) => return Err(format!("`{origin}` is not an origin").into()),
        None => format!("{}://{}{target}", call.incoming.scheme, call.incoming.host),
    };
    let abort = AbortController::new()?;
    init.set_signal(Some(&abort.signal()));
    init.set_redirect(RequestRedirect::Manual);
    // The zone's own cache would keep static-looking paths on top of what the rules allow.
    init.set_cache(RequestCache::NoStore);
    let request = Request::new_with_str_and_init(&url, init)?;
    if let Some(keys) = call.keys {
        tell(call, &request)?;
        sign(keys, &request)?;
    }
    let fetching = RequestInit::new();
    js::leave_coded(&fetching, "encodeResponseBody")?;
    // Only the head has a deadline: a body may stream for hours.
    let deadline = js::SCHEDULER.with(|scheduler| scheduler.wait(call.timeout.0 as f64));
    let race = Array::of2(&js::fetch(&request, &fetching), &deadline);
    match JsFuture::from(Promise::race(&race)).await {
        Ok(winner) => match winner.dyn_into::<Response>() {
            Ok(response) => Ok(Ok(as_visited(call, response)?)),
            Err(_) => {
                abort.abort();
                Ok(Err(Failure::Timeout))
            }
        },
        Err(thrown) => Ok(Err(Failure::Unreachable(js::reason(&thrown)))),
    }
}

/// Tells the origin which host the visitor asked, where the origin has another one.
fn tell(call: &Call, request: &Request) -> Result<(), JsValue> {
    let edge = &call.rules.document.edge;
    let origin = call.origin.as_deref();
    let told = origin.and_then(|origin| Visitor::told(edge, &call.incoming.head(), origin));
    if let Some(told) = told {
        request.headers().set(visitor::HOST, &told.host)?;
        request.headers().set(visitor::SCHEME, told.scheme)?;
    }
    Ok(())
}

/// Replaces the origin's own host by the visitor's, in a `Location` and in the domain of a cookie.
fn as_visited(call: &Call, response: Response) -> Result<Response, JsValue> {
    let Some(origin) = &call.origin else { return Ok(response) };
    let (head, own) = (call.incoming.head(), response.headers());
    let (host, scheme) =
        (head.host.to_owned(), if head.scheme == "https" { "https" } else { "http" });
    let location = own.get("location")?;
    let location = location.and_then(|it| Visitor { host, scheme }.location(&it, origin));
    let cookies: Vec<String> = pairs(&own)
        .into_iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, it)| it)
        .collect();
    let kept: Vec<Option<String>> = cookies.iter().map(|it| visitor::cookie(it, origin)).collect();
    let is_changed = location.is_some() || kept.iter().any(Option::is_some);
    if !is_changed || response.status() == 101 {
        return Ok(response);
    }
    let answer = reply::copy(&response)?;
    if let Some(location) = location {
        answer.headers().set("location", &location)?;
    }
    answer.headers().delete("set-cookie")?;
    for (value, without) in cookies.iter().zip(&kept) {
        answer.headers().append("set-cookie", without.as_ref().unwrap_or(value))?;
    }
    Ok(answer)
}

/// Adds our signature below a client's own. What is signed is read from the request as it will be
/// sent: the runtime has the last word on how a URL is spelled.
fn sign(keys: &Keys, request: &Request) -> Result<(), JsValue> {
    let (url, method) = (request.url(), request.method());
    let (scheme, host, target) = split(&url)?;
    let headers = request.headers();
    let head = Head { method: &method, scheme, host, target, fields: &View(&headers) };
    let nonce = js::CRYPTO.with(Crypto::random_uuid);
    let own = signature::sign(keys, &head, &nonce, js::now());
    for (name, value) in [("signature-input", own.input), ("signature", own.signature)] {
        headers.append(name, &value.ok_or("there is no signature")?)?;
    }
    Ok(())
}

fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
}

/// The client's fields without those that only a proxy or the edge itself may write.
pub(crate) fn cleaned(incoming: &Incoming) -> Result<Headers, JsValue> {
    let named = hygiene::named_by_connection(incoming);
    let headers = Headers::new()?;
    for (name, value) in pairs(&incoming.headers) {
        let name = name.as_str();
        let is_websocket = name == "upgrade" && value.eq_ignore_ascii_case("websocket");
        if is_websocket || !hygiene::is_kept_back_by_edge(name, &named) {
            headers.append(name, &value)?;
        }
    }
    // Cloudflare writes this one itself, whatever the client sends.
    if let Some(client) = incoming.headers.get("cf-connecting-ip")? {
        headers.set("x-forwarded-for", &client)?;
        headers.set("x-real-ip", &client)?;
    }
    headers.set("x-forwarded-host", &incoming.host)?;
    headers.set("x-forwarded-proto", &incoming.scheme)?;
    Ok(headers)
}
