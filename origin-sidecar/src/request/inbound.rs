//! A received request: its client, its host, and how far its peer is trusted.

use crate::message::fields::View;
use crate::message::refused::Refused;
use http::{HeaderMap, HeaderValue, Version, header};
use http1::head::RequestHead;
use http1::lines;
use rules::Problem;
use rules::forwarded::{self, is_host};
use rules::head::Rebuilt;
use rules::hygiene::Sender;
use rules::trust::Trust;
use rules::visitor::Visitor;
use std::net::IpAddr;
use std::sync::Arc;

/// The peer of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    /// The address for `X-Forwarded-For`, shared by all requests of a connection.
    pub name: Arc<str>,
    /// How far the peer is trusted about the clients behind it.
    pub trust: Trust,
    /// Whether TLS ends in this process.
    pub is_tls: bool,
}

impl Peer {
    pub fn new(address: IpAddr, trust: Trust, is_tls: bool) -> Self {
        Self { address, name: address.to_canonical().to_string().into(), trust, is_tls }
    }
}

/// Facts about a request that are determined before any rule is applied.
#[derive(Debug, Clone)]
pub struct Inbound {
    pub peer: Peer,
    /// The host in lower case, with the port if the client named one. Empty when an HTTP/1.0 client
    /// named none.
    pub host: String,
    /// The host that a trusted proxy says was asked for.
    stated_host: Option<String>,
    pub scheme: &'static str,
    /// The target: path and query as received.
    pub target: String,
}

impl Inbound {
    /// Reads the facts from a request's head.
    ///
    /// # Errors
    /// `bad-request`: no or several Host fields, or a Host that differs from the authority of an
    /// absolute target (RFC 9112 section 3.2). `forwarded-conflict`: a trusted peer contradicts
    /// itself.
    pub fn read(request: &mut RequestHead, peer: Peer) -> Result<Self, Refused> {
        let host = host(request)?;
        let view = View::of(&request.headers);
        let stated = forwarded::stated(&view, peer.trust).map_err(|conflict| {
            let detail = format!("Forwarded and X-Forwarded-* differ in `{}`", conflict.0);
            Refused::new(Problem::ForwardedConflict, detail)
        })?;
        let own = if peer.is_tls { "https" } else { "http" };
        let target = std::mem::take(&mut request.target.path_and_query);
        let scheme = stated.scheme.unwrap_or(own);
        Ok(Self { peer, host, stated_host: stated.host, scheme, target })
    }

    /// Replaces the host of the edge's origin by the visitor's host, for everything that follows.
    pub fn restore(&mut self, visitor: &Visitor, headers: &mut HeaderMap) {
        let Ok(host) = HeaderValue::from_str(&visitor.host) else { return };
        self.host.clone_from(&visitor.host);
        self.stated_host = None;
        self.scheme = visitor.scheme;
        headers.insert(header::HOST, host);
        // A trusted proxy in between describes the request that the edge sent, not the visitor's.
        headers.remove(Rebuilt::Host.name());
        headers.remove(Rebuilt::Proto.name());
        headers.remove(Rebuilt::Forwarded.name());
    }

    /// The host that the visitor's browser shows: the one stated by a trusted proxy, if any.
    pub fn visitor_host(&self) -> &str {
        self.stated_host.as_deref().unwrap_or(&self.host)
    }

    /// The client of the request, as the application is told.
    pub fn sender(&self) -> Sender<'_> {
        let Peer { name, trust, .. } = &self.peer;
        let host = self.visitor_host();
        Sender { address: name, host, scheme: self.scheme, trust: *trust }
    }

    /// The view from which decisions are made.
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

/// The requested host in lower case; empty where HTTP/1.0 names none.
fn host(request: &RequestHead) -> Result<String, Refused> {
    let refused = |why: &str| Err(Refused::new(Problem::BadRequest, why.to_owned()));
    let mut hosts = lines::of(&request.headers, &header::HOST);
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => str::from_utf8(host.as_bytes()).unwrap_or_default(),
        // Load balancers send such health checks; only HTTP/1.1 requires a host (RFC 9112 section
        // 3.2).
        (None, _) if request.version == Version::HTTP_10 => {
            return match &request.target.authority {
                Some(_) => refused("the target names a host, and Host is missing"),
                None => Ok(String::new()),
            };
        }
        (None, _) => return refused("Host is missing"),
        (Some(_), Some(_)) => return refused("Host is given twice"),
    };
    if request.target.authority.as_ref().is_some_and(|own| !own.eq_ignore_ascii_case(host)) {
        return refused("Host differs from the request target");
    }
    if !is_host(host) {
        return refused("Host is not a host name");
    }
    Ok(host.to_ascii_lowercase())
}
