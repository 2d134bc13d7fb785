//! A request as it came in: who asks, for which host, and whether it may be believed.

use crate::fields;
use http::header;
use http1::head::RequestHead;
use http1::lines;
use rules::Problem;
use rules::hygiene::Sender;
use std::net::IpAddr;
use std::sync::Arc;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    /// The address as `X-Forwarded-For` names it: the same for all requests of a connection.
    pub name: Arc<str>,
    /// Its `X-Forwarded-*` are believed.
    pub is_trusted: bool,
    /// TLS ends here.
    pub is_tls: bool,
}

impl Peer {
    pub fn new(address: IpAddr, is_trusted: bool, is_tls: bool) -> Self {
        Self { address, name: address.to_canonical().to_string().into(), is_trusted, is_tls }
    }
}

/// Facts about a request that are fixed before any rule is applied.
#[derive(Debug, Clone)]
pub struct Inbound {
    pub peer: Peer,
    /// Lower case, with the port if the client named one.
    pub host: String,
    pub scheme: &'static str,
    /// Path and query as received.
    pub target: String,
}

/// A host name is 255 bytes at most (RFC 1035), a port six.
const HOST_BYTES_MAX: usize = 261;

impl Inbound {
    /// # Errors
    /// `bad-request` with what is wrong: no or several Host fields, or a Host that differs from
    /// the authority of an absolute target (RFC 9112 section 3.2).
    pub fn read(request: &RequestHead, peer: Peer) -> Result<Self, (Problem, &'static str)> {
        let headers = &request.headers;
        let mut hosts = lines::of(headers, &header::HOST);
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => {
                host.to_str().map_err(|_| (Problem::BadRequest, "Host is not text"))?
            }
            (None, _) => return Err((Problem::BadRequest, "Host is missing")),
            (Some(_), Some(_)) => return Err((Problem::BadRequest, "Host is given twice")),
        };
        if let Some(authority) = request.target.authority()
            && !authority.as_str().eq_ignore_ascii_case(host)
        {
            return Err((Problem::BadRequest, "Host differs from the request target"));
        }
        let legal = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        };
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(legal) {
            return Err((Problem::BadRequest, "Host is not a host name"));
        }
        let proto =
            lines::first(headers, &fields::X_FORWARDED_PROTO).and_then(|value| value.to_str().ok());
        let is_secure = match proto {
            Some(proto) if peer.is_trusted => proto == "https",
            _ => peer.is_tls,
        };
        let scheme = if is_secure { "https" } else { "http" };
        let target = request.target.path_and_query().map_or("/", |it| it.as_str()).to_owned();
        Ok(Self { peer, host: host.to_ascii_lowercase(), scheme, target })
    }

    /// What the app is told of who asked.
    pub fn sender(&self) -> Sender<'_> {
        let Peer { name, is_tls, is_trusted, .. } = &self.peer;
        Sender { address: name, host: &self.host, is_tls: *is_tls, is_trusted: *is_trusted }
    }

    /// The view that decisions are made from.
    pub fn head<'a>(
        &'a self,
        method: &'a http::Method,
        fields: &'a dyn rules::Fields,
    ) -> rules::Head<'a> {
        rules::Head {
            method: method.as_str(),
            scheme: self.scheme,
            host: &self.host,
            target: &self.target,
            fields,
        }
    }
}
