//! Sessions that move from node to node with an address: each counts once in the cluster, wherever it is, and in the end none
//! does.

use tandem::engine::dispatch::PeerReport;
use tandem::engine::event::{Ending, Event, Input};
use tandem::engine::flow::ListenerId;

use crate::harness::{Bench, CALLER, SERVERS, Sent, in_dialog, lines, seconds};

/// Nodes of one cluster whose listeners have the same addresses, which one of them holds at a time.
struct Cluster {
    nodes: Vec<Bench>,
    dead: Vec<bool>,
}

impl Cluster {
    fn new(names: &[&str]) -> Self {
        let node = |name: &&str| {
            Bench::with(|config| {
                config.node = (*name).into();
                config.sets[0].session.max_duration = Some(seconds(3600));
            })
        };
        let mut cluster = Cluster { nodes: names.iter().map(node).collect(), dead: vec![false; names.len()] };
        cluster.hold(0);
        cluster
    }

    /// The addresses are at that node now.
    fn hold(&mut self, holder: usize) {
        for (nth, node) in self.nodes.iter_mut().enumerate() {
            for listener in [0, 1] {
                node.handle(Input::Held { listener: ListenerId(listener), held: nth == holder });
            }
        }
    }

    /// A round of gossip: all hear all that live, and a moment later.
    fn gossip(&mut self) {
        let mut reports: Vec<PeerReport> = self.nodes.iter_mut().map(Bench::report).collect();
        reports.iter_mut().for_each(|report| report.started = 1);
        for (nth, node) in self.nodes.iter_mut().enumerate() {
            let others = reports.iter().enumerate().filter(|(other, _)| *other != nth && !self.dead[*other]);
            let others: Vec<_> = others.map(|(_, report)| report.clone()).collect();
            node.handle(Input::Peers(&others));
            node.pass(seconds(1));
        }
    }

    /// What each node that lives holds for the cluster's sessions.
    fn counts(&self) -> Vec<u64> {
        let live = self.nodes.iter().zip(&self.dead).filter(|(_, dead)| !**dead);
        let count = |node: &Bench| {
            let set = node.snapshot().sets[0].clone();
            set.destinations.iter().map(|one| one.sessions + one.elsewhere).sum()
        };
        live.map(|(node, _)| count(node)).collect()
    }

    /// After two rounds each node that lives counts so many: one tells what has moved, the next what that one made of it.
    fn settles<const NODES: usize>(&mut self, counts: [u64; NODES], what: &str) {
        self.gossip();
        self.gossip();
        assert_eq!(self.counts(), counts, "{what}");
    }

    fn calls(&mut self, at: usize, ids: std::ops::Range<u32>) -> Vec<Sent> {
        ids.map(|id| self.nodes[at].answered_call(&id.to_string()).1).collect()
    }

    /// The caller of a call sends this through that node, and the server says 200.
    fn ask(&mut self, at: usize, method: &str, ok: &Sent, cseq: u32) {
        let forwarded = self.nodes[at].receive(CALLER, in_dialog(method, ok, cseq));
        let request = forwarded.iter().find(|one| one.line().starts_with(method));
        let request = request.unwrap_or_else(|| panic!("{:?}", lines(&forwarded))).clone();
        let answered = self.nodes[at].receive(&request.to.to_string(), request.answer(200, "OK", &[]));
        assert_eq!(lines(&answered), ["SIP/2.0 200 OK"]);
    }

    fn endings(&self, at: usize, ending: Ending) -> usize {
        let is_one = |event: &&Event| matches!(event, Event::Session(record) if record.ending == ending);
        self.nodes[at].events.iter().filter(is_one).count()
    }
}

#[test]
fn there_and_back_each_session_counts_once() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let calls = cluster.calls(0, 0..10);
    cluster.gossip();
    assert_eq!(cluster.counts(), [10, 10]);
    cluster.hold(1);
    cluster.gossip();
    assert_eq!(cluster.counts(), [10, 10], "parked");
    // Some end at b, some are heard of there, of others nothing is heard.
    calls[..3].iter().for_each(|call| cluster.ask(1, "BYE", call, 2));
    calls[3..6].iter().for_each(|call| cluster.ask(1, "INFO", call, 2));
    cluster.settles([7, 7], "");
    assert_eq!((cluster.nodes[0].snapshot().sessions, cluster.nodes[1].snapshot().sessions), (4, 3));
    assert_eq!(cluster.endings(0, Ending::Moved), 6);
    cluster.hold(0);
    cluster.gossip();
    assert_eq!(cluster.counts(), [7, 7], "back");
    calls[3..5].iter().for_each(|call| cluster.ask(0, "BYE", call, 3));
    cluster.ask(0, "INFO", &calls[5], 3);
    calls[6..10].iter().for_each(|call| cluster.ask(0, "BYE", call, 2));
    cluster.settles([1, 1], "");
    cluster.ask(0, "BYE", &calls[5], 4);
    cluster.settles([0, 0], "");
}

