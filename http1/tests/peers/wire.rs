//! A connection to a server that answers by path.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use http1::head::RequestHead;
use http1::server::{Exchange, RequestBody, Served, Service, serve};
use http1::stream::Stream;
use http1::{Error, Refusal};
use std::future::pending;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Body = UnsyncBoxBody<Bytes, io::Error>;

fn full(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Answers by path.
struct ByPath;

impl Service for ByPath {
    type Body = Body;

    async fn answer(
        &self,
        head: &mut RequestHead,
        body: RequestBody,
        exchange: Exchange,
    ) -> Response<Body> {
        match head.target.path() {
            "/echo" => Response::new(body.map_err(io::Error::other).boxed_unsync()),
            "/whole" => match body.collect().await {
                Ok(_) => Response::new(full("read")),
                Err(error) => panic!("{error}"),
            },
            "/never" => pending().await,
            "/early" => Response::new(full("no")),
            "/hints" => {
                let mut hints = HeaderMap::new();
                hints.insert(header::LINK, "</a.css>".parse().expect("a value"));
                // Not an interim answer's to say.
                hints.insert(header::CONNECTION, "close".parse().expect("a value"));
                hints.insert(header::CONTENT_LENGTH, 5.into());
                exchange.interim(StatusCode::EARLY_HINTS, &hints).await;
                Response::new(full("page"))
            }
            "/stream" => {
                let frames = ["one", "two"].map(|text| Ok(http_body::Frame::data(text.into())));
                Response::new(StreamBody::new(Frames(frames.into_iter())).boxed_unsync())
            }
            "/broken" => {
                let frames = futures_util::stream::unfold(0, |sent| async move {
                    // So that the first part is on its way before the other one breaks off.
                    tokio::time::sleep(Duration::from_millis(sent * 50)).await;
                    let part = Ok(http_body::Frame::data(Bytes::from_static(b"part")));
                    Some((if sent == 0 { part } else { Err(io::Error::other("x")) }, sent + 1))
                });
                Response::new(StreamBody::new(Box::pin(frames)).boxed_unsync())
            }
            "/broken-at-once" => {
                let frames = [Err::<http_body::Frame<Bytes>, _>(io::Error::other("x"))];
                Response::new(StreamBody::new(Frames(frames.into_iter())).boxed_unsync())
            }
            "/late" => {
                tokio::time::sleep(Duration::from_secs(50)).await;
                Response::new(full("late"))
            }
            "/short" => {
                let mut response = Response::new(full("abc"));
                response.headers_mut().insert(header::CONTENT_LENGTH, 5.into());
                response
            }
            "/switch" => {
                exchange.upgrade(|mut client| async move {
                    let mut said = [0; 4];
                    client.read_exact(&mut said).await.expect("four bytes");
                    client.write_all(&said).await.expect("open");
                });
                let mut response = Response::new(empty());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response
            }
            _ => Response::new(full("ok")),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        Response::new(full(refusal.name()))
    }

    fn broken(&self, error: &io::Error) -> Response<Body> {
        let mut response = Response::new(full("instead"));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        assert!(["x", "the body has another length than announced"].contains(&&*error.to_string()));
        response
    }

    fn body_refused(&self, _: Refusal) {}
}

/// Frames one after the other, as an answer without a length has them.
struct Frames<I>(I);

impl<I: Iterator + Unpin> futures_util::Stream for Frames<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

pub struct Wire {
    pub stream: DuplexStream,
    pub served: JoinHandle<Result<Served, Error>>,
    pub close: Option<oneshot::Sender<()>>,
}

impl Wire {
    pub fn open() -> Self {
        let (stream, server) = tokio::io::duplex(1 << 16);
        let (close, closing) = oneshot::channel::<()>();
        let closing = async move {
            // A test that drops the sender closes too.
            let _ = closing.await;
        };
        let served =
            tokio::spawn(async move { serve(Stream::other(server), &ByPath, closing).await });
        Self { stream, served, close: Some(close) }
    }

    pub async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("open");
    }

    /// Reads until the text has come.
    pub async fn hear(&mut self, until: &str) -> String {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(until) {
            let mut byte = [0; 1];
            match self.stream.read(&mut byte).await {
                Ok(1) => heard.push(byte[0]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// Reads to the end.
    pub async fn rest(&mut self) -> String {
        let mut heard = Vec::new();
        self.stream.read_to_end(&mut heard).await.expect("an end");
        String::from_utf8_lossy(&heard).into_owned()
    }

    pub async fn ended(self) -> Result<(), Error> {
        drop(self.stream);
        self.served.await.expect("no panic").map(|_| ())
    }
}
