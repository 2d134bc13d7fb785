//! In which order what comes together is read and written.

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use http1::Refusal;
use http1::head::RequestHead;
use http1::server::{Exchange, RequestBody, Service, serve};
use http1::stream::Stream;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{Notify, mpsc};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Answered,
    Written,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Act>>>);

impl Log {
    fn note(&self, act: Act) {
        self.0.lock().expect("nobody panicked").push(act);
    }
}

/// Says when it is asked; answers at once, or all together when it is told to.
struct App {
    log: Log,
    asked: mpsc::UnboundedSender<()>,
    upstream: Arc<Notify>,
}

impl Service for App {
    type Body = UnsyncBoxBody<Bytes, io::Error>;

    async fn answer(
        &self,
        head: &mut RequestHead,
        _: RequestBody,
        _: Exchange,
    ) -> Response<Self::Body> {
        let told = self.upstream.notified();
        self.asked.send(()).expect("somebody listens");
        if head.target.path() == "/later" {
            told.await;
        }
        self.log.note(Act::Answered);
        Response::new(Full::from("ok").map_err(|never| match never {}).boxed_unsync())
    }

    fn broken(&self, error: &io::Error) -> Response<Self::Body> {
        panic!("{error}");
    }

    fn refuse(&self, refusal: Refusal) -> Response<Self::Body> {
        panic!("{refusal}");
    }

    fn body_refused(&self, refusal: Refusal) {
        panic!("{refusal}");
    }
}

/// A connection that notes when it is written to.
struct Wire(DuplexStream, Log);

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.note(Act::Written);
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// What two connections do that ask for the same at once.
async fn acts(path: &str) -> Vec<Act> {
    let (log, upstream) = (Log::default(), Arc::new(Notify::new()));
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        client.write_all(request.as_bytes()).await.expect("room");
        let app = App { log: log.clone(), asked: asked.clone(), upstream: Arc::clone(&upstream) };
        let stream = Stream::other(Wire(server, log.clone()));
        tokio::spawn(async move { serve(stream, &app, pending()).await });
        clients.push(client);
    }
    for _ in &clients {
        was_asked.recv().await.expect("they run");
    }
    upstream.notify_waiters();
    for mut client in clients {
        assert!(client.read_u8().await.is_ok());
    }
    log.0.lock().expect("nobody panicked").clone()
}

#[tokio::test]
async fn answers_that_come_together_are_all_read_before_the_first_is_written() {
    use Act::{Answered, Written};
    assert_eq!(acts("/later").await, [Answered, Answered, Written, Written]);
}

#[tokio::test]
async fn what_is_answered_at_once_is_written_at_once() {
    use Act::{Answered, Written};
    assert_eq!(acts("/now").await, [Answered, Written, Answered, Written]);
}
