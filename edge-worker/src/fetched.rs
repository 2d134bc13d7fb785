//! Fetches an entry from the origin.

use crate::call::{Call, Failure};
use crate::incoming::pairs;
use crate::js;
use crate::origin;
use crate::redirected::{self, Whole};
use crate::store::{self, Found};
use rules::ResponseHead;
use rules::cache::{
    Confirmed, Entry, Fetch, Judgement, NotStored, Plan, confirmed, judge, judge_fetched,
};
use std::rc::Rc;
use wasm_bindgen::prelude::JsValue;
use web_sys::Response;

/// How a fetch for an entry ended.
pub(crate) enum Fetched {
    /// A 304 confirmed the stored answer.
    Confirmed(Renewal),
    New(Box<New>),
    /// The origin's answer to the client's whole request, where the first one was shown too little.
    Whole(Response),
    Failed(Failure),
}

/// A new answer from the origin.
pub(crate) struct New {
    pub(crate) response: Response,
    pub(crate) fields: Vec<(String, String)>,
    /// Whether it may be kept.
    pub(crate) judged: Result<Judgement, NotStored>,
}

/// A stored answer that a 304 has confirmed.
pub(crate) struct Renewal {
    /// The header fields that the answer has from now on.
    pub(crate) fields: Vec<(String, String)>,
    /// `Set-Cookie` values for the client whose request the 304 answered.
    pub(crate) cookies: Vec<String>,
    /// Whether it may still be kept.
    pub(crate) judged: Result<Box<Judgement>, NotStored>,
}

impl Fetched {
    /// The outcome as the rules take it, which decide what follows.
    pub(crate) fn outcome(&self) -> Fetch {
        fn unless_kept<T>(judged: &Result<T, NotStored>) -> Result<(), NotStored> {
            judged.as_ref().map(|_| ()).map_err(|why| *why)
        }
        match self {
            Self::Confirmed(renewal) => Fetch::Confirmed(unless_kept(&renewal.judged)),
            Self::New(new) => {
                Fetch::Answered { status: new.response.status(), stored: unless_kept(&new.judged) }
            }
            Self::Whole(response) => Fetch::Answered {
                status: response.status(),
                stored: Err(NotStored::ShownTooLittle),
            },
            Self::Failed(_) => Fetch::Unanswered,
        }
    }

    /// The `Cache-Status` members of the caches this fetch went through.
    pub(crate) fn way(&self) -> Result<Option<String>, JsValue> {
        match self {
            Self::Confirmed(renewal) => Ok(rules::head::joined(&renewal.fields, "cache-status")),
            Self::New(new) => new.response.headers().get("cache-status"),
            Self::Whole(response) => response.headers().get("cache-status"),
            Self::Failed(_) => Ok(None),
        }
    }

    /// Tells the runtime that nobody will read the answer's body.
    pub(crate) fn discard(&self) {
        match self {
            Self::New(new) => store::discard(&new.response),
            Self::Whole(response) => store::discard(response),
            Self::Confirmed(_) | Self::Failed(_) => {}
        }
    }
}

/// Asks the origin, and once more with the whole request where the answer depends on what was kept back of
/// it.
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
    if kept_back.is_empty() {
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
    let asked_about = found.filter(|found| found.record.entry.has_validator());
    if let (304, Some(found)) = (response.status(), asked_about) {
        return Ok(Fetched::Confirmed(renewal(call, plan, found, &response)));
    }
    Ok(match redirected::whole(call, plan, response).await? {
        Whole::Same(response) => Fetched::New(Box::new(new(call, plan, response, entry))),
        Whole::Other(response) => Fetched::Whole(response),
    })
}

fn new(call: &Call, plan: &Plan<'_>, response: Response, stored: Option<&Entry>) -> New {
    let fields = pairs(&response.headers());
    let head = ResponseHead { status: response.status(), fields: &fields };
    let judged = match store::is_too_large(&response) {
        true => Err(NotStored::TooLarge),
        false => judge_fetched(plan, &call.incoming.head(), &head, stored, js::now()),
    };
    New { response, fields, judged }
}

fn renewal(call: &Call, plan: &Plan<'_>, found: &Found, not_modified: &Response) -> Renewal {
    let Confirmed { fields, cookies } =
        confirmed(plan, found.origin_fields(), pairs(&not_modified.headers()));
    let head = ResponseHead { status: found.status(), fields: &fields };
    let judged = judge(plan, &call.incoming.head(), &head, js::now()).map(Box::new);
    Renewal { fields, cookies, judged }
}
