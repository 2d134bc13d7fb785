//! TCP, and TLS where the address wants it.

use super::address::{Address, TlsMode};
use super::wire::Transport;
use net::tls::Authorities;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long connecting may take, handshakes included: databases answer within a second; this leaves room for
/// two lost SYNs (1 and 2 s).
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is silent before the kernel asks whether the server is still there, and between two such
/// questions: after nine without an answer, 100 s in all, the session has failed.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// What asks a server of PostgreSQL for TLS: length and number of the message.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Connects, and speaks TLS before anything else where the address says so.
///
/// # Errors
/// When the server is not there, or has no TLS that can be verified.
pub(super) async fn dial(address: &Address) -> io::Result<Transport> {
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    // A server that is gone without a word ends a session that waits for it.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let TlsMode::VerifyFull { authorities } = &address.tls else {
        return Ok(Transport::Plain(stream));
    };
    let authorities = match authorities {
        Some(file) => Authorities::of(file).map_err(io::Error::other)?,
        None => Authorities::public(),
    };
    let config = Arc::new(authorities.client().map_err(io::Error::other)?);
    let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
    stream.write_all(&SSL_REQUEST).await?;
    if stream.read_u8().await? != b'S' {
        return Err(io::Error::other(
            "the server speaks no TLS: set ssl = on there, or say sslmode=disable",
        ));
    }
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Transport::Tls(Box::new(stream)))
}
