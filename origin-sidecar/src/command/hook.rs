//! `spillway drain`, the sidecar's own preStop hook. The image has no shell and no curl.

use crate::operate::admin::drain::DRAIN_MAX;
use crate::operate::admin::{FIELD, FIELD_VALUE};
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting may take: a live process on loopback accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest answer in bytes: one line.
const ANSWER_BYTES_MAX: usize = 1024;

/// Drains the process on this admin port, and waits until it is idle.
///
/// # Errors
/// The process can't be reached, refuses, or is still busy at the end of its time.
pub async fn drain(admin: SocketAddr) -> Result<(), String> {
    let admin = reachable(admin);
    let drained = timeout(DRAIN_MAX, ask(admin)).await;
    drained
        .unwrap_or_else(|_| Err(format!("no answer within {DRAIN_MAX:?}")))
        .map_err(|why| format!("--admin {admin}: {why}"))
}

/// The address at which a port that listens on all addresses can be called.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, admin.port())
}

async fn ask(admin: SocketAddr) -> Result<(), String> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(admin)).await;
    let stream = stream.map_err(|_| format!("no connection within {CONNECT_TIMEOUT:?}"))?;
    let stream = TokioIo::new(stream.map_err(text)?);
    let (mut sender, connection) = handshake(stream).await.map_err(text)?;
    tokio::spawn(connection);
    let request = Request::post("/drain")
        .header(header::HOST, admin.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header(&FIELD, FIELD_VALUE)
        .body(Full::new(Bytes::from_static(b"{}")))
        .map_err(text)?;
    let answer = sender.send_request(request).await.map_err(text)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(text)?;
    let said = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
    if status.is_success() { Ok(()) } else { Err(format!("{status}: {said}")) }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_process_that_hangs_is_not_waited_for_longer_than_a_pod_has() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (admin, began) = (silent.local_addr().expect("a bound port"), Instant::now());
        let why = drain(admin).await.expect_err("nobody answers");
        assert!(why.contains("no answer within 25s"), "{why}");
        assert_eq!(began.elapsed(), DRAIN_MAX);
    }

    #[test]
    fn a_port_on_every_address_is_called_on_loopback() {
        for (given, called) in [
            ("0.0.0.0:15081", "127.0.0.1:15081"),
            ("[::]:15081", "[::1]:15081"),
            ("10.0.0.7:15081", "10.0.0.7:15081"),
        ] {
            assert_eq!(reachable(given.parse().expect("an address")).to_string(), called);
        }
    }
}
