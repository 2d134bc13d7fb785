//! Lets pages of other origins read answers (CORS).

use crate::jobs::visit::Visited;
use crate::message::body::Body;
use crate::message::reply;
use crate::request::active_rules::RulesSnapshot;
use crate::upstream::route_state::RouteState;
use http::{HeaderMap, HeaderValue, Response, header};
use rules::cors;
use std::sync::Arc;

/// Lets a page of another origin read the answer, where the route's `cors` allows it and the
/// application has set no CORS fields itself.
pub(super) fn share(
    in_force: &RulesSnapshot,
    route_state: &Arc<RouteState>,
    origin: &str,
    response: &mut Response<Body>,
) {
    if response.extensions().get::<Visited>().is_some() {
        return;
    }
    let rules = &in_force.rules;
    let rule = if in_force.is_reserved(route_state) {
        cors::of_jobs(&rules.document.routes, origin)
    } else {
        route_state.route(rules).and_then(|route| route.cors.as_ref())
    };
    let Some(rule) = rule else { return };
    if reply::first(response, &header::ACCESS_CONTROL_ALLOW_ORIGIN).is_none() {
        set_fields(response.headers_mut(), cors::answer(rule, origin));
    }
}

pub(super) fn set_fields(headers: &mut HeaderMap, fields: cors::FieldsToSet) {
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
}