#[test]
fn what_a_dead_node_has_left_wears_off_at_every_node_and_at_one_that_starts_later() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let calls = cluster.calls(0, 0..10);
    cluster.gossip();
    cluster.dead[0] = true;
    cluster.hold(1);
    cluster.gossip();
    assert_eq!(cluster.counts(), [10, 10]);
    calls[..4].iter().for_each(|call| cluster.ask(1, "BYE", call, 2));
    cluster.ask(1, "INFO", &calls[4], 2);
    cluster.settles([6, 6], "five of the dead one's, one of b's");
    // What has moved on wears off once.
    cluster.hold(2);
    cluster.ask(2, "INFO", &calls[4], 3);
    cluster.settles([6, 6], "");
    // A node that starts hears of them; the one that ends has told it.
    cluster.nodes[1] = Cluster::new(&["b"]).nodes.remove(0);
    cluster.hold(1);
    cluster.settles([6, 6], "");
    calls[4..].iter().for_each(|call| cluster.ask(1, "BYE", call, 4));
    cluster.settles([0, 0], "");
}

#[test]
fn what_is_told_late_takes_nothing_that_has_come_back() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let calls = cluster.calls(0, 0..1);
    cluster.hold(1);
    cluster.nodes.iter_mut().for_each(|node| drop(node.report()));
    cluster.ask(1, "INFO", &calls[0], 2);
    let late = cluster.nodes[1].report();
    cluster.hold(0);
    cluster.nodes[0].pass(seconds(5));
    cluster.ask(0, "INFO", &calls[0], 3);
    let mut late = PeerReport { started: 1, ..late };
    assert_eq!(late.taken.len(), 1);
    late.taken[0].ago = seconds(5);
    cluster.nodes[0].handle(Input::Peers(&[late]));
    assert_eq!(cluster.nodes[0].snapshot().sessions, 1);
}

#[test]
fn what_comes_back_before_the_others_have_heard_of_it_counts_once() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let calls = cluster.calls(0, 0..2);
    cluster.gossip();
    cluster.hold(1);
    calls.iter().for_each(|call| cluster.ask(1, "INFO", call, 2));
    cluster.nodes.iter_mut().for_each(|node| drop(node.pass(seconds(1))));
    cluster.hold(0);
    cluster.ask(0, "INFO", &calls[0], 3);
    cluster.ask(0, "BYE", &calls[1], 3);
    (0..3).for_each(|_| cluster.gossip());
    assert_eq!(cluster.counts(), [1, 1]);
    assert_eq!(cluster.nodes[0].snapshot().sessions, 1, "where it has been heard of last");
    cluster.ask(0, "BYE", &calls[0], 4);
    (0..2).for_each(|_| cluster.gossip());
    assert_eq!(cluster.counts(), [0, 0]);
}

#[test]
fn a_2xx_that_passes_brings_the_session() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.gossip();
    let invite = cluster.nodes[0].call("1");
    cluster.hold(1);
    let contact = format!("Contact: <sip:{}>", invite.to);
    let passed = cluster.nodes[1].receive(&invite.to.to_string(), invite.answer(200, "OK", &[&contact]));
    assert_eq!(lines(&passed), ["SIP/2.0 200 OK"]);
    cluster.settles([1, 1], "");
    // Its caller has not had the 2xx, and sends the INVITE again: b tries too, and the next 2xx decides.
    let again = cluster.nodes[1].call("1");
    let sent = cluster.nodes[1].receive(&invite.to.to_string(), invite.answer(200, "OK", &[&contact]));
    assert_eq!(sent[0].line(), "SIP/2.0 200 OK");
    assert_eq!(cluster.nodes[1].snapshot().sessions, 1);
    assert!(SERVERS.contains(&again.to.to_string().as_str()));
}

#[test]
fn what_is_heard_of_before_its_nodes_death_is_noticed_is_not_left_behind() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let calls = cluster.calls(0, 0..10);
    cluster.gossip();
    assert_eq!(cluster.counts(), [10, 10, 10]);
    // The address is at b before anybody knows that a is dead; c hears of b's sessions first, too.
    cluster.hold(1);
    calls[..4].iter().for_each(|call| cluster.ask(1, "BYE", call, 2));
    calls[4..6].iter().for_each(|call| cluster.ask(1, "INFO", call, 2));
    cluster.dead[0] = true;
    cluster.settles([6, 6], "");
    calls[4..].iter().for_each(|call| cluster.ask(1, "BYE", call, 3));
    cluster.settles([0, 0], "");
}

#[test]
fn what_a_node_has_adopted_and_left_behind_wears_off_when_it_comes_home() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let calls = cluster.calls(0, 0..6);
    cluster.gossip();
    cluster.hold(1);
    calls[..4].iter().for_each(|call| cluster.ask(1, "INFO", call, 2));
    cluster.settles([6, 6], "");
    cluster.dead[1] = true;
    cluster.hold(0);
    cluster.gossip();
    assert_eq!(cluster.counts(), [6], "four of b's");
    calls[..2].iter().for_each(|call| cluster.ask(0, "BYE", call, 3));
    calls[2..4].iter().for_each(|call| cluster.ask(0, "INFO", call, 3));
    assert_eq!(cluster.counts(), [4]);
    calls[2..].iter().for_each(|call| cluster.ask(0, "BYE", call, 4));
    assert_eq!(cluster.counts(), [0]);
}

#[test]
fn a_2xx_that_comes_after_the_bye_brings_no_session() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.gossip();
    let invite = cluster.nodes[0].call("1");
    let contact = format!("Contact: <sip:{}>", invite.to);
    let ok = invite.answer(200, "OK", &[&contact]);
    let call = cluster.nodes[0].receive(&invite.to.to_string(), &ok)[0].clone();
    cluster.hold(1);
    cluster.ask(1, "BYE", &call, 2);
    cluster.nodes[1].receive(&invite.to.to_string(), &ok);
    assert_eq!(cluster.nodes[1].snapshot().sessions, 0);
}
