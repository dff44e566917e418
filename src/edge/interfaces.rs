//! This machine's addresses, and word of their changes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::engine::flow::{Listener, Role};

/// How often the addresses are read where the system tells of no change.
const POLL: Duration = Duration::from_secs(1);
/// Of an IPv6 address in /proc/net/if_inet6 (linux/if_addr.h): another host has it, it may be used before that is known, it
/// is not known yet.
const FAILED: u32 = 0x08;
const OPTIMISTIC: u32 = 0x04;
const TENTATIVE: u32 = 0x40;

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

/// The addresses that this machine holds.
#[derive(Clone, Debug, Default)]
pub struct Held(Vec<IpAddr>);

impl Held {
    /// Those of now.
    ///
    /// # Errors
    /// What the system says.
    pub fn read() -> io::Result<Self> {
        let mut all = addresses()?;
        // Without IPv6 there is no such file.
        let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let pending: Vec<_> = table.lines().filter_map(not_yet_ours).collect();
        all.retain(|ip| !pending.contains(ip));
        Ok(Held(all))
    }

    /// Whether what is sent to that address comes here. All of 127.0.0.0/8 is every machine's own, whatever is listed.
    pub fn has(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.0.contains(&ip)
    }
}

/// The address of a line of /proc/net/if_inet6 (`address index prefix scope flags name`), unless it is in use: duplicate
/// address detection (RFC 4862 section 5.4) has not ended, or has found another host that has it.
fn not_yet_ours(line: &str) -> Option<IpAddr> {
    let mut fields = line.split_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    let waits = flags & TENTATIVE != 0 && flags & OPTIMISTIC == 0;
    (waits || flags & FAILED != 0).then_some(IpAddr::V6(Ipv6Addr::from_bits(address)))
}

/// Word of changes of this machine's addresses.
#[derive(Debug)]
pub struct Changes {
    /// Of rtnetlink(7); none if the system gives none: they are looked for once a second then.
    netlink: Option<AsyncFd<OwnedFd>>,
}

impl Changes {
    /// Listens from now on: whoever reads the addresses after this misses no change.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn listen() -> Self {
        let netlink =
            netlink().map_err(|cause| warn!(%cause, "changes of addresses are looked for once a second")).ok();
        Changes { netlink }
    }

    /// Waits until the addresses may have changed. What is told is not read, only that something is: the addresses
    /// themselves are the truth, and a message that was lost costs nothing.
    pub async fn next(&mut self) {
        let Some(netlink) = &self.netlink else { return tokio::time::sleep(POLL).await };
        let drained = async {
            loop {
                let mut ready = netlink.readable().await?;
                // One that would block is not ready after all.
                if let Ok(result) = ready.try_io(|socket| drain(socket.get_ref())) {
                    return result;
                }
            }
        };
        if let Err(cause) = drained.await {
            warn!(%cause, "changes of addresses are looked for once a second from now on");
            self.netlink = None;
        }
    }
}

#[expect(deprecated, reason = "its successor is unsafe, for descriptors that may be closed: this one is owned")]
fn netlink() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, (RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR) as u32))?;
    AsyncFd::new(socket)
}

/// Reads all that is there. `WouldBlock` before anything was read; what was read, or lost for want of room (ENOBUFS), is news.
fn drain(socket: &OwnedFd) -> io::Result<()> {
    let mut news = false;
    loop {
        match recv(socket.as_raw_fd(), &mut [0; 4096], MsgFlags::empty()) {
            Ok(_) | Err(Errno::ENOBUFS) => news = true,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if news => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The virtual addresses among those of the listeners that are here, each once.
pub fn held_vips(listeners: &[Listener], held: &[bool]) -> Vec<String> {
    let here = listeners.iter().zip(held).filter(|(listener, held)| listener.role == Role::Vip && **held);
    let here: BTreeSet<IpAddr> = here.map(|(listener, _)| listener.bind.ip()).collect();
    here.into_iter().map(|address| address.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them_once() {
        let all = addresses().expect("the system lists them");
        assert_eq!(all.iter().filter(|ip| **ip == IpAddr::from([127, 0, 0, 1])).count(), 1);
    }

    #[test]
    fn all_of_loopback_is_held_and_a_foreign_address_is_not() {
        let held = Held::read().expect("the system lists them");
        assert_eq!(
            ["127.0.0.1", "127.9.9.9", "192.0.2.7"].map(|ip| held.has(ip.parse().expect("an address"))),
            [true, true, false]
        );
    }

    #[test]
    fn an_ipv6_address_is_held_once_nobody_else_has_it() {
        let line = |flags: &str| not_yet_ours(&format!("20010db8000000000000000000000007 02 40 00 {flags}     eth0"));
        let pending = Some("2001:db8::7".parse().expect("an address"));
        assert_eq!(["80", "00", "c4", "44"].map(line), [None; 4]);
        assert_eq!(["c0", "40", "08", "c8"].map(line), [pending; 4]);
        assert_eq!(["", "x", "20010db8000000000000000000000007"].map(not_yet_ours), [None; 3]);
    }

    #[tokio::test]
    async fn changes_are_heard_of_by_netlink() {
        // Who makes none waits; that a change is told, the drills in network namespaces show.
        let mut changes = Changes::listen();
        assert!(changes.netlink.is_some());
        assert_eq!(
            changes.netlink.as_ref().map(|socket| drain(socket.get_ref()).map_err(|error| error.kind())),
            Some(Err(io::ErrorKind::WouldBlock))
        );
        let waits = tokio::time::timeout(Duration::from_millis(1), changes.next()).await;
        assert!(waits.is_err());
    }
}
