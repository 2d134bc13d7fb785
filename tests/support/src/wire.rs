//! An application byte by byte: it shows what reached it, and answers what no library would.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers each request head with bytes of the test's choice, and closes.
pub struct Wire {
    url: String,
    heads: Arc<Mutex<Vec<Vec<u8>>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Wire {
    /// `answer` is given the head, its empty line included.
    pub async fn start(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound port"));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&heads), Arc::new(answer));
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move { served(stream, &seen, answer.as_ref()).await });
            }
        });
        Self { url, heads, server }
    }

    /// An application that answers with the head that it was sent.
    pub async fn mirror() -> Self {
        Self::start(|head| {
            let line = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
            [line.as_bytes(), head].concat()
        })
        .await
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The heads so far, as text.
    pub fn heads(&self) -> Vec<String> {
        let heads = self.heads.lock().expect("no panic");
        heads.iter().map(|head| String::from_utf8_lossy(head).into_owned()).collect()
    }
}

async fn served(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Vec<u8>>>,
    answer: &(impl Fn(&[u8]) -> Vec<u8> + ?Sized),
) {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while !read.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => read.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let end = read.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("found") + 4;
    let head = read[..end].to_vec();
    seen.lock().expect("no panic").push(head.clone());
    // A proxy that is gone is part of many tests.
    let _ = stream.write_all(&answer(&head)).await;
    let _ = stream.shutdown().await;
}
