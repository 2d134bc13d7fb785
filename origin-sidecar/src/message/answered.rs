//! The body of an answer that arrives over HTTP/2.

use super::grpc;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use rules::Problem;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The body of an answer. The call keeps its stream permit until the body has ended.
pub struct Answered {
    body: Incoming,
    is_grpc: bool,
    is_over: bool,
    _place: Arc<dyn Send + Sync>,
}

impl Answered {
    /// Wraps a body; `place` is the call's stream permit, which is held until the body has ended.
    pub fn new(body: Incoming, is_grpc: bool, place: Arc<dyn Send + Sync>) -> Self {
        Self { body, is_grpc, is_over: false, _place: place }
    }

    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            // A gRPC client gets the error as trailers. What it has received so far is no complete
            // answer either way.
            Some(Err(error)) if self.is_grpc => {
                self.is_over = true;
                tracing::debug!(%error, "a call's answer broke off");
                Some(Ok(Frame::trailers(grpc::trailers(Problem::UpstreamUnreachable))))
            }
            frame => frame.map(|frame| frame.map_err(io::Error::other)),
        })
    }

    pub fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
