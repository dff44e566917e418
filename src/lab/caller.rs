//! An MRCPv2 caller at a rate, over UDP or one TCP connection: what a farm of UniMRCP clients shows a proxy, with the outcome of every call.

pub(super) mod machine;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use self::machine::Calls;
use super::report::{Live, Report};
use super::wire::{Machine, Wire};
use crate::engine::flow::Transport;

/// How OPTIONS and UPDATE inside a call are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pings {
    /// By 200.
    #[default]
    Ok,
    /// By 481, as if the call were over.
    Unknown,
    /// Not at all, as by a UniMRCP client.
    Never,
}

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
    /// All calls end within the second that begins so long after the start, and not after `hold`.
    pub hang_up_at: Option<Duration>,
    /// What requests inside a call get that ask whether it lives.
    pub pings: Pings,
    /// Asks for the resources by OPTIONS, with a Call-ID of its own, before each INVITE.
    pub discover: bool,
    /// How long an INVITE waits for its final answer.
    pub timeout: Duration,
    /// Gives an INVITE or BYE up at the first ICMP error from the proxy, as UniMRCP's client does. By UDP, and with a proxy
    /// that all requests go to.
    pub give_up_on_icmp: bool,
    /// Notes what happened when.
    pub timeline: bool,
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
            hang_up_at: None,
            pings: Pings::Ok,
            discover: false,
            timeout: Duration::from_secs(32),
            give_up_on_icmp: false,
            timeline: false,
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
    if config.give_up_on_icmp {
        wire.connect(config.proxy).await?;
    }
    let began = SystemTime::now();
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
            let mut report = calls.finish(Instant::now());
            if let Some(timeline) = &mut report.timeline {
                timeline.began_ms = unix_ms(began);
            }
            return Ok(report);
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

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::lab::{Behaviour, MrcpServer};

    /// A test that waits longer than this has failed.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    async fn server(ip: IpAddr, behaviour: Behaviour) -> MrcpServer {
        MrcpServer::start(SocketAddr::new(ip, 0), behaviour).await.expect("a server")
    }

    /// Calls with a hold of 20 ms.
    fn calls(server: &MrcpServer, rate: f64, calls: u64) -> CallerConfig {
        let (proxy, hold) = (server.address(), Duration::from_millis(20));
        CallerConfig { proxy, bind: proxy.ip(), rate, hold, calls: Some(calls), ..CallerConfig::default() }
    }

    async fn report(config: CallerConfig, caller: &Caller) -> Report {
        tokio::time::timeout(PATIENCE, run(config, caller)).await.expect("an end in time").expect("a socket")
    }

    #[test]
    fn a_hundred_calls_over_loopback_are_all_answered_and_ended() {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
            runtime().block_on(async {
                let server = server(ip, Behaviour::default()).await;
                let caller = Caller::new();
                let report = report(CallerConfig { discover: true, ..calls(&server, 500.0, 100) }, &caller).await;
                assert_eq!((report.calls, report.answered, report.failed, report.lost), (100, 100, 0, 0));
                assert_eq!(report.destinations.get(&format!("sip:{}", server.address())), Some(&100));
                let counts =
                    server.watch().wait_for(|counts| counts.byes == 100).await.map(|counts| *counts).expect("counts");
                assert_eq!((counts.invites, counts.acks, counts.options, counts.sessions), (100, 100, 100, 0));
                assert!(report.p50_ms > 0.0 && report.p99_ms >= report.p50_ms, "{report}");
                let live = caller.live();
                assert_eq!((live.running, live.report.answered), (0, 100));
            });
        }
    }

    #[test]
    fn behaviour_changes_while_calls_run() {
        runtime().block_on(async {
            let server = server(Ipv4Addr::LOCALHOST.into(), Behaviour { busy: true, ..Behaviour::default() }).await;
            let refused = report(calls(&server, 1000.0, 10), &Caller::new()).await;
            assert_eq!((refused.answered, refused.outcomes.get(&486)), (0, Some(&10)));
            server.set(Behaviour { hang_up_after: Some(Duration::ZERO), ..Behaviour::default() });
            let hold = Duration::from_secs(3600);
            let ended = report(CallerConfig { hold, ..calls(&server, 1000.0, 10) }, &Caller::new()).await;
            assert_eq!((ended.answered, ended.lost), (10, 0));
            let counts =
                server.watch().wait_for(|counts| counts.hung_up == 10).await.map(|counts| *counts).expect("counts");
            assert_eq!((counts.sessions, counts.byes, counts.unheard), (0, 0, 0));
        });
    }

    #[test]
    fn a_stopped_caller_lets_its_calls_finish() {
        runtime().block_on(async {
            let server = server(Ipv4Addr::LOCALHOST.into(), Behaviour::default()).await;
            let (caller, config) = (Caller::new(), CallerConfig { calls: None, ..calls(&server, 200.0, 0) });
            let mut counts = server.watch();
            let stop = async {
                counts.wait_for(|counts| counts.invites >= 5).await.expect("a running server");
                caller.stop();
            };
            let (report, ()) = tokio::join!(report(config, &caller), stop);
            assert!((5..100).contains(&report.calls), "{report}");
            assert_eq!((report.answered, report.lost, server.counts().sessions), (report.calls, 0, 0));
        });
    }

    #[test]
    fn icmp_ends_the_bye_of_one_who_believes_it_and_of_nobody_else() {
        runtime().block_on(async {
            let server = server(Ipv4Addr::LOCALHOST.into(), Behaviour::default()).await;
            let hold = Duration::from_secs(2);
            let config = CallerConfig { hold, give_up_on_icmp: true, timeline: true, ..calls(&server, 1000.0, 5) };
            let caller = Caller::new();
            let mut live = caller.watch();
            let stop = async {
                live.wait_for(|live| live.report.answered == 5).await.expect("a caller");
                server.stop().await;
            };
            let (report, ()) = tokio::join!(report(config, &caller), stop);
            assert_eq!((report.answered, report.lost, report.refused), (5, 5, 5), "{report}");
            assert_eq!((report.byes.get(&0), report.byes.len()), (Some(&5), 1));
            let timeline = report.timeline.expect("it was asked for");
            assert_eq!(timeline.answered.values().map(Vec::len).sum::<usize>(), 5);
            let lost: Vec<_> = timeline.lost.into_values().flatten().collect();
            assert!(lost.len() == 5 && lost.iter().all(|at| *at >= 2000), "{lost:?}");
        });
    }

    #[test]
    fn the_live_picture_shows_calls_that_run() {
        runtime().block_on(async {
            let server = server(Ipv4Addr::LOCALHOST.into(), Behaviour::default()).await;
            let caller = Caller::new();
            let config = CallerConfig { hold: Duration::from_secs(1), ..calls(&server, 1000.0, 5) };
            let mut live = caller.watch();
            let look =
                async { live.wait_for(|live| live.running == 5).await.map(|live| live.clone()).expect("a picture") };
            let (report, live) = tokio::join!(report(config, &caller), look);
            assert_eq!((live.report.answered, report.answered), (5, 5));
        });
    }
}
