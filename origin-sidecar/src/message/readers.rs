//! Slow-reader detection over HTTP/2.
//!
//! A client that does not open its window holds its streams, and the buffered parts of their
//! answers, for as long as it likes: it still answers pings, and its TCP connection makes progress.
//! hyper asks for the next piece of a body when the previous one may be sent, so a piece without a
//! following request has not been read.
//!
//! The connection may belong to a proxy that many clients share, and hyper can't reset a single
//! stream of it. So a connection is only closed when none of its answers is being read; until then
//! each stream holds one piece at most. A reader that pauses is tolerated as over HTTP/1.1: while
//! it is slow, it counts among the slow readers.

use bytes::Bytes;
use http_body::Frame;
use http1::pace::{GRACE, IDLE_TIMEOUT, RATE_MIN};
use http1::slow::{Place, SlowPeer};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bytes that a client is given at once: one frame, as most clients accept it (RFC 9113 section
/// 4.2). Each unread answer may hold this much memory.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// How often the answers of a connection are checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The answers on one connection that wait for its client.
#[derive(Default)]
pub struct Readers {
    waiting: Mutex<ReaderTimes>,
}

#[derive(Default)]
struct ReaderTimes {
    /// For each answer, when its reader becomes slow, and when the wait is over.
    until: BTreeMap<u64, (Instant, Instant)>,
    /// When one of the answers was last read from, or ended.
    moved: Option<Instant>,
    /// The number of answers so far.
    count: u64,
}

/// An answer that a client is reading.
pub struct AnswerReader {
    readers: Arc<Readers>,
    id: u64,
    /// How long its reader may pause.
    idle: Duration,
}

/// The state of a connection's readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadState {
    Read,
    Slow,
    Over,
}

impl ReaderTimes {
    fn pace(&self, now: Instant) -> ReadState {
        let rests = |pause: Duration| self.moved.is_none_or(|moved| moved + pause <= now);
        let is_past = |of: fn(&(Instant, Instant)) -> Instant| {
            self.until.values().any(|until| of(until) < now)
        };
        if rests(IDLE_TIMEOUT) && is_past(|(_, end)| *end) {
            ReadState::Over
        } else if rests(GRACE) && is_past(|(slow, _)| *slow) {
            ReadState::Slow
        } else {
            ReadState::Read
        }
    }
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, ReaderTimes> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an answer whose head is about to be sent. Its reader may pause for `idle`.
    pub fn begin(self: &Arc<Self>, idle: Duration) -> AnswerReader {
        let mut waiting = self.lock();
        waiting.count += 1;
        let reader = AnswerReader { readers: Arc::clone(self), id: waiting.count, idle };
        drop(waiting);
        reader.given(0);
        reader
    }

    /// Resolves when an answer has not been read for too long while no other one was read either,
    /// or when the connection is one of too many with slow readers.
    pub async fn too_slow(&self, peer: &SlowPeer) {
        let mut place: Option<Place> = None;
        loop {
            let closed = poll_fn(|context| {
                place.as_mut().map_or(Poll::Pending, |place| place.poll_closed(context))
            });
            if timeout(LOOK_INTERVAL, closed).await.is_ok() {
                return;
            }
            let pace = self.lock().pace(Instant::now());
            match pace {
                ReadState::Over => return,
                ReadState::Slow if place.is_none() => place = Some(peer.enter(0)),
                ReadState::Slow => {}
                ReadState::Read => place = None,
            }
        }
    }
}

impl AnswerReader {
    /// Records that the client got this many bytes. It has as much time to read them as over
    /// HTTP/1.1.
    pub fn given(&self, bytes: usize) {
        let earned = Duration::from_millis(bytes as u64 * 1000 / RATE_MIN);
        let now = Instant::now();
        let until = (now + GRACE + earned, now + self.idle + earned);
        self.readers.lock().until.insert(self.id, until);
    }

    /// Records that the client has read everything: from now on the application is waited for.
    pub fn has_read(&self) {
        let mut waiting = self.readers.lock();
        waiting.until.remove(&self.id);
        waiting.moved = Some(Instant::now());
    }
}

/// A body in pieces. Each piece must be read before the next one is available.
pub struct ReadPieces {
    /// The rest of the last frame.
    rest: Bytes,
    reader: AnswerReader,
}

impl ReadPieces {
    pub fn new(reader: AnswerReader) -> Self {
        Self { rest: Bytes::new(), reader }
    }

