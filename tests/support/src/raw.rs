//! Bytes on a socket, for requests that no client would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Sends raw bytes and reads until the peer closes or the text is there.
///
/// # Panics
/// When there is no connection or no answer within [`crate::PATIENCE`].
pub async fn raw(address: &str, request: &str, until: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("sent");
    read_until(&mut stream, until).await
}

/// The next connection that carries something: a consumer looks for its application by one that does
/// not.
///
/// # Panics
/// When none comes within [`crate::PATIENCE`].
pub async fn accepted(listener: &TcpListener) -> TcpStream {
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await.expect("it listens");
            if stream.peek(&mut [0]).await.is_ok_and(|length| length > 0) {
                return stream;
            }
        }
    };
    tokio::time::timeout(crate::PATIENCE, accepting).await.expect("a request")
}

/// Reads until the text is there or the peer closes.
///
/// # Panics
/// When neither happens within [`crate::PATIENCE`], and when reading fails before anything came: what must
/// not stand in an answer does not stand in none either.
pub async fn read_until(stream: &mut TcpStream, until: &str) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    let done = async {
        loop {
            let count = match stream.read(&mut buffer).await {
                Ok(count) => count,
                // A reset behind an answer is one way to close; before any it is no answer.
                Err(error) if read.is_empty() => panic!("nothing was read: {error}"),
                Err(_) => 0,
            };
            read.extend_from_slice(&buffer[..count]);
            if count == 0 || String::from_utf8_lossy(&read).contains(until) {
                return String::from_utf8_lossy(&read).into_owned();
            }
        }
    };
    tokio::time::timeout(crate::PATIENCE, done).await.expect("an answer in time")
}
