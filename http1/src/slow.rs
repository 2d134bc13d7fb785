//! Peers that are slow in the middle of a message: a few harm nobody, many of one address are an attack.
//!
//! Silence is not slowness: a client on a bad line, or a reader that pauses, is left alone. What slow peers
//! can hold is limited by their number, over all connections of a process and for each address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;

/// Slow peers may take one in so many of the connections that there may be.
const PART_OF_ALL: usize = 4;
/// The slow peers of one address, or of one /64 of IPv6, may take one in so many.
const PART_OF_ONE: usize = 16;

/// The slow peers of a process.
#[derive(Debug)]
pub struct SlowPeers {
    most: usize,
    most_of_one: usize,
    state: Mutex<SlowTable>,
}

#[derive(Debug, Default)]
struct SlowTable {
    slow: BTreeMap<u64, Slow>,
    /// The number of slow peers by address.
    of: BTreeMap<Option<Address>, usize>,
    count: u64,
}

#[derive(Debug)]
struct Slow {
    address: Option<Address>,
    /// The rate in bytes per second.
    rate: u64,
    tell: oneshot::Sender<()>,
}

/// The network that counts as one address: an IPv4 address, or the first half of an IPv6 address.
type Address = u64;

fn network(address: IpAddr) -> Address {
    /// The prefix for IPv4 addresses, in which no IPv6 address is allocated (`0:ffff::/32`).
    const V4: u64 = 0xffff << 32;
    match address.to_canonical() {
        IpAddr::V4(address) => V4 | u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

impl SlowPeers {
    /// Limits for a process with so many connections.
    pub fn new(connections: usize) -> Arc<Self> {
        let part = |of: usize| (connections / of).max(1);
        let (most, most_of_one) = (part(PART_OF_ALL), part(PART_OF_ONE));
        Arc::new(Self { most, most_of_one, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, SlowTable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlowTable {
    fn enter(&mut self, address: Option<Address>, rate: u64, tell: oneshot::Sender<()>) -> u64 {
        self.count += 1;
        self.slow.insert(self.count, Slow { address, rate, tell });
        *self.of.entry(address).or_default() += 1;
        self.count
    }

    fn remove(&mut self, id: u64) {
        let Some(slow) = self.slow.remove(&id) else { return };
        if let Some(count) = self.of.get_mut(&slow.address) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&slow.address);
            }
        }
        // A peer that left by itself no longer listens.
        let _ = slow.tell.send(());
    }

    /// Closes the slowest of an address, but for the newcomer.
    fn close_slowest(&mut self, address: Option<Address>, newcomer: u64) {
        let others =
            self.slow.iter().filter(|(id, own)| **id != newcomer && own.address == address);
        let slowest = others.min_by_key(|(_, own)| own.rate).map(|(id, _)| *id);
        if let Some(id) = slowest {
            self.remove(id);
        }
    }

    /// The address that has the most slow peers, without the newcomer's own connection.
    fn address_with_most(&self, newcomer: Option<Address>) -> Option<Address> {
        let others = |(address, count): &(&Option<Address>, &usize)| {
            **count - usize::from(**address == newcomer)
        };
        self.of.iter().max_by_key(others).and_then(|(address, _)| *address)
    }
}

/// The client of a connection.
#[derive(Debug, Clone)]
pub struct SlowPeer {
    peers: Arc<SlowPeers>,
    /// The address; none for a proxy, behind which there are many clients, which count only towards the sum.
    address: Option<Address>,
}

impl SlowPeer {
    /// A connection of this address; none for a proxy, behind which there are many clients.
    pub fn new(peers: &Arc<SlowPeers>, address: Option<IpAddr>) -> Self {
        Self { peers: Arc::clone(peers), address: address.map(network) }
    }

    /// Notes that the peer has become slow; others may be closed for it.
    pub fn enter(&self, rate: u64) -> Place {
        let (tell, told) = oneshot::channel();
        let mut state = self.peers.lock();
        let id = state.enter(self.address, rate, tell);
        let of_address = state.of.get(&self.address).copied().unwrap_or_default();
        if self.address.is_some() && of_address > self.peers.most_of_one {
            state.close_slowest(self.address, id);
        }
        if state.slow.len() > self.peers.most {
            let address = state.address_with_most(self.address);
            state.close_slowest(address, id);
        }
        drop(state);
        Place { peers: Arc::clone(&self.peers), id, told: Some(told) }
    }
}

/// A slow peer, until this is dropped.
#[derive(Debug)]
pub struct Place {
    peers: Arc<SlowPeers>,
    id: u64,
    /// The signal; none once it came.
    told: Option<oneshot::Receiver<()>>,
}

impl Place {
    /// Notes that the peer has progressed and is still slow.
    pub fn update(&self, rate: u64) {
        if let Some(slow) = self.peers.lock().slow.get_mut(&self.id) {
            slow.rate = rate;
        }
    }

    /// Ready when there are too many slow peers, and this one must go.
    pub fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(told) = &mut self.told {
            let _ = ready!(Pin::new(told).poll(context));
            self.told = None;
        }
        Poll::Ready(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.peers.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn is_closed(place: &mut Place) -> bool {
        place.poll_closed(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn peer(peers: &Arc<SlowPeers>, address: &str) -> SlowPeer {
        SlowPeer::new(peers, Some(address.parse().expect("an address")))
    }

    #[test]
    fn the_slowest_of_an_address_with_too_many_is_closed_and_never_the_newcomer() {
        let peers = SlowPeers::new(32);
        let one = peer(&peers, "2001:db8::1");
        let (mut slow, mut slower) = (one.enter(20), one.enter(10));
        let mut other = peer(&peers, "2001:db8:1::1").enter(0);
        let mut newcomer = peer(&peers, "2001:db8::2").enter(1);
        assert!(is_closed(&mut slower) && !is_closed(&mut slow));
        assert!(!is_closed(&mut newcomer) && !is_closed(&mut other));
        slow.update(0);
        let mut next = one.enter(5);
        assert!(is_closed(&mut slow) && !is_closed(&mut newcomer) && !is_closed(&mut next));
        drop((newcomer, next));
        assert_eq!(peers.lock().slow.len(), 1);
    }

    #[test]
    fn those_behind_a_proxy_count_with_all_others_only() {
        let peers = SlowPeers::new(64);
        let proxy = SlowPeer::new(&peers, None);
        let mut many: Vec<Place> = (0..16).map(|rate| proxy.enter(rate)).collect();
        assert!(!many.iter_mut().any(is_closed), "a quarter of all");
        let mut other = peer(&peers, "192.0.2.1").enter(0);
        assert!(is_closed(&mut many[0]) && !is_closed(&mut other));
        assert_eq!(many.iter_mut().map(is_closed).filter(|is_closed| *is_closed).count(), 1);
    }
}
