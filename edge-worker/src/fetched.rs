//! What is asked of the origin for an entry, and what came of it.

use crate::incoming::pairs;
use crate::origin::{self, Failure};
use crate::store::{self, Found};
use crate::{Call, js};
use rules::ResponseHead;
use rules::cache::{Entry, Judgement, Plan, judge};
use wasm_bindgen::prelude::JsValue;
use web_sys::Response;

/// What a 304 says of itself and not of the stored answer (RFC 9111 section 3.2).
const NOT_UPDATED: [&str; 6] = [
    "cache-status",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "transfer-encoding",
];

/// What a fetch for an entry came to.
pub(crate) enum Fetched {
    /// The stored answer was confirmed; its fields with those of the 304, and their judgement.
    Confirmed {
        judgement: Box<Judgement>,
        fields: Vec<(String, String)>,
        way: Option<String>,
    },
    New(Response),
    Failed(Failure),
}

impl Fetched {
    /// The `Cache-Status` members of the caches this fetch went through.
    pub(crate) fn way(&self) -> Result<Option<String>, JsValue> {
        match self {
            Self::Confirmed { way, .. } => Ok(way.clone()),
            Self::New(response) => response.headers().get("cache-status"),
            Self::Failed(_) => Ok(None),
        }
    }
}

/// Asks the origin; again, when the answer depends on what was kept back of the request.
async fn ask(call: &Call, plan: &mut Plan<'_>, entry: Option<&Entry>) -> origin::Answer {
    if let Some(entry) = entry {
        plan.learned = entry.vary.iter().map(|(name, _)| name.clone()).collect();
    }
    let response = match origin::fill(call, plan, entry).await? {
        Ok(response) => response,
        Err(failure) => return Ok(Err(failure)),
    };
    let fields = pairs(&response.headers());
    let status = response.status();
    let kept_back =
        plan.kept_back(&call.incoming.head(), &ResponseHead { status, fields: &fields });
    if kept_back.is_empty() || status >= 500 {
        return Ok(Ok(response));
    }
    store::discard(&response);
    plan.learned.extend(kept_back);
    origin::fill(call, plan, entry).await
}

pub(crate) async fn fetch(
    call: &Call,
    plan: &mut Plan<'_>,
    found: Option<&Found>,
) -> Result<Fetched, JsValue> {
    let entry = found.map(|found| &found.record.entry);
    let response = match ask(call, plan, entry).await? {
        Ok(response) => response,
        Err(failure) => return Ok(Fetched::Failed(failure)),
    };
    if let (304, Some(found)) = (response.status(), found) {
        let fields = updated(found, &response);
        let head = call.incoming.head();
        let confirmed = ResponseHead { status: found.status(), fields: &fields };
        // Confirmed, but by its new fields not to be kept: the body is good for this one answer.
        if let Ok(judgement) = judge(plan, &head, &confirmed, js::now()) {
            let way = response.headers().get("cache-status")?;
            let judgement = Box::new(judgement);
            return Ok(Fetched::Confirmed { judgement, fields, way });
        }
        return match ask(call, plan, None).await? {
            Ok(response) => Ok(Fetched::New(response)),
            Err(failure) => Ok(Fetched::Failed(failure)),
        };
    }
    Ok(Fetched::New(response))
}

/// The stored fields with those of a 304 in their place. `Date` never stays: an answer confirmed
/// by a 304 without one is as new as that 304.
fn updated(found: &Found, not_modified: &Response) -> Vec<(String, String)> {
    let mut news = pairs(&not_modified.headers());
    news.retain(|(name, _)| !NOT_UPDATED.contains(&name.as_str()));
    let mut fields = found.origin_fields();
    fields.retain(|(name, _)| name != "date" && !news.iter().any(|(new, _)| new == name));
    fields.extend(news);
    fields
}
