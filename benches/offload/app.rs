//! The application that jobs are replayed to: answers 1 KiB at once, and counts.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub(crate) struct App {
    pub(crate) url: String,
    count: AtomicU32,
    asked: Notify,
}

pub(crate) async fn start() -> Arc<App> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let app = Arc::new(App { url, count: AtomicU32::new(0), asked: Notify::new() });
    let serving = Arc::clone(&app);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let app = Arc::clone(&serving);
            tokio::spawn(async move {
                let service = service_fn(|request| answer(request, &app));
                // A connection ends when its client does.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    app
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    app: &App,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let _ = request.into_body().collect().await;
    app.count.fetch_add(1, Ordering::Relaxed);
    app.asked.notify_waiters();
    Ok(Response::new(Full::new(Bytes::from(vec![b'x'; 1024]))))
}

impl App {
    /// Forgets what was asked so far.
    pub(crate) fn reset(&self) {
        self.count.store(0, Ordering::Relaxed);
    }

    pub(crate) async fn until_asked(&self, times: u32) {
        loop {
            let asked = self.asked.notified();
            tokio::pin!(asked);
            asked.as_mut().enable();
            if self.count.load(Ordering::Relaxed) >= times {
                return;
            }
            asked.await;
        }
    }
}
