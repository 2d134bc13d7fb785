//! Answers of S3: errors by name, and bodies that can't hang.

use crate::results::StoreError;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use net::boxed::ObjectBody;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// How many bytes of an error's document are read; those of S3 are below 1 KiB.
const ERROR_BYTES_MAX: usize = 8 << 10;

/// How long an error's document may take; the status says enough without it.
const ERROR_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a body may stand still while it is being read.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The error of an answer that is no success, from its status and S3's own code.
pub(super) struct Refusal {
    pub status: StatusCode,
    pub code: String,
}

impl Refusal {
    pub(super) async fn read(answer: Response<Incoming>) -> Self {
        let status = answer.status();
        let document = Limited::new(answer.into_body(), ERROR_BYTES_MAX).collect();
        let bytes = match timeout(ERROR_TIMEOUT, document).await {
            Ok(Ok(document)) => document.to_bytes(),
            // If the document is cut off, too long or too late, only the status is used.
            _ => Bytes::new(),
        };
        Self { status, code: code(&String::from_utf8_lossy(&bytes)).to_owned() }
    }

    pub(super) fn into_error(self) -> StoreError {
        let name = match (self.status.as_u16(), self.code.as_str()) {
            (_, "NoSuchBucket") => "bucket-missing",
            (_, "SlowDown") | (429, _) => "throttled",
            (401 | 403, _) => "denied",
            (416, _) => "range",
            (500.., _) => "unavailable",
            _ => "refused",
        };
        let detail = format!("S3 answered {} {}", self.status.as_u16(), self.code);
        StoreError { name, detail: detail.trim_end().to_owned() }
    }
}

/// The text of the first `<Code>` element.
fn code(document: &str) -> &str {
    let inside = document.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    inside.map_or("", |(code, _)| code)
}

pub(super) fn etag(headers: &HeaderMap) -> Result<String, StoreError> {
    text(headers, "etag").map(str::to_owned)
}

pub(super) fn length(headers: &HeaderMap) -> Result<u64, StoreError> {
    text(headers, "content-length")?.parse().map_err(|_| senseless("content-length"))
}

/// The whole object's length in `bytes 0-4/TOTAL`.
pub(super) fn total(headers: &HeaderMap) -> Result<u64, StoreError> {
    let value = text(headers, "content-range")?;
    let total = value.rsplit('/').next().and_then(|total| total.parse().ok());
    total.ok_or_else(|| senseless("content-range"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, StoreError> {
    headers.get(name).and_then(|value| value.to_str().ok()).ok_or_else(|| senseless(name))
}

fn senseless(name: &str) -> StoreError {
    StoreError { name: "refused", detail: format!("S3 answered without a usable {name}") }
}

/// The answer's body, which fails when nothing comes for [`STALL_TIMEOUT`].
pub(super) fn body(incoming: Incoming) -> ObjectBody {
    bounded(incoming.map_err(Error::other), STALL_TIMEOUT)
}

fn bounded<B>(inner: B, limit: Duration) -> ObjectBody
where
    B: Body<Data = Bytes, Error = Error> + Send + Unpin + 'static,
{
    Bounded { inner, limit, alarm: Box::pin(sleep(limit)), waiting: false }.boxed_unsync()
}

struct Bounded<B> {
    inner: B,
    limit: Duration,
    alarm: Pin<Box<Sleep>>,
    /// The alarm runs while data is awaited only: a slow reader is not a slow store.
    waiting: bool,
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Bounded<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            this.waiting = false;
            return Poll::Ready(frame);
        }
        if !this.waiting {
            this.waiting = true;
            this.alarm.as_mut().reset(Instant::now() + this.limit);
        }
        this.alarm.as_mut().poll(context).map(|()| {
            Some(Err(Error::new(ErrorKind::TimedOut, "the result store stopped sending")))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(status: u16, code: &str) -> &'static str {
        let status = StatusCode::from_u16(status).expect("a status");
        Refusal { status, code: code.into() }.into_error().name
    }

    #[test]
    fn refusals_have_stable_names() {
        assert_eq!(name(404, "NoSuchBucket"), "bucket-missing");
        assert_eq!(name(503, "SlowDown"), "throttled");
        assert_eq!(name(503, ""), "unavailable");
        assert_eq!(name(403, "ExpiredToken"), "denied");
        assert_eq!(name(400, "Whatever"), "refused");
    }

    #[test]
    fn the_code_is_found_or_empty() {
        assert_eq!(code("<?xml?><Error><Code>NoSuchKey</Code></Error>"), "NoSuchKey");
        assert_eq!(code("<html>bad gateway"), "");
        assert_eq!(code("<Code>cut"), "");
    }

    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Error;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_store_that_falls_silent_is_an_error() {
        let body = bounded(Silent, Duration::from_millis(1));
        let error = body.collect().await.expect_err("nothing ever comes");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
