//! The Cloudflare half of Spillway: carries out what `rules::edge` decides.
//!
//! Bodies stay in the runtime: only handles of requests and responses pass through here, because
//! a body that enters wasm costs twenty times the CPU of one that does not.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod cached;
mod call;
mod fetched;
mod incoming;
mod invalidate;
mod js;
mod origin;
mod passed;
mod redirected;
mod reply;
mod store;

use call::Call;
use incoming::Incoming;
use passed::pass;
use rules::assets::Assets;
use rules::cache::{Bypass, CacheStatus, TokenKey};
use rules::demo;
use rules::document::UNMATCHED;
use rules::edge::{EdgeAction, decide};
use rules::signature::Keys;
use rules::{Problem, Rules};
use std::cell::OnceCell;
use std::rc::Rc;
use wasm_bindgen::prelude::JsValue;
use web_sys::{Request, Response};
use worker::{Context, Env, console_error};

/// The variable with the origin of this deployment, which replaces the one in the rules.
const ORIGIN_VARIABLE: &str = "SPILLWAY_ORIGIN";
/// The Worker's secret with the keys that it shares with the sidecars, `NAME=SECRET` each. The first one
/// signs.
const KEYS_SECRET: &str = "SPILLWAY_EDGE_KEYS";

thread_local! {
    /// The rules, built by the isolate's first request. They are leaked on purpose: they live as long as the
    /// isolate, and background work outlives the request that started it.
    static RULES: OnceCell<Result<&'static Rules, String>> = const { OnceCell::new() };
    static KEYS: OnceCell<Result<Option<&'static Keys>, String>> = const { OnceCell::new() };
}

/// The Worker's `fetch` handler. Never rejects: a failure of our own is an answer with a name.
#[worker::event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    match answer(request, &env, context).await {
        Ok(response) => Ok(response),
        Err(thrown) => {
            let reason = js::reason(&thrown);
            console_error!("spillway-edge: internal: {reason}");
            Ok(reply::internal(&reason)?)
        }
    }
}

async fn answer(request: Request, env: &Env, context: Context) -> Result<Response, JsValue> {
    let rules = isolate_rules().map_err(|reason| JsValue::from_str(&reason))?;
    let incoming = Incoming::new(request)?;
    let head = incoming.head();
    let bound = env.var(ORIGIN_VARIABLE).ok().map(|origin| origin.to_string());
    // This is checked before the rules are asked, because a canonical host of the demo would be a redirect to
    // a stranger.
    if demo::is_demo(&rules.document, bound.as_deref(), head.host) {
        return reply::problem(rules, Problem::DemoRules);
    }
    let decision = decide(rules, &head);
    let route = decision.route.map_or(UNMATCHED, |route| route.name.as_str());
    let assets = decision.route.and_then(Assets::of);
    let timeout = decision.route.and_then(|route| route.timeout);
    let action = match decision.action {
        EdgeAction::Redirect { location } => return reply::redirect(&location),
        EdgeAction::Refuse(problem) => return reply::problem(rules, problem),
        _ if store::is_inside(rules, &incoming) => return reply::problem(rules, Problem::NoRoute),
        action => action,
    };
    let origin = bound.or_else(|| rules.document.edge.origin.clone());
    let keys = isolate_keys(env).map_err(|reason| JsValue::from_str(&reason))?;
    let timeout = timeout.unwrap_or(origin::HEAD_TIMEOUT);
    let call = Rc::new(Call { incoming, rules, route, origin, keys, assets, timeout, context });
    match action {
        EdgeAction::Cache(mut plan) => {
            if plan.has_token() {
                let Some(keys) = call.keys else {
                    let status = CacheStatus::Bypass(Bypass::NoSecret);
                    return pass(&call, plan.target(), status).await;
                };
                plan.seal(&TokenKey::of_edge(keys), &call.incoming.head());
            }
            cached::serve(call, *plan).await
        }
        EdgeAction::Pass { target, why } => pass(&call, &target, CacheStatus::Bypass(why)).await,
        EdgeAction::Redirect { .. } | EdgeAction::Refuse(_) => Err("answered above".into()),
    }
}

/// A deployment whose keys can't be read answers nothing: unsigned requests would be refused
/// without saying why, or, worse, answered.
fn isolate_keys(env: &Env) -> Result<Option<&'static Keys>, String> {
    KEYS.with(|cell| {
        cell.get_or_init(|| {
            let Ok(text) = env.secret(KEYS_SECRET) else { return Ok(None) };
            let keys = Keys::parse(&text.to_string());
            let keys = keys.map_err(|fault| format!("{KEYS_SECRET}: {fault}"))?;
            Ok(Some(&*Box::leak(Box::new(keys))))
        })
        .clone()
    })
}

fn isolate_rules() -> Result<&'static Rules, String> {
    RULES.with(|cell| {
        cell.get_or_init(|| {
            let rules = js::RULES.with(|text| Rules::from_compiled(text));
            rules.map(|rules| &*Box::leak(Box::new(rules))).map_err(|error| error.to_string())
        })
        .clone()
    })
}