    /// The next piece, of what is here or of the frame that `next` polls.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        next: impl FnOnce(&mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.reader.has_read();
        if self.rest.is_empty() {
            match ready!(next(context)) {
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

    /// Bytes that have come and are not given yet.
    pub fn held_bytes(&self) -> usize {
        self.rest.len()
    }
}

impl Drop for AnswerReader {
    fn drop(&mut self) {
        self.has_read();
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::Body;
    use super::{
        Arc, Bytes, Duration, GRACE, IDLE_TIMEOUT, LOOK_INTERVAL, PIECE_BYTES_MAX, RATE_MIN,
        Readers, SlowPeer, timeout,
    };
    use http::{Request, Response};
    use http_body::Body as _;
    use http_body_util::BodyExt;
    use http1::slow::SlowPeers;
    use hyper::client::conn::http2 as client;
    use hyper::server::conn::http2 as server;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use std::convert::Infallible;
    use tokio::time::{advance, sleep};

    fn peer() -> SlowPeer {
        SlowPeer::new(&SlowPeers::new(1000), None)
    }

    async fn is_slow_within(readers: &Readers, time: Duration) -> bool {
        timeout(time, readers.too_slow(&peer())).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_the_same_in_pieces_and_unread_pieces_are_noticed() {
        let readers = Arc::new(Readers::default());
        let sent: Vec<u8> = (0..PIECE_BYTES_MAX * 3 + 5).map(|number| number as u8).collect();
        let read = Body::full(sent.clone()).read_by(readers.begin(IDLE_TIMEOUT)).collect().await;
        assert_eq!(read.expect("all of it").to_bytes(), sent);
        let mut unread = Body::full(sent).read_by(readers.begin(IDLE_TIMEOUT));
        let first = unread.frame().await.expect("a piece").expect("in memory");
        assert_eq!(first.data_ref().map(Bytes::len), Some(PIECE_BYTES_MAX));
        assert!(!unread.is_end_stream() && is_slow_within(&readers, IDLE_TIMEOUT * 2).await);
    }

    /// The initial window of the standard (RFC 9113 section 6.9.2).
    const WINDOW: u32 = 65_535;

    /// Sends a megabyte over HTTP/2 to a client that takes one piece after each `wait`. Returns
    /// whether it was too slow.
    async fn is_too_slow(wait: Duration) -> bool {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let readers = Arc::new(Readers::default());
        let begun = Arc::clone(&readers);
        let service = service_fn(move |_| {
            let body = Body::full(vec![b'x'; 1024 * 1024]).read_by(begun.begin(IDLE_TIMEOUT));
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
        let peer = peer();
        tokio::select! {
            () = reading => false,
            () = readers.too_slow(&peer) => true,
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
        let reader = readers.begin(IDLE_TIMEOUT);
        reader.has_read();
        assert!(!is_slow_within(&readers, minutes).await, "the app takes its time");
        reader.given(100 * RATE_MIN as usize);
        assert!(!is_slow_within(&readers, IDLE_TIMEOUT + Duration::from_secs(99)).await);
        assert!(is_slow_within(&readers, LOOK_INTERVAL * 2).await);
        let other = readers.begin(IDLE_TIMEOUT);
        other.has_read();
        let before = IDLE_TIMEOUT - Duration::from_secs(1);
        assert!(!is_slow_within(&readers, before).await, "another answer is read");
        assert!(is_slow_within(&readers, LOOK_INTERVAL * 2).await);
        drop(reader);
        assert!(!is_slow_within(&readers, minutes).await, "it is over");
        let _unread = readers.begin(IDLE_TIMEOUT);
        advance(IDLE_TIMEOUT).await;
        assert!(is_slow_within(&readers, LOOK_INTERVAL * 2).await, "not even begun to be read");
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_that_pause_the_first_is_closed_before_its_time() {
        let peers = SlowPeers::new(4);
        let slow = |address: &str| {
            let (readers, peer) = (Readers::default(), SlowPeer::new(&peers, address.parse().ok()));
            tokio::spawn(async move {
                let readers = Arc::new(readers);
                let _unread = readers.begin(IDLE_TIMEOUT);
                readers.too_slow(&peer).await;
            })
        };
        let first = slow("192.0.2.1");
        advance(LOOK_INTERVAL).await;
        let second = slow("192.0.2.2");
        sleep(GRACE + LOOK_INTERVAL * 2).await;
        assert!(first.is_finished() && !second.is_finished(), "one in four may be slow");
    }
}
