//! An MRCPv2 caller at a rate, over UDP or one TCP connection: what a farm of UniMRCP clients shows a proxy, with the outcome of every call.

pub(super) mod machine;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::machine::Calls;
use super::report::{Live, Report};
use super::wire::{Machine, Wire};
use crate::engine::flow::Transport;

/// What is called, how often and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct CallerConfig {
    /// Where every INVITE goes: the proxy, or a server itself.
    pub proxy: SocketAddr,
    /// How to talk to it: UDP, or TCP on one connection for all calls.
    pub transport: Transport,
    /// Our own address, a concrete one; the port is any.
    pub bind: IpAddr,
    /// User-Agent of INVITE and of the OPTIONS before it.
    pub user_agent: String,
    /// Calls a second; above 0.
    pub rate: f64,
    /// How many calls; none is no limit.
    pub calls: Option<u64>,
    /// How long calls are begun; none is no limit.
    pub duration: Option<Duration>,
    /// From the answer to our BYE.
    pub hold: Duration,
    /// Asks for the resources by OPTIONS, with a Call-ID of its own, before each INVITE.
    pub discover: bool,
    /// How long an INVITE waits for its final answer.
    pub timeout: Duration,
}

impl Default for CallerConfig {
    /// Ten calls a second of one second each to 127.0.0.1:8060, without an end.
    fn default() -> Self {
        CallerConfig {
            proxy: SocketAddr::from((Ipv4Addr::LOCALHOST, 8060)),
            transport: Transport::Udp,
            bind: Ipv4Addr::LOCALHOST.into(),
            user_agent: "OPENSIPS_TTS_MRCP_CLIENT".to_owned(),
            rate: 10.0,
            calls: None,
            duration: None,
            hold: Duration::from_secs(1),
            discover: false,
            timeout: Duration::from_secs(32),
        }
    }
}

/// Steers a running caller and shows what it does. Clones are handles to the same caller.
#[derive(Clone, Debug)]
pub struct Caller {
    stop: watch::Sender<bool>,
    live: watch::Sender<Live>,
}

impl Default for Caller {
    fn default() -> Self {
        Caller::new()
    }
}

impl Caller {
    /// A handle to give to [`run`].
    pub fn new() -> Self {
        Caller { stop: watch::Sender::new(false), live: watch::Sender::new(Live::default()) }
    }

    /// Begins no more calls; those that are running come to their end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// How it goes, renewed ten times a second.
    pub fn live(&self) -> Live {
        self.live.borrow().clone()
    }

    /// As [`Caller::live`], to be watched.
    pub fn watch(&self) -> watch::Receiver<Live> {
        self.live.subscribe()
    }
}

/// How often the live picture is renewed.
const PICTURE: Duration = Duration::from_millis(100);

/// Calls until the configured number or time is reached or `caller` is told to stop, and the last call is over. Dropping
/// the future leaves the calls as they are.
///
/// # Errors
/// What the system says when the address can't be bound.
pub async fn run(config: CallerConfig, caller: &Caller) -> io::Result<Report> {
    let mut wire = Wire::bind(config.transport, SocketAddr::new(config.bind, 0)).await?;
    let mut calls = Calls::new(config, wire.address()?, fastrand::u64(..), Instant::now());
    let mut stop = caller.stop.subscribe();
    let mut picture = Instant::now() + PICTURE;
    loop {
        if *stop.borrow_and_update() {
            calls.stop();
        }
        wire.turn(&mut calls).await;
        if calls.is_over() {
            caller.live.send_replace(calls.live());
            return Ok(calls.finish());
        }
        if Instant::now() >= picture {
            caller.live.send_replace(calls.live());
            picture = Instant::now() + PICTURE;
        }
        let next = calls.next().map_or(picture, |next| next.min(picture));
        tokio::select! {
            () = wire.wait(Some(next)) => {}
            // The handle that is borrowed holds a sender, so this is never an error.
            _ = stop.changed() => {}
        }
    }
}
