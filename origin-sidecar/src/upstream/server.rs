//! An upstream server and the protocol spoken with it.

use http::Uri;
use http::uri::Authority;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio_rustls::rustls::ClientConfig;

/// The name of the application beside this process.
pub const APP: &str = "app";

/// The position of a server among the process's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerSlot(pub usize);

impl ServerSlot {
    /// The slot of the application beside this process.
    pub const APP: Self = Self(0);
}

/// A server to which requests are forwarded.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub name: Arc<str>,
    /// The index by which the process finds its state of this server.
    pub slot: ServerSlot,
    pub protocol: Protocol,
    pub authority: Authority,
}

/// The protocol spoken with an upstream.
#[derive(Debug, Clone)]
pub enum Protocol {
    Http1,
    /// HTTP/1.1 over TLS, with the trusted certificate authorities.
    Tls(Arc<ClientConfig>),
    /// HTTP/2 with prior knowledge, without TLS.
    Http2,
}

impl Protocol {
    pub fn port(&self) -> u16 {
        match self {
            Self::Http1 | Self::Http2 => 80,
            Self::Tls(_) => 443,
        }
    }
}

impl Upstream {
    /// Parses the URL of an upstream.
    ///
    /// # Errors
    /// Names what is wrong with the URL.
    pub fn parse(
        (name, slot): (&str, ServerSlot),
        url: &str,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{name}={url}: {error}"))?;
        let is_plain = uri.path() == "/" && uri.query().is_none();
        let protocol = match uri.scheme_str() {
            Some("http") => Some(Protocol::Http1),
            Some("https") => Some(Protocol::Tls(Arc::clone(tls))),
            Some("h2c") => Some(Protocol::Http2),
            _ => None,
        };
        match (protocol, uri.authority()) {
            (Some(protocol), Some(authority)) if is_plain && is_host_and_port(authority) => {
                Ok(Self { name: name.into(), slot, protocol, authority: authority.clone() })
            }
            _ => Err(format!(
                "{name}={url}: write http://host:port, https://host or h2c://host:port (HTTP/2 in the clear), without a path"
            )),
        }
    }
}

impl Upstream {
    /// Whether it is the application beside this process.
    pub fn is_app(&self) -> bool {
        self.slot == ServerSlot::APP
    }

    /// Whether this upstream is whoever listens at that address, as far as can be told without
    /// asking.
    pub fn is_at(&self, listen: SocketAddr) -> bool {
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_here = match host.parse::<IpAddr>() {
            Ok(host) if listen.ip().is_unspecified() => host.is_loopback() || host == listen.ip(),
            Ok(host) => host == listen.ip(),
            Err(_) => {
                host.eq_ignore_ascii_case("localhost")
                    && (listen.ip().is_loopback() || listen.ip().is_unspecified())
            }
        };
        let usual = if matches!(self.protocol, Protocol::Tls(_)) { 443 } else { 80 };
        is_here && self.authority.port_u16().unwrap_or(usual) == listen.port()
    }
}

/// Whether the authority names a host and a non-empty port: `app:` would silently mean port 80.
fn is_host_and_port(authority: &Authority) -> bool {
    let text = authority.as_str();
    !text.contains('@') && !text.ends_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::tls::Authorities;

    #[test]
    fn an_upstream_is_a_scheme_a_host_and_a_port_and_nothing_else() {
        let tls = Arc::new(Authorities::none().client().expect("a client"));
        let parse = |url: &str| Upstream::parse(("app", ServerSlot::APP), url, &tls);
        for good in ["http://127.0.0.1:8080", "http://app", "https://app.example", "h2c://[::1]:1"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["http://app:", "http://[::1]:", "http://me@app", "http://app/path", "ftp://app"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
