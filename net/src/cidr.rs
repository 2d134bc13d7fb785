//! Blocks of addresses.

use std::net::IpAddr;

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: u128,
    bits: u32,
}

impl Cidr {
    /// Parses a block such as `10.0.0.0/8`, `::1` or `fd00::/8`.
    ///
    /// # Errors
    /// A sentence that names the text, if it is no block.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an address block: write 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (prefix, max) = if address.is_ipv4() { (96, 32) } else { (0, 128) };
        let bits = bits.unwrap_or(max);
        if bits > max {
            return Err(wrong());
        }
        Ok(Self { address: mapped(address), bits: bits + prefix })
    }

    pub fn contains(self, address: IpAddr) -> bool {
        let mask = if self.bits == 0 { 0 } else { u128::MAX << (128 - self.bits) };
        (mapped(address) & mask) == (self.address & mask)
    }
}

/// Maps IPv4 to IPv4-mapped IPv6, the form in which a dual-stack listener sees its peers.
fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_contains_its_addresses_in_either_notation() {
        let block = Cidr::parse("10.1.0.0/16").expect("a block");
        assert!(block.contains("10.1.2.3".parse().expect("an address")));
        assert!(block.contains("::ffff:10.1.2.3".parse().expect("an address")));
        assert!(!block.contains("10.2.0.1".parse().expect("an address")));
        assert!(Cidr::parse("10.0.0.0/33").is_err());
        assert!(
            Cidr::parse("0.0.0.0/0")
                .expect("a block")
                .contains("1.2.3.4".parse().expect("an address"))
        );
    }
}
