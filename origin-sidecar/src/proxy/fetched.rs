//! Runs a fetch for the cache: sends the request of the plan, judges the answer, stores it.

use super::cache_fields;
use super::coalescer::{FetchOutcome, FetchPermit};
use super::fetch::{FetchJob, Fetched, forget_old, keep, send};
use super::filling::{self, FillingAnswer};
use super::redirected::{self, RefetchedAnswer};
use crate::message::body::Body;
use crate::message::fields::View;
use crate::upstream::outgoing::Failure;
use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body::Body as _;
use http1::client::Mended;
use memory_cache::fill::Filler;
use memory_cache::stored::Stored;
use memory_cache::uncacheable::Shown;
use rules::ResponseHead;
use rules::cache::{Fetch, NotStored, is_failure, judge_fetched};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Fetches, and sends the result to the client that asked, if it still waits, and to followers.
pub(super) async fn fetch_and_complete(
    mut job: FetchJob,
    stored: Option<Arc<Stored>>,
    permit: FetchPermit,
    asked: Option<oneshot::Sender<Fetched>>,
) {
    let fetched = match fetch(&mut job, stored.clone()).await {
        Begun::Coming(coming) => {
            return filling::run(&job, (coming, stored.as_ref()), permit, asked).await;
        }
        Begun::Fetched(fetched) => fetched,
    };
    permit.complete(match &fetched {
        Fetched::Stored(_) | Fetched::Confirmed(_, Ok(()), _) => FetchOutcome::Stored,
        Fetched::Passed(response, _) if is_failure(response.status().as_u16()) => {
            FetchOutcome::Failed
        }
        Fetched::Passed(..)
        | Fetched::NotKept(..)
        | Fetched::Coming(..)
        | Fetched::Confirmed(_, Err(_), _) => FetchOutcome::NotStored,
        Fetched::Failed(_) => FetchOutcome::Failed,
    });
    // A client that has disconnected needs no answer.
    if let Some(asked) = asked {
        let _ = asked.send(fetched);
    }
}

/// The state of a fetch once the answer's head is there.
enum Begun {
    Fetched(Fetched),
    /// The answer may be stored once it is complete.
    Coming(FillingAnswer),
}

/// The origin's answer to the request with all fields that it depends on.
async fn ask(job: &mut FetchJob, stored: Option<&Stored>) -> Result<Response<Body>, Failure> {
    let varies = &job.worker.context.varies;
    job.plan.learned = varies.of(&job.route_state.name);
    let response = send(job, stored).await?;
    let kept_back = {
        let view = View::of(&job.headers);
        let head = job.inbound.head(&Method::GET, &view);
        let status = response.status().as_u16();
        job.plan.kept_back(&head, &ResponseHead { status, fields: &View::of(response.headers()) })
    };
    if kept_back.is_empty() {
        return Ok(response);
    }
    varies.learn(&job.route_state.name, &kept_back);
    // The first answer holds a concurrency permit of the route, which may have only one.
    drop(response);
    // Includes fields that could not be remembered: this answer must be correct, though it is not
    // stored.
    job.plan.learned.extend(kept_back);
    send(job, stored).await
}

/// Returns the answer that is to be judged, or the one for the client, which is not stored.
async fn answered(
    job: &mut FetchJob,
    stored: Option<&Arc<Stored>>,
) -> Result<Response<Body>, Fetched> {
    let asked = ask(job, stored.map(Arc::as_ref)).await;
    let response = asked.map_err(Fetched::Failed)?;
    match redirected::whole(job, response).await {
        RefetchedAnswer::Same(response) => Ok(response),
        RefetchedAnswer::Other(mut response) => {
            let (status, headers) = (response.status(), response.headers_mut());
            cache_fields::edited(&job.route_state, job.plan.target(), status, headers);
            let fetched = Fetched::Passed(response, NotStored::ShownTooLittle);
            forget_old(job, fetched.outcome(), stored);
            Err(fetched)
        }
    }
}

/// A redirect to the own path may lead elsewhere for another client, because of the omitted fields.
fn shown_after(why: NotStored) -> Shown {
    match why {
        NotStored::LeadsBack => Shown::Whole,
        _ => Shown::Planned,
    }
}

async fn fetch(job: &mut FetchJob, stored: Option<Arc<Stored>>) -> Begun {
    let mark = job.worker.context.store.mark();
    let response = match answered(job, stored.as_ref()).await {
        Ok(response) => response,
        Err(fetched) => return Begun::Fetched(fetched),
    };
    let app = &job.worker.context;
    let (mut parts, body) = response.into_parts();
    let code = parts.status.as_u16();
    let entry = stored.as_ref().map(|stored| &stored.entry);
    let revalidated = stored.as_ref().filter(|it| code == 304 && it.entry.has_validator());
    let mut cookies = Vec::new();
    if let Some(stored) = revalidated {
        (parts.headers, cookies) = cache_fields::confirmed(&job.plan, stored, &parts.headers);
        parts.status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    }
    let judged = {
        let view = View::of(&job.headers);
        let head = job.inbound.head(&Method::GET, &view);
        let response =
            ResponseHead { status: parts.status.as_u16(), fields: &View::of(&parts.headers) };
        judge_fetched(&job.plan, &head, &response, entry, app.clock.now())
    };
    let is_mended = parts.extensions.get::<Mended>().is_some();
    let judged = judged.and_then(|own| if is_mended { Err(NotStored::Mended) } else { Ok(own) });
    let length = match revalidated {
        Some(stored) => Some(stored.body.len() as u64),
        None => body.size_hint().exact(),
    };
    let room_for = |length| match revalidated {
        Some(_) => Ok(app.store.room()),
        None => app.store.room_for(length),
    };
    let judged = judged.and_then(|judged| Ok((judged, room_for(length)?)));
    let kept = judged.as_ref().map(|_| ()).map_err(|why| *why);
    let outcome = match revalidated {
        Some(_) => Fetch::Confirmed(kept),
        None => Fetch::Answered { status: code, stored: kept },
    };
    forget_old(job, outcome, stored.as_ref());
    let (judged, room) = match judged {
        Ok(both) => both,
        Err(why) => {
            // A failing application says nothing about its answers, and needs coalescing most.
            if !is_failure(code) && why.is_of_the_answer() {
                app.store.note_uncacheable(&job.plan, shown_after(why), app.clock.now());
            }
            let body = revalidated.map_or(body, |stored| Body::full(stored.body.clone()));
            cache_fields::edited(
                &job.route_state,
                job.plan.target(),
                parts.status,
                &mut parts.headers,
            );
            parts.headers.extend(cookies.into_iter().map(|value| (header::SET_COOKIE, value)));
            return Begun::Fetched(Fetched::Passed(Response::from_parts(parts, body), why));
        }
    };
    let fields = cache_fields::to_store(parts.status, parts.headers, &judged, length);
    let (url, tags) = (app.store.url_of(&job.plan), judged.tags.into_iter().map(Into::into));
    let status = parts.status.as_u16();
    let stored = |body| Stored::new(status, fields, body, judged.entry, url, tags.collect());
    if let Some(old) = revalidated {
        let stored = Arc::new(stored(old.body.clone()));
        let kept = keep(job, &stored, mark);
        return Begun::Fetched(Fetched::Confirmed(stored, kept, cookies));
    }
    let head = (Arc::new(stored(Bytes::new())), length);
    let (filler, reader) = Filler::new(&app.store, room, head, (mark, Arc::clone(&job.config)));
    Begun::Coming(FillingAnswer { filler, reader, body })
}
