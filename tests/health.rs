//! Who is fit and why, on virtual time: probes, traffic, guards, orders, and what outlives a reload or a restart.

mod agents;
mod answers;
mod causes;
mod checks;
mod distrust;
mod evidence;
mod guards;
mod memory;
pub(crate) mod orders;
mod probes;
mod spread;
mod traffic;

use std::time::Duration;

use tandem::engine::dispatch::{
    Check, CheckKind, DestinationId, Health, Order, Probing, RetryOn, SetId, SipProbe, Standing,
};
use tandem::engine::event::HealthChange;
use tandem::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
use tandem::engine::snapshot::DestinationView;
use tandem::engine::{Config, Event};

use crate::harness::{Bench, CALLER, SERVERS, Sent, invite, seconds, set_19};

/// How finely [`live`] looks.
const STEP: Duration = Duration::from_millis(10);

/// A SIP probe every 10 s without jitter, with something changed.
pub(crate) fn options(change: impl FnOnce(&mut Check)) -> Check {
    let mut check = Check::new(CheckKind::Sip(SipProbe::default()));
    check.jitter_percent = 0;
    change(&mut check);
    check
}

/// The same with something of the request itself changed.
fn probe(change: impl FnOnce(&mut SipProbe)) -> Check {
    let mut sip = SipProbe::default();
    change(&mut sip);
    options(|check| check.kind = CheckKind::Sip(sip))
}

/// Gives set 19 these probes.
pub(crate) fn probed_by(checks: Vec<Check>) -> impl FnOnce(&mut Config) {
    |config| config.sets[0].probing = Probing { checks, ..Probing::default() }.into()
}

/// The article's set-up with a probe of [`options`].
fn probed(change: impl FnOnce(&mut Check)) -> Bench {
    Bench::with(probed_by(vec![options(change)]))
}

/// One destination alone, watched by its traffic only; its failures are its callers' at once.
fn alone(change: impl FnOnce(&mut Config)) -> Bench {
    let mut bench = Bench::with(|config| {
        config.sets[0].failover.retry_on = RetryOn::NONE;
        change(config);
    });
    bench.load(set_19(&SERVERS[..1]));
    bench
}

/// What the outside sees of a destination of set 19.
fn view(bench: &Bench, address: &str) -> DestinationView {
    let sets = bench.snapshot().sets;
    let all = sets.into_iter().filter(|set| set.id == SetId(19)).flat_map(|set| set.destinations);
    let mut of = all.filter(|one| one.address.is_some_and(|at| at.to_string() == address));
    of.next().unwrap_or_else(|| panic!("{address} is loaded"))
}

fn health(bench: &Bench, address: &str) -> Health {
    view(bench, address).health
}

fn is_fit(bench: &Bench, address: &str) -> bool {
    view(bench, address).fitness.is_fit()
}

fn id(bench: &Bench, address: &str) -> DestinationId {
    view(bench, address).id
}

/// The probes, of what was sent: requests with a From of ours, each once.
fn probes(sent: &[Sent]) -> Vec<Sent> {
    let mut seen = Vec::new();
    let probes = sent.iter().filter(|one| !one.line().starts_with("SIP/2.0") && one.header("From").contains("tandem@"));
    probes
        .filter(|one| {
            !seen.contains(&one.bytes) && {
                seen.push(one.bytes.clone());
                true
            }
        })
        .cloned()
        .collect()
}

/// Those to one peer.
fn to(sent: &[Sent], peer: &str) -> Vec<Sent> {
    sent.iter().filter(|one| one.to.to_string() == peer).cloned().collect()
}

/// Lets time pass; each request that goes out meanwhile gets what `answer` says, within a step; none: it is lost.
fn live(bench: &mut Bench, time: Duration, mut answer: impl FnMut(&Sent) -> Option<Vec<u8>>) -> Vec<Sent> {
    let (end, mut all) = (bench.time() + time, Vec::new());
    while bench.time() < end {
        let sent = bench.pass(STEP.min(end - bench.time()));
        for one in &sent {
            if one.line().starts_with("SIP/2.0") {
                continue;
            }
            if let Some(answer) = answer(one) {
                bench.receive(&one.to.to_string(), answer);
            }
        }
        all.extend(sent);
    }
    all
}

/// Every probe is answered so.
fn all(status: u16) -> impl FnMut(&Sent) -> Option<Vec<u8>> {
    move |sent| Some(sent.answer(status, "Test", &[]))
}

/// No probe is answered.
fn mute(_: &Sent) -> Option<Vec<u8>> {
    None
}

/// Every probe to one peer is lost, those to others are answered 200.
fn dead(peer: &'static str) -> impl FnMut(&Sent) -> Option<Vec<u8>> {
    move |sent| (sent.to.to_string() != peer).then(|| sent.answer(200, "OK", &[]))
}

/// The way to where that went.
fn way(sent: &Sent) -> Flow {
    let connection = ConnectionId::default();
    Flow { listener: ListenerId(sent.by), transport: Transport::Udp, peer: sent.to, connection }
}

/// A call whose destination gives this answer; where it went.
fn call_answered(bench: &mut Bench, id: &str, status: u16, extra: &[&str]) -> String {
    let first = bench.call(id);
    let peer = first.to.to_string();
    bench.receive(&peer, first.answer(status, "Test", extra));
    peer
}

/// A call; what the caller got beside its 100 in the same turn, if no destination was asked at all.
fn refused(bench: &mut Bench, id: &str) -> Option<String> {
    let sent = bench.receive(CALLER, invite(id));
    let asked = sent.iter().any(|one| one.line().starts_with("INVITE"));
    let finals = sent.iter().map(Sent::line).filter(|line| !line.contains(" 100 "));
    (!asked).then(|| finals.collect::<Vec<_>>().join(", "))
}

/// The set's own answer.
const EMPTY: &str = "SIP/2.0 480 MRCP server Unavailable";

/// All changes of health so far, oldest first.
fn changes(bench: &Bench) -> Vec<HealthChange> {
    let of = |event: &Event| match event {
        Event::Health(change) => Some((**change).clone()),
        _ => None,
    };
    bench.events.iter().filter_map(of).collect()
}

/// Ejects the destination that stands alone in its set.
fn eject(bench: &mut Bench, name: &str) {
    for number in 0..3 {
        call_answered(bench, &format!("{name}-{number}"), 503, &[]);
    }
    assert_eq!(health(bench, SERVERS[0]), Health::Down);
}

/// Lets its ejection end.
fn sit_out(bench: &mut Bench) {
    let (left, _) = view(bench, SERVERS[0]).kept.ejected.expect("it is ejected");
    bench.pass(left + Duration::from_millis(2));
    assert_eq!(health(bench, SERVERS[0]), Health::Unknown);
}

/// An order of the operator's.
fn standing(order: Order) -> Standing {
    let at = std::time::SystemTime::UNIX_EPOCH + seconds(1_800_000_000);
    Standing { order, by: "ada".into(), reason: "a test".into(), at, deadline: None }
}
