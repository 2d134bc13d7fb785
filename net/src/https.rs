//! The client for addresses outside of the pod: S3 and notifications.

use crate::boxed::{Boxed, ObjectBody};
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// How long connecting by TCP may take. S3 in the same region answers within 10 ms; this leaves room for one
/// lost SYN (1 s) within the 3 s that an enqueue has.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an idle connection is kept: less than any known server keeps it (Amazon S3 about 20 s, load
/// balancers 60 s). A request written into a connection that is just being closed has an unknown outcome.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many idle connections are kept for each host: as many as a burst needs, not as many as ever were open
/// at once.
const POOL_IDLE_MAX: usize = 32;

/// A client that speaks HTTP/1.1 over TLS or in the clear. It trusts Mozilla's roots, which are built in, so
/// that the image needs none.
pub type HttpsClient = Client<HttpsConnector<HttpConnector>, ObjectBody>;

/// Makes a client with its own connection pool. Callers limit how long a whole request takes.
pub fn client() -> HttpsClient {
    build(HttpConnector::new())
}

fn build<R>(mut tcp: HttpConnector<R>) -> Client<HttpsConnector<HttpConnector<R>>, ObjectBody>
where
    HttpConnector<R>: Service<Uri> + Clone + Send + Sync + 'static,
    HttpsConnector<HttpConnector<R>>: Connect + Clone + Send + Sync + 'static,
{
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    // Otherwise the TCP connector refuses https addresses.
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(POOL_IDLE_MAX)
        .build(connector)
}

/// A client that connects to public addresses only, whatever a name resolves to at the moment. It never
/// reaches the node's metadata service or neighbours in the cluster (SSRF).
pub struct Public {
    pub client: Client<HttpsConnector<HttpConnector<PublicResolver>>, ObjectBody>,
    may_be_private: bool,
}

pub fn public(may_be_private: bool) -> Public {
    let resolver = PublicResolver { names: GaiResolver::new(), may_be_private };
    Public { client: build(HttpConnector::new_with_resolver(resolver)), may_be_private }
}

impl Public {
    /// Refuses a host that is written as a private address: it is not resolved, so the resolver can't refuse
    /// it.
    ///
    /// # Errors
    /// When the host is a private address.
    pub fn check(&self, uri: &Uri) -> Result<(), NotPublic> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match host.parse::<IpAddr>() {
            Ok(ip) if !self.may_be_private && !is_public(ip) => Err(NotPublic(ip)),
            _ => Ok(()),
        }
    }
}

/// The error for an address that is not public, where only public ones may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPublic(pub IpAddr);

impl fmt::Display for NotPublic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} is not a public address; notify.private = true allows it", self.0)
    }
}

impl std::error::Error for NotPublic {}

/// Resolves names by the system's resolver and leaves out addresses that are not public.
#[derive(Clone)]
pub struct PublicResolver {
    names: GaiResolver,
    may_be_private: bool,
}

impl Service<Name> for PublicResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Boxed<'static, std::io::Result<Self::Response>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.names.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (found, may_be_private) = (self.names.call(name), self.may_be_private);
        Box::pin(async move {
            let found: Vec<SocketAddr> = found.await?.collect();
            let is_allowed = |address: &&SocketAddr| may_be_private || is_public(address.ip());
            let allowed: Vec<SocketAddr> = found.iter().filter(is_allowed).copied().collect();
            match (allowed.is_empty(), found.first()) {
                (true, Some(first)) => Err(std::io::Error::other(NotPublic(first.ip()))),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

/// Whether an address is public: not in one of the special-purpose registries (RFC 6890 and its successors).
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => {
            let segments = ip.segments();
            // NAT64 (RFC 6052) and 6to4 (RFC 3056) carry an IPv4 address.
            let carried = match segments {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                    Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
                }
                _ => None,
            };
            // Only 2000::/3 is allocated as global unicast; documentation and Teredo lie within it.
            let is_global = segments[0] & 0xe000 == 0x2000
                && segments[..2] != [0x2001, 0xdb8]
                && segments[..2] != [0x2001, 0];
            carried.map_or(is_global, is_public_v4)
        }
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_shared = a == 100 && b & 0xc0 == 64;
    let is_special =
        a == 0 || a >= 240 || (a == 192 && b == 0 && c == 0) || (a == 198 && b & 0xfe == 18);
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || is_shared
        || is_special)
}

/// The error with all of its causes, because hyper's own text says "client error (Connect)" only.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[test]
    fn addresses_that_lead_back_inside_are_not_public() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.1",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(inside.parse().expect(inside)), "{inside}");
        }
        for outside in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"]
        {
            assert!(is_public(outside.parse().expect(outside)), "{outside}");
        }
    }

    fn empty() -> ObjectBody {
        let body = http_body_util::Empty::new().map_err(|never| match never {});
        body.boxed_unsync()
    }

    #[tokio::test]
    async fn a_name_that_resolves_inside_is_not_called() {
        let mut resolver = public(false).client;
        let request = http::Request::get("http://localhost:1/").body(empty());
        let error = resolver.request(request.expect("a request")).await.expect_err("refused");
        assert!(chain(&error).contains("not a public address"), "{}", chain(&error));
        resolver = public(true).client;
        let request = http::Request::get("http://localhost:1/").body(empty());
        let error = resolver.request(request.expect("a request")).await.expect_err("nobody there");
        assert!(!chain(&error).contains("not a public address"), "{}", chain(&error));
        let literal = "http://169.254.169.254/latest".parse().expect("a URI");
        assert!(public(false).check(&literal).is_err());
        assert!(public(false).check(&"http://[::1]/".parse().expect("a URI")).is_err());
    }
}
