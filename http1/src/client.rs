//! The client's end of a connection: one request, its interim answers, its answer.

mod answer;
mod call;
mod incoming;
mod unanswered;

pub use answer::{Answer, Mended};
pub use call::Outgoing;
pub use incoming::ResponseBody;
pub use unanswered::{Unanswered, Unsent};

pub use crate::connection::Connection;

use crate::conn::Error;
use crate::framing::{Framing, Stated};
use crate::head::ResponseHead;
use crate::pool::Pool;
use crate::refusal::Refusal;
use crate::server::Exchange;
use bytes::Bytes;
use call::Call;
use http::StatusCode;
use http_body::Body;
use incoming::Home;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use tokio::time::timeout;
use unanswered::refused;

/// How many interim answers may come before the answer; more are a fault of the upstream.
const INTERIM_MAX: usize = 32;

/// Sends a request and reads the head of its answer. The connection goes back to its pool when the
/// answer was read to its end. Interim answers go to `exchange`.
///
/// # Errors
/// When the connection breaks, the answer is not HTTP/1.1, or it does not come in time (`TooSlow`).
pub fn send<'a, B: Body<Data = Bytes, Error = io::Error> + Unpin>(
    connection: Connection,
    outgoing: Outgoing<'_, B>,
    exchange: Option<&'a Exchange>,
    home: &'a Arc<Pool>,
) -> impl Future<Output = Result<Answer<B>, Unanswered<B>>> + use<'a, B> {
    // A character that ends the line early would begin a request of its own.
    let target = outgoing.target;
    let is_target = !target.is_empty() && target.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    let call = is_target.then(|| Call::begin(connection, outgoing));
    async move {
        let Some(call) = call else { return Err(refused(Refusal::Target)) };
        heard(call, exchange, home).await
    }
}

/// Sends a request of which nothing was sent over another connection.
///
/// # Errors
/// As for [`send`].
pub async fn send_unsent<B: Body<Data = Bytes, Error = io::Error> + Unpin>(
    Unsent(mut call): Unsent<B>,
    connection: Connection,
    exchange: Option<&Exchange>,
    home: &Arc<Pool>,
) -> Result<Answer<B>, Unanswered<B>> {
    call.conn = connection.0;
    call.broken = None;
    heard(call, exchange, home).await
}

/// Reads the answer, after the interim ones.
async fn heard<B: Body<Data = Bytes, Error = io::Error> + Unpin>(
    mut call: Box<Call<B>>,
    exchange: Option<&Exchange>,
    home: &Arc<Pool>,
) -> Result<Answer<B>, Unanswered<B>> {
    for _ in 0..INTERIM_MAX {
        let head = match poll_fn(|context| call.poll_head(context)).await {
            Ok(head) => head,
            Err(error) => return Err(call.unanswered(error)),
        };
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            // A `100 Continue` is for us; the client gets its own.
            if let Some(exchange) = exchange.filter(|_| head.status != StatusCode::CONTINUE) {
                let headers = head.fields.headers().map_err(refused)?;
                let told = timeout(call.timeout, exchange.interim(head.status, &headers)).await;
                if told.is_err() {
                    return Err(call.unanswered(Error::TooSlow));
                }
            }
            continue;
        }
        return answered(call, head, home).map_err(refused);
    }
    Err(refused(Refusal::StartLine))
}

/// The answer to a call whose head has come.
fn answered<B: Body<Data = Bytes, Error = io::Error> + Unpin>(
    mut call: Box<Call<B>>,
    head: ResponseHead,
    home: &Arc<Pool>,
) -> Result<Answer<B>, Refusal> {
    let is_switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let stated = Stated::read(head.fields.iter());
    let answered = stated.of_response(&call.method, head.status, head.version)?;
    let framing = answered.framing;
    let is_kept = stated.is_kept(head.version)
        && !answered.is_mended()
        && framing != Framing::UntilClose
        && call.broken.is_none()
        && !is_switching;
    call.conn.begin(framing);
    let left = match framing {
        Framing::None => Some(0),
        Framing::Length(bytes) => Some(bytes),
        Framing::Chunked | Framing::UntilClose => None,
    };
    let home = is_kept.then(|| Home { pool: Arc::clone(home), kept_for: stated.kept_for() });
    let mut body = ResponseBody { call: Some(call), home, left };
    if framing == Framing::None && !is_switching {
        body.finish();
    }
    let lengths = answered.lengths;
    let ResponseHead { status, reason, fields, .. } = head;
    Ok(Answer { status, reason, fields, lengths, body })
}
