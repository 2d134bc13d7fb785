//! Pods' networks: a Linux network namespace for each, all on one bridge, as on a node.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// A node's bridge. Needs root, and iproute2's `ip`.
pub struct Network {
    /// Of the block of addresses, and in the names of everything, so that two tests do not meet.
    id: u16,
    /// A block of 198.18.0.0/15, which is kept for tests (RFC 2544).
    block: [u8; 3],
    pods: AtomicU16,
}

/// A pod's network: an address of its own, and a loopback that nobody else has.
pub struct Namespace {
    name: String,
    /// The node's end of the cable.
    cable: String,
    pub address: IpAddr,
}

/// Blocks of 256 addresses in 198.18.0.0/15.
const BLOCKS: u16 = 512;

fn ip(arguments: &str) {
    if let Err(said) = try_ip(arguments) {
        panic!("ip {arguments}: {said} (network namespaces need root and CAP_NET_ADMIN)");
    }
}

fn try_ip(arguments: &str) -> Result<(), String> {
    let output =
        Command::new(crate::system("ip", "SPILLWAY_IP")).args(arguments.split(' ')).output();
    let output = output.expect("iproute2 is installed: apt install iproute2");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

impl Network {
    /// # Panics
    /// Where namespaces can't be made; with the reason.
    #[expect(clippy::new_without_default, reason = "it makes something outside of the program")]
    pub fn new() -> Self {
        // The first whose bridge nobody has: the tests of a program run at the same time, too.
        // The bridge has an address of its own: else it changes with the pods, and they go on to
        // use the old one.
        let free = (0..BLOCKS).find(|id| {
            let added = try_ip(&format!("link add spw{id} address 02:00:00:00:00:01 type bridge"));
            match added {
                Ok(()) => true,
                Err(said) if said.contains("File exists") => false,
                Err(said) => {
                    panic!("{said} (network namespaces need root and CAP_NET_ADMIN)")
                }
            }
        });
        let id = free.expect("fewer than 512 tests with networks at a time");
        let [high, low] = id.to_be_bytes();
        let network = Self { id, block: [198, 18 + high, low], pods: AtomicU16::new(1) };
        let (bridge, [a, b, c]) = (network.bridge(), network.block);
        ip(&format!("addr add {a}.{b}.{c}.1/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        network
    }

    fn bridge(&self) -> String {
        format!("spw{}", self.id)
    }

    /// A network for one more pod; 253 at most.
    pub fn pod(&self) -> Namespace {
        let number = self.pods.fetch_add(1, Ordering::Relaxed) + 1;
        let host = u8::try_from(number).expect("addresses for 253 pods");
        let (name, cable) =
            (format!("spw{}-{number}", self.id), format!("spw{}.{number}", self.id));
        let [a, b, c] = self.block;
        let address = Ipv4Addr::new(a, b, c, host);
        ip(&format!("netns add {name}"));
        let namespace = Namespace { name, cable, address: address.into() };
        let (name, cable) = (&namespace.name, &namespace.cable);
        ip(&format!("link add {cable} type veth peer name eth0 netns {name}"));
        ip(&format!("link set {cable} master {} up", self.bridge()));
        ip(&format!("-n {name} addr add {address}/24 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} link set lo up"));
        namespace
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.bridge()));
    }
}

impl Namespace {
    /// A program that runs in the pod's network; killed with its handle.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(crate::system("ip", "SPILLWAY_IP"));
        command.args(["netns", "exec", &self.name]).arg(program).kill_on_drop(true);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // First, as the kernel empties a namespace only later, when another may want the name.
        ip(&format!("link del {}", self.cable));
        ip(&format!("netns del {}", self.name));
    }
}
