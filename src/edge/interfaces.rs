//! This machine's addresses.

use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

/// Every address that a socket can be bound to without naming an interface, loopback included, each once.
///
/// # Errors
/// What the system says.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut all = Vec::new();
    for interface in getifaddrs()? {
        let Some(address) = interface.address else { continue };
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        // A link-local address means nothing without its interface.
        let v6 = address
            .as_sockaddr_in6()
            .filter(|address| !address.ip().is_unicast_link_local())
            .map(|address| IpAddr::V6(address.ip()));
        all.extend(v4.or(v6).filter(|ip| !all.contains(ip)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them_once() {
        let all = addresses().expect("the system lists them");
        assert_eq!(all.iter().filter(|ip| **ip == IpAddr::from([127, 0, 0, 1])).count(), 1);
    }
}
