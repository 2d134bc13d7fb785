//! Who reads his answers over HTTP/2, and who does not.
//!
//! A client that opens no window holds its streams, and what of the answers is in memory, for as long
//! as it likes: its pings are answered, and its TCP connection moves. hyper asks for the next piece of
//! a body when the last one may be sent, so what was given and not asked for again is not read.
//!
//! A connection may be a proxy's that many clients share, and hyper can't reset one stream of it: so it
//! ends only when none of its answers is read. What a stream can hold is bounded by its piece.

use crate::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http1::pace::{GRACE, RATE_MIN};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Bytes that a client is given at once: a frame, as most take them (RFC 9113 section 4.2). So much of
/// each answer may be in memory that he does not read.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// How often a connection's answers are looked through.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The answers of one connection that wait for its client.
#[derive(Default)]
pub struct Readers {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Until when each is waited for.
    until: BTreeMap<u64, Instant>,
    /// When one of them was last read on, or ended.
    moved: Option<Instant>,
    /// Answers so far.
    count: u64,
}

/// One answer that is being read.
pub struct Reader {
    readers: Arc<Readers>,
    id: u64,
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer whose head is about to go out.
    pub fn begin(self: &Arc<Self>) -> Reader {
        let mut waiting = self.lock();
        waiting.count += 1;
        let reader = Reader { readers: Arc::clone(self), id: waiting.count };
        drop(waiting);
        reader.given(0);
        reader
    }

    /// Resolves when an answer has not been read for too long, and no other one meanwhile.
    pub async fn too_slow(&self) {
        loop {
            sleep(LOOK_INTERVAL).await;
            let now = Instant::now();
            let waiting = self.lock();
            let has_moved = waiting.moved.is_some_and(|moved| now < moved + GRACE);
            if !has_moved && waiting.until.values().any(|until| *until < now) {
                return;
            }
        }
    }
}

impl Reader {
    /// The client has got so many bytes to read: as long as over HTTP/1.1 for as many.
    pub fn given(&self, bytes: usize) {
        let earned = Duration::from_millis(bytes as u64 * 1000 / RATE_MIN);
        self.readers.lock().until.insert(self.id, Instant::now() + GRACE + earned);
    }

    /// It may have more: from now on the app is waited for.
    pub fn has_read(&self) {
        let mut waiting = self.readers.lock();
        waiting.until.remove(&self.id);
        waiting.moved = Some(Instant::now());
    }
}

/// A body in pieces, each of which must be read before the next one is there.
pub struct Read {
    body: Body,
    /// Of what came from it.
    rest: Bytes,
    reader: Reader,
}

impl Read {
    pub fn new(body: Body, reader: Reader) -> Self {
        Self { body, rest: Bytes::new(), reader }
    }

    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.reader.has_read();
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES_MAX));
        self.reader.given(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    pub fn is_end(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        let here = self.rest.len() as u64;
        self.body
            .size_hint()
            .exact()
            .map_or_else(SizeHint::default, |rest| SizeHint::with_exact(here + rest))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.has_read();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use hyper::client::conn::http2 as client;
    use hyper::server::conn::http2 as server;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use std::convert::Infallible;
    use tokio::time::{advance, timeout};

    async fn is_slow_within(readers: &Readers, time: Duration) -> bool {
        timeout(time, readers.too_slow()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_the_same_in_pieces_and_unread_pieces_are_noticed() {
        let readers = Arc::new(Readers::default());
        let sent: Vec<u8> = (0..PIECE_BYTES_MAX * 3 + 5).map(|number| number as u8).collect();
        let read = Body::full(sent.clone()).read_by(readers.begin()).collect().await;
        assert_eq!(read.expect("all of it").to_bytes(), sent);
        let mut unread = Body::full(sent).read_by(readers.begin());
        let first = unread.frame().await.expect("a piece").expect("in memory");
        assert_eq!(first.data_ref().map(Bytes::len), Some(PIECE_BYTES_MAX));
        assert!(!unread.is_end_stream() && is_slow_within(&readers, GRACE * 3).await);
    }

    /// What the standard begins with (RFC 9113 section 6.9.2).
    const WINDOW: u32 = 65_535;

    /// A megabyte over HTTP/2, of which the client takes a piece in each wait; whether that was too slow.
    async fn is_too_slow(wait: Duration) -> bool {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let readers = Arc::new(Readers::default());
        let begun = Arc::clone(&readers);
        let service = service_fn(move |_| {
            let body = Body::full(vec![b'x'; 1024 * 1024]).read_by(begun.begin());
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let serving = server::Builder::new(TokioExecutor::new());
        tokio::spawn(serving.serve_connection(TokioIo::new(server), service));
        let mut asking = client::Builder::new(TokioExecutor::new());
        let asking =
            asking.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let made = asking.handshake(TokioIo::new(client)).await;
        let (mut sender, connection) = made.expect("HTTP/2");
        tokio::spawn(connection);
        let request = Request::new(http_body_util::Empty::<Bytes>::new());
        let mut answer = sender.send_request(request).await.expect("an answer").into_body();
        let reading = async {
            while let Some(frame) = answer.frame().await {
                let read = frame.expect("data").data_ref().map_or(0, Bytes::len);
                sleep(wait.mul_f64(read as f64 / PIECE_BYTES_MAX as f64)).await;
            }
        };
        tokio::select! {
            () = reading => false,
            () = readers.too_slow() => true,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_opens_no_window_is_noticed_and_one_that_reads_slowly_is_not() {
        assert!(!is_too_slow(Duration::from_secs(5)).await);
        assert!(is_too_slow(Duration::from_secs(3600)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_read_is_waited_for_by_its_size_and_the_app_for_as_long_as_it_takes() {
        let readers = Arc::new(Readers::default());
        let minutes = Duration::from_secs(600);
        assert!(!is_slow_within(&readers, minutes).await, "nothing is there to be read");
        let reader = readers.begin();
        reader.has_read();
        assert!(!is_slow_within(&readers, minutes).await, "the app takes its time");
        reader.given(100 * RATE_MIN as usize);
        assert!(!is_slow_within(&readers, GRACE + Duration::from_secs(99)).await);
        assert!(is_slow_within(&readers, LOOK_INTERVAL * 2).await);
        let other = readers.begin();
        other.has_read();
        let before = GRACE - Duration::from_secs(1);
        assert!(!is_slow_within(&readers, before).await, "another answer is read");
        assert!(is_slow_within(&readers, LOOK_INTERVAL * 2).await);
        drop(reader);
        assert!(!is_slow_within(&readers, minutes).await, "it is over");
        let _unread = readers.begin();
        advance(GRACE).await;
        assert!(is_slow_within(&readers, LOOK_INTERVAL * 2).await, "not even begun to be read");
    }
}
