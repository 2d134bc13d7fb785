//! Connects to the first address of an upstream that answers (RFC 8305, "Happy Eyeballs").

use super::server::Upstream;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

/// The delay before the next attempt, while the previous one has neither succeeded nor failed (RFC
/// 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The time after which TCP keep-alive probes a silent upstream: one whose machine is gone sends
/// nothing, not even a reset.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(60);

/// Tries all addresses of the upstream's name, the last good one first.
///
/// # Errors
/// When the name has no address, or none of them takes connections.
pub async fn dial(upstream: &Upstream, good: Option<IpAddr>) -> io::Result<TcpStream> {
    let port = upstream.authority.port_u16().unwrap_or(upstream.protocol.port());
    let stream = first(ordered(resolve(host(upstream), port).await?, good)).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(stream)
}

/// The host without the brackets in which a URL writes an IPv6 address.
pub fn host(upstream: &Upstream) -> &str {
    upstream.authority.host().trim_start_matches('[').trim_end_matches(']')
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    // Hosts files often list only one of the two addresses, and applications listen on either.
    if host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
        let both: [IpAddr; 2] = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        return Ok(both.map(|address| (address, port).into()).to_vec());
    }
    Ok(lookup_host((host, port)).await?.collect())
}

/// Orders addresses: the last good one first if it still exists, then alternating families,
/// beginning with the one that the system prefers.
fn ordered(addresses: Vec<SocketAddr>, good: Option<IpAddr>) -> Vec<SocketAddr> {
    let Some(preferred) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (mut one, mut other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == preferred);
    one.reverse();
    other.reverse();
    let mut ordered = Vec::with_capacity(one.len() + other.len());
    while !(one.is_empty() && other.is_empty()) {
        ordered.extend(one.pop());
        ordered.extend(other.pop());
    }
    // The sort is stable, so the others keep their order.
    ordered.sort_by_key(|address| Some(address.ip()) != good);
    ordered
}

/// The first connection that succeeds. The next attempt begins when the previous one fails, or
/// after a delay.
async fn first(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut left = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        attempts.extend(left.next().map(TcpStream::connect));
        tokio::select! {
            attempt = attempts.next() => match attempt {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = sleep(ATTEMPT_DELAY), if left.len() > 0 => {}
        }
    }
}

/// The address of the peer.
pub(super) fn address(stream: &TcpStream) -> Option<IpAddr> {
    stream.peer_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 80)).collect()
    }

    #[test]
    fn families_take_turns_and_the_last_good_address_comes_first() {
        let found = addresses(&["::1", "::2", "::3", "10.0.0.1", "10.0.0.2"]);
        let turns = addresses(&["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]);
        assert_eq!(ordered(found.clone(), None), turns);
        let good = addresses(&["10.0.0.2", "::1", "10.0.0.1", "::2", "::3"]);
        assert_eq!(ordered(found.clone(), Some(good[0].ip())), good);
        let other = addresses(&["10.9.9.9"])[0].ip();
        assert_eq!(ordered(found, Some(other)), turns, "it is none of the name's any more");
        assert_eq!(ordered(Vec::new(), Some(other)), []);
    }

    #[tokio::test]
    async fn localhost_is_both_families() {
        let both = resolve("LocalHost", 80).await.expect("no look-up");
        assert_eq!(both, addresses(&["::1", "127.0.0.1"]));
    }

    /// The first address has a port where nobody listens; the second has a listener.
    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next_at_once() {
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let refusing = closed.local_addr().expect("bound");
        drop(closed);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let open = listener.local_addr().expect("bound");
        let stream = first(vec![refusing, refusing, open]).await.expect("the last one listens");
        assert_eq!(stream.peer_addr().expect("connected"), open);
        let refused = first(vec![refusing, refusing]).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first(Vec::new()).await.expect_err("none").kind(), io::ErrorKind::NotFound);
    }

    /// A full backlog drops connections, as a machine that is gone does.
    #[tokio::test]
    async fn an_address_that_is_silent_does_not_hold_up_the_next() {
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        silent.bind(&any.into()).expect("a port");
        silent.listen(0).expect("listens");
        let address = silent.local_addr().expect("bound").as_socket().expect("IP");
        let _fill = std::net::TcpStream::connect(address).expect("the one place");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let open = listener.local_addr().expect("bound");
        let stream = first(vec![address, open]).await.expect("the other one listens");
        assert_eq!(stream.peer_addr().expect("connected"), open);
    }
}
