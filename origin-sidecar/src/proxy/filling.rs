//! Receives an answer that is stored and served at the same time.

use super::coalescer::{FetchOutcome, FetchPermit};
use super::fetch::{FetchJob, Fetched, forget_old, keep};
use super::serving::count_not_stored;
use crate::message::body::Body;
use crate::upstream::outgoing::Failure;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame};
use http1::block::Block;
use memory_cache::fill::{Fill, Filler, Next, Reader};
use memory_cache::stored::Stored;
use memory_cache::uncacheable::Shown;
use rules::Problem;
use rules::cache::{Fetch, NotStored};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

/// A storable answer whose head has been received.
pub(super) struct FillingAnswer {
    pub filler: Filler,
    /// The reader of the client for which it is fetched.
    pub reader: Reader,
    pub body: Body,
}

/// Announces once that the answer is being received, or is complete.
struct Announced {
    asked: Option<(oneshot::Sender<Fetched>, Reader)>,
    /// None when the fetch is complete.
    permit: Option<FetchPermit>,
    is_told: bool,
}

/// What the application sent next.
enum Came {
    Frame(Option<io::Result<Frame<Bytes>>>),
    /// Receiving was stopped because nobody wants the answer.
    Stopped,
}

/// Receives the whole answer and stores it where allowed. As soon as a part of it has to be waited
/// for, it is announced to the client and the followers. `old` is the stored answer: it is removed
/// when this one turns out to be too large, as it is where that is known from the beginning.
pub(super) async fn run(
    job: &FetchJob,
    (coming, old): (FillingAnswer, Option<&Arc<Stored>>),
    permit: FetchPermit,
    asked: Option<oneshot::Sender<Fetched>>,
) {
    let FillingAnswer { mut filler, reader, mut body } = coming;
    let asked = asked.map(|asked| (asked, reader));
    let mut announced = Announced { asked, permit: Some(permit), is_told: false };
    let mut unread = None;
    let store = &job.worker.context.store;
    loop {
        let came = poll_fn(|context| {
            let came = poll_came(context, (&filler, &mut body), (&mut unread, job.unread_timeout));
            if came.is_pending() {
                announced.comes(&filler.fill, Ok(()));
            }
            came
        });
        let data = match came.await {
            Came::Stopped => return announced.lands(FetchOutcome::NotStored),
            Came::Frame(None) => return end(job, filler, announced),
            Came::Frame(Some(Err(error))) => return broken(&error, announced),
            // A stored answer has no trailers.
            Came::Frame(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => data,
                Err(_) => continue,
            },
        };
        if let Err(error) = filler.push(store, &data) {
            return broken(&error, announced);
        }
        if let Some(why) = filler.refused().filter(|_| announced.permit.is_some()) {
            let status = filler.fill.head.status;
            forget_old(job, Fetch::Answered { status, stored: Err(why) }, old);
            if why.is_of_the_answer() {
                store.note_uncacheable(&job.plan, Shown::Planned, job.worker.context.clock.now());
            }
            // A client that is informed now counts the result itself; one informed earlier, or
            // gone, does not.
            if announced.is_told || announced.asked.is_none() {
                count_not_stored(&job.worker, &job.route_state, why);
            }
            announced.comes(&filler.fill, Err(why));
            announced.lands(FetchOutcome::NotStored);
        }
    }
}

fn poll_came(
    context: &mut Context<'_>,
    (filler, body): (&Filler, &mut Body),
    (unread, timeout): (&mut Option<Pin<Box<Sleep>>>, Duration),
) -> Poll<Came> {
    match filler.next(context) {
        Next::Useless => return Poll::Ready(Came::Stopped),
        Next::Unread => {
            let unread = unread.get_or_insert_with(|| Box::pin(sleep(timeout)));
            if unread.as_mut().poll(context).is_ready() {
                return Poll::Ready(Came::Stopped);
            }
        }
        Next::Wait => {
            *unread = None;
            return Poll::Pending;
        }
        Next::Read => *unread = None,
    }
    Pin::new(body).poll_frame(context).map(Came::Frame)
}

impl Announced {
    fn comes(&mut self, fill: &Arc<Fill>, kept: Result<(), NotStored>) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        if let Some(permit) = self.permit.as_ref().filter(|_| kept.is_ok()) {
            permit.begins(fill);
        }
        if let Some((asked, reader)) = self.asked.take() {
            // A client that has disconnected reads nothing.
            let _ = asked.send(Fetched::Coming(reader, kept));
        }
    }

    fn lands(&mut self, outcome: FetchOutcome) {
        if let Some(permit) = self.permit.take() {
            permit.complete(outcome);
        }
    }

    fn answers(&mut self, fetched: Fetched) {
        if let Some((asked, _)) = self.asked.take() {
            // A client that has disconnected needs no answer.
            let _ = asked.send(fetched);
        }
    }
}

fn end(job: &FetchJob, filler: Filler, mut announced: Announced) {
    let fill = Arc::clone(&filler.fill);
    let body = match filler.end() {
        Ok(Some(body)) => body,
        Ok(None) => return announced.lands(FetchOutcome::NotStored),
        Err(error) => return broken(&error, announced),
    };
    let stored = Arc::new(whole(&fill, body));
    match keep(job, &stored, fill.mark) {
        Ok(()) => {
            announced.lands(FetchOutcome::Stored);
            announced.answers(Fetched::Stored(stored));
        }
        Err(reason) => {
            announced.lands(FetchOutcome::NotStored);
            announced.answers(Fetched::NotKept(stored, reason));
        }
    }
}

/// The answer with its whole body and its length.
fn whole(fill: &Fill, body: Bytes) -> Stored {
    let Stored { status, fields, entry, url, tags, origin_control, .. } = fill.head.as_ref();
    let fields = match fill.length {
        Some(_) => fields.clone(),
        None => {
            let mut headers = fields.headers();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            Block::new(StatusCode::from_u16(*status).unwrap_or(StatusCode::OK), &headers)
        }
    };
    let (entry, tags, said) = (entry.clone(), tags.clone(), origin_control.clone());
    Stored::new(*status, (fields, said), body, entry, *url, tags)
}

fn broken(error: &io::Error, mut announced: Announced) {
    announced.lands(FetchOutcome::Failed);
    announced.answers(Fetched::Failed(Failure {
        problem: Problem::UpstreamInvalid,
        detail: format!("the answer broke off: {error}"),
        is_unsent: false,
    }));
}
