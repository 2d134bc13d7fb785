//! Streams the answer of a request with an `Idempotency-Key` to its client, and stores it for
//! retries.

use super::adopt::AdoptedExecution;
use super::intake::Intake;
use super::once::{KeyRelease, Once};
use super::store::{self, CompleteEnd};
use super::verdict::{ExecutionEnd, UNKNOWN};
use super::{keyed, state};
use crate::message::body::Body;
use crate::room::BytesPermit;
use crate::upstream::outgoing::Failure;
use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use std::io;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// A larger answer is not stored.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Pieces that were read and that the client has not received yet.
const PIECES_AHEAD: usize = 1;

/// What was kept of an answer when it has ended.
enum KeptAnswer {
    Whole(Bytes),
    /// It is larger than the limit, or than the available memory.
    TooLarge,
    /// The application broke it off, or was too slow after its client had disconnected.
    Broken,
}

type AnswerSender = oneshot::Sender<Result<Response<Body>, Failure>>;

impl AdoptedExecution {
    /// Sends the answer to the client, and stores it as the job's outcome. False when it could not
    /// be stored.
    pub(super) async fn keep(
        &self,
        once: &Once,
        answer: AnswerSender,
        ended: Result<Response<Body>, Failure>,
    ) -> bool {
        let results = self.results.as_ref();
        let is_undone = match &ended {
            Ok(response) => is_undone(response.status()),
            Err(failure) => failure.is_unsent,
        };
        // The key is released before the answer is sent, because the client may retry at once.
        let freed = if is_undone { once.release(results).await } else { KeyRelease::No };
        if freed == KeyRelease::Yes {
            let _ = answer.send(ended);
            return true;
        }
        let (ended, answered) = match ended {
            Ok(response) => self.pass_on(once, answer, response).await,
            Err(failure) => {
                let ended = ExecutionEnd::lost(&failure);
                let _ = answer.send(Err(failure));
                (ended, false)
            }
        };
        if freed == KeyRelease::Unknown {
            match once.settle(results).await {
                KeyRelease::Yes => return true,
                KeyRelease::No => {}
                KeyRelease::Unknown => return false,
            }
        }
        let whole = store::whole(&self.worker.context, ended, self.job_timeout()).await;
        let whole = whole.unwrap_or_else(CompleteEnd::broken_off);
        let Some(outcome) = self.outcome(&once.id, whole, answered).await else { return false };
        if state::is_promised(results, &once.id).await {
            self.is_leased.store(true, Ordering::Release);
            self.told(&outcome).await;
        }
        true
    }

    /// Returns how the execution ended, and whether the client got all of the answer.
    async fn pass_on(
        &self,
        once: &Once,
        answer: AnswerSender,
        response: Response<Body>,
    ) -> (ExecutionEnd, bool) {
        let (parts, body) = response.into_parts();
        let mut copy = Response::new(Body::empty());
        *copy.status_mut() = parts.status;
        *copy.headers_mut() = parts.headers.clone();
        let (client, channel) = channel();
        let sent = if body.is_end_stream() { Body::empty() } else { channel };
        let response = keyed::marked(Response::from_parts(parts, sent), Some(&once.key));
        // A client that has disconnected may retry: the answer is read nevertheless.
        let _ = answer.send(Ok(response));
        let until = self.began + self.job_timeout();
        match pass(&self.worker.context.intake, body, client, until).await {
            KeptAnswer::Whole(bytes) => (self.judged(copy.map(|_| Body::full(bytes))), true),
            KeptAnswer::TooLarge => (ExecutionEnd { answer: None, ..self.judged(copy) }, true),
            KeptAnswer::Broken => (ExecutionEnd::failed(UNKNOWN), false),
        }
    }
}

/// Whether an answer says that nothing was done and that the client may retry: 408, 425, 429, 503
/// (RFC 9110 section 15, RFC 8470, RFC 6585).
fn is_undone(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 503)
}

/// A body, and the sender of its pieces.
fn channel() -> (Sender<Bytes, io::Error>, Body) {
    let (sender, channel) = Channel::new(PIECES_AHEAD);
    (sender, Body::boxed(channel.boxed_unsync()))
}

/// Forwards the body to its client. When the client disconnects, the rest is still read, until the
/// deadline.
async fn pass(
    intake: &Intake,
    mut body: Body,
    client: Sender<Bytes, io::Error>,
    until: Instant,
) -> KeptAnswer {
    let mut client = Some(client);
    let mut copy = Some(AnswerCopy::default());
    loop {
        if client.is_none() && copy.is_none() {
            return KeptAnswer::TooLarge;
        }
        let frame = match &client {
            Some(_) => body.frame().await,
            None => match timeout_at(until, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return KeptAnswer::Broken,
            },
        };
        let frame = match frame {
            None => break,
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                if let Some(client) = client {
                    client.abort(error);
                }
                return KeptAnswer::Broken;
            }
        };
        if let Some(data) = frame.data_ref() {
            copy = copy.and_then(|copy| copy.with(intake, data));
        }
        let is_sent = match &mut client {
            Some(client) => client.send(frame).await.is_ok(),
            None => false,
        };
        client = client.filter(|_| is_sent);
    }
    copy.map_or(KeptAnswer::TooLarge, |copy| KeptAnswer::Whole(copy.bytes()))
}

/// The bytes read so far, and the permit for their memory.
#[derive(Default)]
struct AnswerCopy {
    bytes: BytesMut,
    held: Option<BytesPermit>,
}

impl AnswerCopy {
    fn with(mut self, intake: &Intake, data: &[u8]) -> Option<Self> {
        if self.bytes.len() + data.len() > ANSWER_BYTES_MAX {
            return None;
        }
        let more = intake.try_hold(data.len() as u64)?;
        match &mut self.held {
            Some(held) => held.add(more),
            none => *none = Some(more),
        }
        self.bytes.extend_from_slice(data);
        Some(self)
    }

    fn bytes(self) -> Bytes {
        let bytes = self.bytes.freeze();
        match self.held {
            Some(held) => held.around(bytes),
            None => bytes,
        }
    }
}
