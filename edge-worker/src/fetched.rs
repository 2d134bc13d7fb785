//! What is asked of the origin for an entry, and what came of it.

use crate::incoming::pairs;
use crate::origin::{self, Failure};
use crate::redirected::{self, Whole};
use crate::store::{self, Found};
use crate::{Call, js};
use rules::ResponseHead;
use rules::cache::{Confirmed, Entry, Judgement, NotStored, Plan, confirmed, judge};
use std::rc::Rc;
use wasm_bindgen::prelude::JsValue;
use web_sys::Response;

/// What a fetch for an entry came to.
pub(crate) enum Fetched {
    /// A 304 confirmed the stored answer.
    Confirmed(Renewal),
    New(Response),
    /// What the origin gave to the client's request as it came, where it was shown too little at first.
    Whole(Response),
    Failed(Failure),
}

/// What a 304 made of a stored answer.
pub(crate) struct Renewal {
    /// The answer's fields from now on.
    pub(crate) fields: Vec<(String, String)>,
    /// `Set-Cookie` values for the client whose request the 304 answered.
    pub(crate) cookies: Vec<String>,
    /// Whether it may be kept on.
    pub(crate) judged: Result<Box<Judgement>, NotStored>,
}

impl Fetched {
    /// The `Cache-Status` members of the caches this fetch went through.
    pub(crate) fn way(&self) -> Result<Option<String>, JsValue> {
        match self {
            Self::Confirmed(renewal) => Ok(rules::head::joined(&renewal.fields, "cache-status")),
            Self::New(response) | Self::Whole(response) => response.headers().get("cache-status"),
            Self::Failed(_) => Ok(None),
        }
    }
}

/// Asks the origin; again, when the answer depends on what was kept back of the request.
async fn ask(call: &Call, plan: &mut Plan<'_>, entry: Option<&Entry>) -> origin::Answer {
    if let Some(entry) = entry {
        plan.learned.extend(entry.vary.iter().map(|(name, _)| name.clone()));
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
    call: &Rc<Call>,
    plan: &mut Plan<'static>,
    found: Option<&Found>,
) -> Result<Fetched, JsValue> {
    let entry = found.map(|found| &found.record.entry);
    let response = match ask(call, plan, entry).await? {
        Ok(response) => response,
        Err(failure) => return Ok(Fetched::Failed(failure)),
    };
    if let (304, Some(found)) = (response.status(), found) {
        return Ok(Fetched::Confirmed(renewal(call, plan, found, &response)));
    }
    Ok(match redirected::whole(call, plan, response).await? {
        Whole::Same(response) => Fetched::New(response),
        Whole::Other(response) => Fetched::Whole(response),
    })
}

fn renewal(call: &Call, plan: &Plan<'_>, found: &Found, not_modified: &Response) -> Renewal {
    let Confirmed { fields, cookies } =
        confirmed(plan, found.origin_fields(), pairs(&not_modified.headers()));
    let head = ResponseHead { status: found.status(), fields: &fields };
    let judged = judge(plan, &call.incoming.head(), &head, js::now()).map(Box::new);
    Renewal { fields, cookies, judged }
}
