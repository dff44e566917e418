//! The laboratory: a stand-in MRCPv2 server and a caller at a rate, for the demo, drills and tests. Each is a machine that
//! takes datagrams and a clock and gives datagrams; `wire` joins it to a socket.

pub mod caller;
pub mod mrcp_server;
pub mod report;
pub mod timeline;

mod leg;
mod sdp;
mod timers;
mod wire;

pub use caller::{Caller, CallerConfig, Pings};
pub use mrcp_server::{Behaviour, Counts, MrcpServer};
pub use report::{Live, Report};
pub use timeline::Timeline;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use super::caller::CallerConfig;
    use super::caller::machine::Calls;
    use super::mrcp_server::machine::Server;
    use super::wire::{Machine, Outbox};
    use super::{Behaviour, Report};
    use crate::engine::flow::Transport;
    use crate::engine::sip::{Message, Start};

    const SECOND: Duration = Duration::from_secs(1);

    /// What happened on the way: when, from whom, and the method or status with the CSeq's method.
    type Seen = (f64, &'static str, String);

    /// A caller and a server with a wire without delay and a clock of its own. `lose` says what gets lost.
    struct Net {
        calls: Calls,
        server: Server,
        start: Instant,
        now: Instant,
        seen: Vec<Seen>,
        lose: fn(&Seen) -> bool,
    }

    fn caller() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 5072))
    }

    fn server() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7010))
    }

    fn one_call() -> CallerConfig {
        CallerConfig { proxy: server(), calls: Some(1), hold: SECOND * 2, ..CallerConfig::default() }
    }

    impl Net {
        fn new(config: CallerConfig, behaviour: Behaviour) -> Self {
            let now = Instant::now();
            let mut server = Server::new(Transport::Udp, server(), 1);
            server.behaviour = behaviour;
            Net {
                calls: Calls::new(config, caller(), 2, now),
                server,
                start: now,
                now,
                seen: Vec::new(),
                lose: |_| false,
            }
        }

        fn deliver(&mut self, out: Outbox, from: &'static str) {
            let mut way: VecDeque<(SocketAddr, Bytes, &'static str)> =
                out.into_iter().map(|(to, bytes)| (to, bytes, from)).collect();
            while let Some((to, bytes, from)) = way.pop_front() {
                let message = Message::parse(&bytes).expect("SIP");
                assert_eq!(message.fault(), None);
                let method = String::from_utf8_lossy(message.method().as_bytes()).into_owned();
                let what = match message.start() {
                    Start::Request { .. } => method,
                    Start::Response { status, .. } => format!("{status} {method}"),
                };
                let seen = ((self.now - self.start).as_secs_f64(), from, what);
                let lost = (self.lose)(&seen);
                self.seen.push(seen);
                if lost {
                    continue;
                }
                let mut out = Outbox::new();
                let next = if to == server() {
                    self.server.receive(&bytes, caller(), self.now, &mut out);
                    "server"
                } else {
                    assert_eq!(to, caller());
                    self.calls.receive(&bytes, server(), self.now, &mut out);
                    "caller"
                };
                way.extend(out.into_iter().map(|(to, bytes)| (to, bytes, next)));
            }
        }

        /// Lets time pass until `until` from the start.
        fn run(&mut self, until: Duration) {
            let end = self.start + until;
            while let Some(next) = self.calls.next().into_iter().chain(self.server.next()).min().filter(|at| *at <= end)
            {
                self.now = self.now.max(next);
                let mut out = Outbox::new();
                self.calls.wake(self.now, &mut out);
                self.deliver(out, "caller");
                let mut out = Outbox::new();
                self.server.wake(self.now, &mut out);
                self.deliver(out, "server");
            }
            self.now = end;
        }

        fn finish(self) -> Report {
            assert!(self.calls.is_over(), "{:?}", self.seen);
            self.calls.finish(self.now)
        }

        /// When the caller sent such a thing.
        fn times(&self, from: &str, what: &str) -> Vec<f64> {
            self.seen.iter().filter(|(_, by, seen)| *by == from && seen == what).map(|(at, ..)| *at).collect()
        }
    }

    fn lines(net: &Net) -> Vec<String> {
        net.seen.iter().map(|(at, from, what)| format!("{at} {from} {what}")).collect()
    }

    #[test]
    fn a_call_runs_as_a_real_client_runs_it() {
        let mut net = Net::new(CallerConfig { discover: true, ..one_call() }, Behaviour::default());
        net.run(SECOND * 3);
        assert_eq!(
            lines(&net),
            [
                "0 caller OPTIONS",
                "0 server 200 OPTIONS",
                "0 caller INVITE",
                "0 server 100 INVITE",
                "0 server 200 INVITE",
                "0 caller ACK",
                "2 caller BYE",
                "2 server 200 BYE",
            ]
        );
        assert_eq!((net.server.counts().sessions, net.server.counts().acks), (0, 1));
        let report = net.finish();
        assert_eq!((report.calls, report.answered, report.failed, report.lost), (1, 1, 0, 0));
        assert_eq!(report.destinations.into_iter().collect::<Vec<_>>(), [("sip:127.0.0.1:7010".to_owned(), 1)]);
        assert_eq!(report.outcomes.into_iter().collect::<Vec<_>>(), [(200, 1)]);
    }

    #[test]
    fn an_invite_is_resent_until_a_provisional_and_given_up_after_64_t1() {
        let mut net = Net::new(one_call(), Behaviour { silent: true, ..Behaviour::default() });
        net.run(SECOND * 40);
        assert_eq!(net.times("caller", "INVITE"), [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]);
        assert_eq!(net.seen.len(), 7);
        let report = net.finish();
        assert_eq!((report.failed, report.outcomes.get(&0)), (1, Some(&1)));

        let mut net = Net::new(one_call(), Behaviour { delay: SECOND * 5, ..Behaviour::default() });
        net.run(SECOND * 8);
        assert_eq!((net.times("caller", "INVITE"), net.times("caller", "BYE")), (vec![0.0], vec![7.0]));
        assert_eq!((net.calls.live().report.p50_ms, net.finish().lost), (5000.0, 0));
    }

    #[test]
    fn a_lost_100_and_200_are_mended_by_resends() {
        let mut net = Net::new(one_call(), Behaviour { delay: SECOND, ..Behaviour::default() });
        net.lose = |(at, from, _)| *from == "server" && *at < 1.2;
        net.run(SECOND * 5);
        assert_eq!(net.times("caller", "INVITE"), [0.0, 0.5, 1.5]);
        assert_eq!(net.times("server", "200 INVITE"), [1.0, 1.5]);
        assert_eq!((net.server.counts().invites, net.server.counts().sessions, net.finish().lost), (1, 0, 0));
    }

    #[test]
    fn each_repeated_2xx_gets_its_ack() {
        let mut net = Net::new(CallerConfig { hold: SECOND * 10, ..one_call() }, Behaviour::default());
        net.lose = |(at, _, what)| what == "ACK" && *at < 3.0;
        net.run(SECOND * 20);
        assert_eq!(net.times("server", "200 INVITE"), [0.0, 0.5, 1.5, 3.5]);
        assert_eq!(net.times("caller", "ACK"), [0.0, 0.5, 1.5, 3.5]);
        assert_eq!((net.server.counts().acks, net.finish().lost), (1, 0));
    }

    #[test]
    fn refusals_are_acknowledged_and_counted_by_status() {
        for (status, behaviour) in [
            (486, Behaviour { busy: true, ..Behaviour::default() }),
            (503, Behaviour { offline: true, ..Behaviour::default() }),
        ] {
            let mut net = Net::new(one_call(), behaviour);
            net.lose = |(at, _, what)| what == "ACK" && *at < 0.1;
            net.run(SECOND * 40);
            assert_eq!(net.times("caller", "ACK"), [0.0, 0.5], "the second answers the resent {status}");
            let report = net.finish();
            assert_eq!((report.failed, report.outcomes.get(&status)), (1, Some(&1)));
        }
    }

    #[test]
    fn a_bye_that_nobody_answers_is_a_lost_call() {
        let mut net = Net::new(one_call(), Behaviour::default());
        net.lose = |(_, _, what)| what == "BYE";
        net.run(SECOND * 40);
        assert_eq!(net.times("caller", "BYE"), [2.0, 2.5, 3.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5, 33.5]);
        let report = net.finish();
        assert_eq!((report.answered, report.failed, report.lost), (1, 0, 1));
    }

    #[test]
    fn by_a_stream_nothing_is_sent_again() {
        let config = CallerConfig { transport: Transport::Tcp, hold: SECOND * 20, ..one_call() };
        let mut net = Net::new(config, Behaviour::default());
        net.lose = |(_, _, what)| what == "BYE";
        net.run(SECOND * 60);
        assert_eq!((net.times("caller", "INVITE"), net.times("caller", "BYE")), (vec![0.0], vec![20.0]));
        assert_eq!(net.finish().lost, 1);
    }

    #[test]
    fn a_bye_that_gets_481_is_a_lost_call() {
        let mut net = Net::new(
            CallerConfig { hold: SECOND * 40, ..one_call() },
            Behaviour { hang_up_after: Some(SECOND), ..Behaviour::default() },
        );
        net.lose = |(_, from, what)| *from == "server" && what == "BYE";
        net.run(SECOND * 41);
        assert_eq!((net.server.counts().unheard, net.finish().lost), (1, 1));
    }

    #[test]
    fn a_bye_from_the_server_ends_a_call_well() {
        let mut net = Net::new(one_call(), Behaviour { hang_up_after: Some(SECOND), ..Behaviour::default() });
        net.lose = |(at, from, what)| *from == "caller" && what == "200 BYE" && *at < 1.2;
        net.run(SECOND * 40);
        assert_eq!((net.times("server", "BYE"), net.times("caller", "BYE")), (vec![1.0, 1.5], vec![]));
        assert_eq!(net.server.counts().hung_up, 1);
        let report = net.finish();
        assert_eq!((report.answered, report.failed, report.lost), (1, 0, 0));
    }

    #[test]
    fn calls_can_end_together() {
        let config = CallerConfig { rate: 8.0, calls: Some(8), hang_up_at: Some(SECOND * 3), ..one_call() };
        let mut net = Net::new(config, Behaviour::default());
        net.run(SECOND * 5);
        let byes = net.times("caller", "BYE");
        assert!(byes.len() == 8 && byes.iter().all(|at| (3.0..4.0).contains(at)), "{byes:?}");
        assert_eq!(net.finish().lost, 0);
    }

    #[test]
    fn a_call_that_is_given_up_after_100_is_cancelled() {
        let mut net = Net::new(
            CallerConfig { timeout: SECOND * 4, ..one_call() },
            Behaviour { delay: SECOND * 10, ..Behaviour::default() },
        );
        net.run(SECOND * 40);
        assert_eq!(lines(&net)[2..], ["4 caller CANCEL", "4 server 200 CANCEL", "4 server 487 INVITE", "4 caller ACK"]);
        let report = net.finish();
        assert_eq!((report.calls, report.failed, report.outcomes.get(&0)), (1, 1, Some(&1)));
    }

    #[test]
    fn a_2xx_that_comes_after_the_cancel_is_acknowledged_and_ended() {
        let mut net = Net::new(
            CallerConfig { timeout: SECOND * 4, ..one_call() },
            Behaviour { delay: SECOND * 5, ..Behaviour::default() },
        );
        net.lose = |(at, _, what)| what == "CANCEL" && *at < 5.0;
        net.run(SECOND * 40);
        assert_eq!(lines(&net)[4..], ["5 server 200 INVITE", "5 caller ACK", "5 caller BYE", "5 server 200 BYE"]);
        let report = net.finish();
        assert_eq!((report.answered, report.failed, report.lost), (0, 1, 0));
    }

    #[test]
    fn an_unanswered_discovery_delays_the_call_by_64_t1() {
        let mut net = Net::new(CallerConfig { discover: true, ..one_call() }, Behaviour::default());
        net.lose = |(_, _, what)| what == "OPTIONS";
        net.run(SECOND * 40);
        assert_eq!(net.times("caller", "OPTIONS"), [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]);
        assert_eq!(net.times("caller", "INVITE"), [32.0]);
        assert_eq!(net.finish().answered, 1);
    }

    #[test]
    fn calls_come_at_an_even_pace_until_they_are_stopped() {
        let config = CallerConfig { rate: 8.0, calls: None, ..one_call() };
        let mut net = Net::new(config, Behaviour::default());
        net.run(SECOND);
        let expected: Vec<_> = (0..=8).map(|n| f64::from(n) / 8.0).collect();
        assert_eq!(net.times("caller", "INVITE"), expected);
        net.calls.stop();
        assert!(!net.calls.is_over());
        net.run(SECOND * 4);
        assert_eq!((net.times("caller", "INVITE").len(), net.finish().answered), (9, 9));
    }

    #[test]
    fn a_duration_ends_the_calls() {
        let config = CallerConfig { rate: 8.0, calls: None, duration: Some(SECOND * 2), ..one_call() };
        let mut net = Net::new(config, Behaviour::default());
        net.run(SECOND * 5);
        assert_eq!((net.times("caller", "INVITE").len(), net.finish().lost), (16, 0));
    }

    #[test]
    fn a_caller_that_was_held_up_goes_on_without_a_burst() {
        let mut net = Net::new(CallerConfig { rate: 100.0, calls: None, ..one_call() }, Behaviour::default());
        net.now += SECOND;
        let mut out = Outbox::new();
        net.calls.wake(net.now, &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(net.calls.next(), Some(net.now + SECOND / 100));
    }

    #[test]
    fn memory_returns_to_its_start() {
        let mut net = Net::new(CallerConfig { rate: 50.0, calls: Some(200), ..one_call() }, Behaviour::default());
        net.run(SECOND * 60);
        assert_eq!((net.calls.next(), net.server.next(), net.calls.calls.len()), (None, None, 0));
        assert_eq!(net.finish().answered, 200);
    }
}
