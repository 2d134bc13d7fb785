//! The stream below PostgreSQL's protocol: TCP, TLS on top of it, and one change of the first message.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What a session of the replication protocol says of itself in its first message.
const REPLICATION: &[u8] = b"replication\0database\0";
/// The length, the version of the protocol: what comes before the parameters of the first message.
const STARTUP_HEAD: usize = 8;

/// A connection, with or without TLS.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A stream to a server that may add [`REPLICATION`] to the first message, for which the driver has no option.
#[derive(Debug)]
pub(super) struct Wire {
    transport: Transport,
    first: FirstMessage,
}

#[derive(Debug)]
enum FirstMessage {
    /// It passes as the driver writes it.
    Untouched,
    /// It is waited for.
    Expected,
    /// What is still to be sent of it, and how many bytes of the driver's it stands for.
    Sending { bytes: Vec<u8>, sent: usize, stands_for: usize },
}

impl Wire {
    pub(super) fn new(transport: Transport, is_replication: bool) -> Self {
        let first = if is_replication { FirstMessage::Expected } else { FirstMessage::Untouched };
        Self { transport, first }
    }
}

/// The first message with one parameter more.
fn with_replication(message: &[u8]) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::other("the driver began with another message than expected");
    let (head, parameters) = message.split_at_checked(STARTUP_HEAD).ok_or_else(wrong)?;
    let (length, version) = head.split_first_chunk::<4>().ok_or_else(wrong)?;
    if u32::from_be_bytes(*length) as usize != message.len() {
        return Err(wrong());
    }
    let length = u32::from_be_bytes(*length) + REPLICATION.len() as u32;
    Ok([&length.to_be_bytes(), version, REPLICATION, parameters].concat())
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(own) => Pin::new(own).poll_read(context, buffer),
            Self::Tls(own) => Pin::new(own).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(own) => Pin::new(own).poll_write(context, bytes),
            Self::Tls(own) => Pin::new(own).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(own) => Pin::new(own).poll_flush(context),
            Self::Tls(own) => Pin::new(own).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(own) => Pin::new(own).poll_shutdown(context),
            Self::Tls(own) => Pin::new(own).poll_shutdown(context),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let own = self.get_mut();
        if matches!(own.first, FirstMessage::Expected) {
            let (message, stands_for) = (with_replication(bytes)?, bytes.len());
            own.first = FirstMessage::Sending { bytes: message, sent: 0, stands_for };
        }
        let mut transport = Pin::new(&mut own.transport);
        let FirstMessage::Sending { bytes: message, sent, stands_for } = &mut own.first else {
            return transport.poll_write(context, bytes);
        };
        while let Some(rest) = message.get(*sent..).filter(|rest| !rest.is_empty()) {
            let written = ready!(transport.as_mut().poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += written;
        }
        let stands_for = *stands_for;
        own.first = FirstMessage::Untouched;
        Poll::Ready(Ok(stands_for))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_gets_one_parameter_more_and_its_length() {
        let message = b"\0\0\0\x10\0\x03\0\0user\0u\0\0";
        let made = with_replication(message).expect("a first message");
        assert_eq!(made, b"\0\0\0\x25\0\x03\0\0replication\0database\0user\0u\0\0");
        assert!(with_replication(&message[..15]).is_err(), "a part of one");
        assert!(with_replication(b"Q").is_err(), "another message");
    }
}
