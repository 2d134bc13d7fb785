//! A client's body over HTTP/2: over HTTP/1.1 its connection sees to how long it is waited for.

use super::source::PolledFrame;
use bytes::Bytes;
use http_body::Body;
use http1::pace::IDLE_TIMEOUT;
use http1::slow::SlowPeer;
use http1::{Limits, Patience};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How long the next piece of a client's body over HTTP/2 is waited for.
pub struct UploadPace {
    patience: Patience,
    /// How long its client may pause.
    pub idle: Duration,
    peer: SlowPeer,
}

impl UploadPace {
    pub fn new(peer: SlowPeer) -> Self {
        Self { patience: Patience::default(), idle: IDLE_TIMEOUT, peer }
    }

    pub fn poll_frame<S>(&mut self, source: &mut S, context: &mut Context<'_>) -> PolledFrame
    where
        S: Body<Data = Bytes, Error = io::Error> + Unpin,
    {
        if let Poll::Ready(frame) = Pin::new(source).poll_frame(context) {
            let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            self.patience.moved(bytes.map_or(0, Bytes::len));
            return Poll::Ready(frame);
        }
        let limits = Limits { idle: self.idle, peer: Some(&self.peer) };
        ready!(self.patience.poll_end(context, limits));
        Poll::Ready(Some(Err(io::Error::other(http1::Error::TooSlow))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Body;
    use super::{Bytes, Duration, SlowPeer, io};
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use http1::slow::SlowPeers;
    use tokio::time::sleep;

    /// Pieces of so many bytes, each after a wait.
    fn body(pieces: usize, bytes: usize, wait: Duration) -> Body {
        let frames = futures_util::stream::unfold(0, move |sent| async move {
            sleep(wait).await;
            let frame = Frame::data(Bytes::from(vec![b'x'; bytes]));
            (sent < pieces).then_some((Ok::<_, io::Error>(frame), sent + 1))
        });
        let peer = SlowPeer::new(&SlowPeers::new(1000), None);
        Body::boxed(StreamBody::new(frames).boxed_unsync()).paced(peer)
    }

    async fn read(body: Body) -> Result<usize, String> {
        body.collect().await.map(|body| body.to_bytes().len()).map_err(|error| error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_pause_for_as_long_as_its_route_says_and_one_of_a_stream_for_ever() {
        let (pause, long) = (Duration::from_secs(50), Duration::from_secs(70));
        assert_eq!(read(body(3, 10, pause)).await, Ok(30));
        assert_eq!(read(body(3, 10, long)).await, Err("too slow".to_owned()));
        let mut patient = body(3, 10, long);
        patient.set_idle_timeout(Duration::from_secs(120));
        assert_eq!(read(patient).await, Ok(30));
        assert_eq!(read(body(3, 10, Duration::from_secs(3600)).unpaced()).await, Ok(30));
    }
}
