//! Networks: an address and how many of its bits count (RFC 4632 section 3.1, RFC 4291 section 2.3).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// A network: an address and how many of its bits count. Bits beyond the prefix are dropped: `10.1.2.3/8` is `10.0.0.0/8`.
/// IPv4 in IPv6's clothes (`::ffff:a.b.c.d`) is IPv4, here and in what is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// What makes a text no network.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadCidr {
    /// No address before the slash, or at all.
    #[error("{0:?} is no IP address: give one like 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32")]
    Address(String),
    /// No number behind the slash that the address has room for.
    #[error("/{bits} is no prefix length of {address}: give a number from 0 to {most}")]
    Bits {
        /// What stands behind the slash.
        bits: String,
        /// The address before it.
        address: IpAddr,
        /// The most bits of its family.
        most: u8,
    },
}

impl Cidr {
    /// The network of the first `bits` bits; none if the address has fewer.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        if bits > width(address) {
            return None;
        }
        let (address, bits) = match address.to_canonical() {
            mapped @ IpAddr::V4(_) if address.is_ipv6() && bits >= 96 => (mapped, bits - 96),
            IpAddr::V4(_) | IpAddr::V6(_) => (address, bits),
        };
        Some(Cidr { address: mask(address, bits), bits })
    }

    /// Whether the address is in the network; no IPv4 address is in an IPv6 network, nor the other way round.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4() && mask(ip, self.bits) == self.address
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    /// `address/bits`, or an address alone: all its bits count.
    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| BadCidr::Address(address.to_owned()))?;
        let most = width(address);
        let bits = match bits {
            None => Some(most),
            // `parse` would take a sign.
            Some(digits) => digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit())),
        };
        bits.and_then(|bits| Cidr::new(address, bits)).ok_or_else(|| {
            let (_, bits) = text.split_once('/').unwrap_or_default();
            BadCidr::Bits { bits: bits.to_owned(), address, most }
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address without the bits beyond the prefix.
fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, ip: &str) -> bool {
        network.parse::<Cidr>().expect("a network").contains(ip.parse().expect("an address"))
    }

    #[test]
    fn the_bits_of_the_prefix_count_and_no_others() {
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.1.2.3/8", "10.9.9.9"));
        assert!(contains("192.0.2.1", "192.0.2.1") && !contains("192.0.2.1", "192.0.2.2"));
        assert!(contains("192.0.2.0/31", "192.0.2.1") && !contains("192.0.2.0/31", "192.0.2.2"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1") && !contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("::1", "::1") && !contains("::1", "::2"));
    }

    #[test]
    fn prefix_zero_is_all_of_its_family() {
        assert!(contains("0.0.0.0/0", "255.1.2.3") && contains("::/0", "2001:db8::1"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1") && !contains("::/0", "10.0.0.1"));
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        assert!(contains("10.0.0.0/8", "::ffff:10.1.1.1") && contains("0.0.0.0/0", "::ffff:10.1.1.1"));
        assert!(contains("::ffff:10.0.0.0/104", "10.1.1.1") && !contains("::ffff:10.0.0.0/104", "11.1.1.1"));
    }

    #[test]
    fn a_fault_is_named_with_its_remedy() {
        for (text, says) in [
            ("", "\"\" is no IP address: give one like 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32"),
            ("10.0.0/8", "\"10.0.0\" is no IP address: give one like 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32"),
            ("10.0.0.0/33", "/33 is no prefix length of 10.0.0.0: give a number from 0 to 32"),
            ("10.0.0.0/", "/ is no prefix length of 10.0.0.0: give a number from 0 to 32"),
            ("10.0.0.0/+8", "/+8 is no prefix length of 10.0.0.0: give a number from 0 to 32"),
            ("10.0.0.0/255.0.0.0", "/255.0.0.0 is no prefix length of 10.0.0.0: give a number from 0 to 32"),
            ("::/129", "/129 is no prefix length of ::: give a number from 0 to 128"),
        ] {
            assert_eq!(text.parse::<Cidr>().map_err(|fault| fault.to_string()), Err(says.to_owned()));
        }
    }

    #[test]
    fn a_network_is_shown_as_it_counts() {
        assert_eq!("10.1.2.3/8".parse::<Cidr>().expect("a network").to_string(), "10.0.0.0/8");
    }
}
