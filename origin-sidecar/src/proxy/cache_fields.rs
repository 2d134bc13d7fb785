//! Prepares header fields for the cache, and for requests that bypass it.

use crate::message::fields::{Map, View, edit};
use crate::request::inbound::Inbound;
use crate::upstream::hop;
use crate::upstream::route_state::RouteState;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http1::block::Block;
use memory_cache::stored::Stored;
use rules::ResponseHead;
use rules::cache::{Confirmed, Judgement, Plan, USER_AGENT, is_of_one_request};
use rules::head::{FieldsMut, Rebuilt};
use rules::hygiene::named_by_connection;

/// Our own fields about the shard, which is part of the key.
const OF_THE_SHARD: [&str; 4] = ["x-shard", "x-shard-epoch", "x-shard-range", hop::NAME];

/// The fields of a request whose answer is known not to be stored: they include its own conditions
/// and range. Otherwise the application gets the same fields as for any request of the route.
pub(super) fn passing(headers: &HeaderMap, inbound: &Inbound, plan: &Plan<'_>) -> HeaderMap {
    let mut sent = to_origin(headers, inbound, plan, None);
    let is_own = |name: &HeaderName| is_of_one_request(name.as_str()) && !sent.contains_key(name);
    let own: Vec<_> = headers.iter().filter(|(name, _)| is_own(name)).collect();
    sent.extend(own.into_iter().map(|(name, value)| (name.clone(), value.clone())));
    sent
}

/// Applies the route's changes to an answer to GET or HEAD that is not stored.
pub(super) fn edited(
    route_state: &RouteState,
    target: &str,
    status: StatusCode,
    headers: &mut HeaderMap,
) {
    let Some(assets) = route_state.assets else { return };
    let status = status.as_u16();
    let edits = assets.edits(target, &ResponseHead { status, fields: &View::of(headers) });
    edit(headers, &edits);
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The fields for the application: those that the key or the stored answer covers, and the
/// validators of the stored answer.
pub(super) fn to_origin(
    headers: &HeaderMap,
    inbound: &Inbound,
    plan: &Plan<'_>,
    stored: Option<&Stored>,
) -> HeaderMap {
    let view = View::of(headers);
    let head = inbound.head(&Method::GET, &view);
    let sent = headers.iter().filter(|(name, _)| {
        OF_THE_SHARD.contains(&name.as_str()) || plan.sends(name.as_str(), &head)
    });
    let mut sent: HeaderMap = sent.map(|(name, value)| (name.clone(), value.clone())).collect();
    sent.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    Map(&mut sent).set(Rebuilt::Host, plan.host());
    Map(&mut sent).set(Rebuilt::Proto, inbound.scheme);
    for (name, value) in plan.own_fields(stored.map(|stored| &stored.entry)) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            sent.insert(HeaderName::from_static(name), value);
        }
    }
    sent
}

/// The fields that every client gets, without those that each serving adds; with the length once it
/// is known. See [`Stored::origin_control`] for the origin's own directives.
pub(super) fn to_store(
    status: StatusCode,
    mut headers: HeaderMap,
    judged: &Judgement,
    length: Option<u64>,
) -> (Block, Option<Box<str>>) {
    let named = named_by_connection(&View::of(&headers));
    Map(&mut headers).remove_where(&|name| !judged.keeps(name, &named));
    edit(&mut headers, &judged.edits);
    headers.remove(header::CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let origin_control = judged.client_cache_control.as_ref().map(|value| {
        let said = rules::head::joined(&View::of(&headers), "cache-control").unwrap_or_default();
        set(&mut headers, header::CACHE_CONTROL, value);
        said.into_boxed_str()
    });
    (Block::new(status, &headers), origin_control)
}

/// The fields of a stored answer after a 304 has confirmed it, and the `Set-Cookie` values that are
/// only for the client whose request the 304 answered.
pub(super) fn confirmed(
    plan: &Plan<'_>,
    stored: &Stored,
    not_modified: &HeaderMap,
) -> (HeaderMap, Vec<HeaderValue>) {
    let mut said = stored.fields.headers();
    // The origin's own directives are judged, not those that clients get instead.
    if let Some(control) = &stored.origin_control {
        said.remove(header::CACHE_CONTROL);
        if !control.is_empty() {
            set(&mut said, header::CACHE_CONTROL, control);
        }
    }
    let Confirmed { fields, cookies } = rules::cache::confirmed(plan, &said, not_modified);
    let owned = |(name, value): (&HeaderName, &HeaderValue)| (name.clone(), value.clone());
    (fields.into_iter().map(owned).collect(), cookies.into_iter().cloned().collect())
}
