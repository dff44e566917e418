//! Where the gossip begins, and where it goes again when nobody is there.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::counters::Counters;
use crate::edge::resolve::{Question, Resolver};
use crate::edge::retry::Retry;
use crate::engine::flow::Transport;

/// The pauses between calls on a seed that is not there, first and longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often a name is looked up whose node is there: its addresses may become more.
const AGAIN: Duration = Duration::from_secs(30);

/// A node to begin with: address and port, or name and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seed {
    /// A name, or an address without brackets.
    pub host: String,
    /// Its gossip's port.
    pub port: u16,
}

impl Seed {
    /// Reads `10.0.0.2:7946`, `[2001:db8::2]:7946` or `b.example.com:7946`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let remedy = || "give address:port or name:port, as 10.0.0.2:7946 or b.example.com:7946".to_owned();
        if let Ok(address) = text.parse::<SocketAddr>() {
            let fits = address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast();
            return if fits { Ok(Seed::from(address)) } else { Err(remedy()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(remedy)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(remedy)?;
        let is_label = |label: &str| {
            let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            (1..=63).contains(&label.len()) && plain
        };
        let labels = host.strip_suffix('.').unwrap_or(host);
        let named = labels.split('.').all(is_label);
        // What ends like an IPv4 address is none, or it would have been read as one.
        let numeric = labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if named && !numeric { Ok(Seed { host: host.to_owned(), port }) } else { Err(remedy()) }
    }

    /// The address, if it is written as one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl From<SocketAddr> for Seed {
    fn from(address: SocketAddr) -> Self {
        Seed { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => address.fmt(f),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Calls on one seed for ever: often while none of its addresses is there, and rarely else.
pub(super) async fn call(
    seed: Seed,
    own: SocketAddr,
    resolver: Arc<Resolver>,
    counters: Arc<Counters>,
    mut live: watch::Receiver<HashSet<SocketAddr>>,
    calls: mpsc::Sender<SocketAddr>,
) {
    let question = Question { host: seed.host.clone(), port: Some(seed.port), transport: Transport::Udp };
    let mut was_told = false;
    let mut retry = Retry::new(RETRY.0, RETRY.1);
    loop {
        let addresses: Vec<_> = match resolver.resolve(&question).await {
            Ok(answer) => {
                was_told = false;
                // One list of seeds may serve all nodes.
                answer.addresses.iter().map(|one| one.address).filter(|one| *one != own).collect()
            }
            Err(error) => {
                counters.seed_faults.add_one();
                if !was_told {
                    warn!(seed = %seed, cause = %error, "gossip seed not found");
                }
                was_told = true;
                Vec::new()
            }
        };
        let missing: Vec<_> = addresses.iter().copied().filter(|one| !live.borrow_and_update().contains(one)).collect();
        for address in &missing {
            if calls.send(*address).await.is_err() {
                return;
            }
        }
        if missing.len() < addresses.len() {
            // One is there, and knows the others: until it is gone.
            retry = Retry::new(RETRY.0, RETRY.1);
            let gone = live.wait_for(|live| !addresses.iter().any(|one| live.contains(one)));
            if let Ok(Err(_)) = tokio::time::timeout(AGAIN, gone).await {
                return;
            }
        } else {
            tokio::time::sleep(retry.next_pause()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_addresses_or_names_with_a_port() {
        for text in ["10.0.0.2:7946", "[2001:db8::2]:7946", "b.example.com:1", "b:65535", "b.example.com.:1"] {
            assert_eq!(Seed::parse(text).map(|seed| seed.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(Seed::parse("[::1]:1").expect("an address").host, "::1");
        for text in [
            "",
            ":1",
            "b",
            "b:",
            "b:0",
            "b:65536",
            "10.0.0.2",
            "10.0.0.256:1",
            "::1:1",
            "0.0.0.0:1",
            "a b:1",
            "a..b:1",
            "224.0.0.1:1",
        ] {
            assert!(Seed::parse(text).is_err(), "{text}");
        }
    }
}
