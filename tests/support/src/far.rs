//! A network with latency.

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What a far network keeps on its way in one direction of a connection.
const ON_ITS_WAY: usize = 4_096;

/// A port that leads to another one of this machine as if that were far away: every byte takes so long, in each
/// direction, however many are on their way.
///
/// # Panics
/// When no port is free.
pub async fn far(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let own = listener.local_addr().expect("a bound port").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
            for stream in [&client, &server] {
                stream.set_nodelay(true).expect("an option");
            }
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(late(from_client, to_server, delay));
            tokio::spawn(late(from_server, to_client, delay));
        }
    });
    own
}

async fn late(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut on_their_way) = mpsc::channel::<(Instant, Vec<u8>)>(ON_ITS_WAY);
    tokio::spawn(async move {
        while let Some((due, bytes)) = on_their_way.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let sent = (Instant::now() + delay, buffer[..length].to_vec());
        if sender.send(sent).await.is_err() {
            return;
        }
    }
}
