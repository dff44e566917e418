//! The resolver against a DNS server: RFC 3263 section 4, TTLs, failures and what is kept over them.

use std::net::SocketAddr;
use std::time::Duration;

use tandem::edge::resolve::{Answer, DnsConfig, Question, ResolveError, Resolver};
use tandem::engine::flow::Transport;

use crate::dns::{Dns, Mood};

fn question(host: &str, port: Option<u16>) -> Question {
    Question { host: host.to_owned(), port, transport: Transport::Udp }
}

fn resolver(dns: &Dns) -> Resolver {
    Resolver::new(&DnsConfig { servers: vec![dns.address], timeout: Duration::from_millis(600) })
}

fn addresses(answer: &Answer) -> Vec<String> {
    answer.addresses.iter().map(|one| one.address.to_string()).collect()
}

async fn ask(resolver: &Resolver, host: &str, port: Option<u16>) -> Vec<String> {
    addresses(&resolver.resolve(&question(host, port)).await.expect("it has addresses"))
}

#[tokio::test]
async fn an_address_is_itself_and_asks_nobody() {
    let dns = Dns::start().await;
    let resolver = resolver(&dns);
    assert_eq!(ask(&resolver, "10.0.0.1", None).await, ["10.0.0.1:5060"]);
    assert_eq!(ask(&resolver, "[2001:db8::1]", Some(7010)).await, ["[2001:db8::1]:7010"]);
    let tls = Question { transport: Transport::Tls, ..question("10.0.0.1", None) };
    assert_eq!(addresses(&resolver.resolve(&tls).await.expect("itself")), ["10.0.0.1:5061"]);
    assert_eq!(dns.zone().asked, [""; 0]);
}

#[tokio::test]
async fn with_a_port_a_and_aaaa_are_asked_and_no_srv() {
    let dns = Dns::start().await;
    dns.set("tts.example.test", 60, &["10.0.0.2", "2001:db8::1", "10.0.0.1", "0.0.0.0", "224.0.0.1"]);
    let found = ask(&resolver(&dns), "TTS.example.test", Some(7010)).await;
    assert_eq!(found, ["10.0.0.1:7010", "10.0.0.2:7010", "[2001:db8::1]:7010"]);
    assert!(dns.zone().asked.iter().all(|asked| !asked.ends_with("SRV")), "{:?}", dns.zone().asked);
}

#[tokio::test]
async fn without_a_port_srv_names_targets_ports_priorities_and_weights() {
    let dns = Dns::start().await;
    dns.set("a.example.test", 60, &["10.0.0.1", "10.0.0.2"]);
    dns.set("b.example.test", 60, &["10.0.0.3"]);
    dns.set("c.example.test", 60, &["10.0.0.4"]);
    let targets = [(20, 1, 7012, "c.example.test"), (10, 5, 7010, "a.example.test"), (10, 1, 7011, "b.example.test")];
    dns.services("_sip._udp.example.test", 60, &targets);
    let answer = resolver(&dns).resolve(&question("example.test", None)).await.expect("it has addresses");
    assert_eq!(addresses(&answer), ["10.0.0.1:7010", "10.0.0.2:7010", "10.0.0.3:7011", "10.0.0.4:7012"]);
    let shares: Vec<_> = answer.addresses.iter().map(|one| (one.priority, one.weight)).collect();
    assert_eq!(shares, [(10, 5), (10, 5), (10, 2), (20, 2)], "5 and 1 to the targets, halves to a's addresses");
    dns.services("_sip._tcp.example.test", 60, &[(0, 0, 6000, "b.example.test")]);
    let tcp = Question { transport: Transport::Tcp, ..question("example.test", None) };
    assert_eq!(addresses(&resolver(&dns).resolve(&tcp).await.expect("its own")), ["10.0.0.3:6000"]);
}

#[tokio::test]
async fn without_srv_the_name_itself_has_the_default_port() {
    let dns = Dns::start().await;
    dns.set("tts.example.test", 60, &["10.0.0.1"]);
    assert_eq!(ask(&resolver(&dns), "tts.example.test", None).await, ["10.0.0.1:5060"]);
    // A root target says that there is no such service, whatever A says.
    dns.services("_sip._udp.off.example.test", 60, &[(0, 0, 1, ".")]);
    dns.set("off.example.test", 60, &["10.0.0.1"]);
    let error = resolver(&dns).resolve(&question("off.example.test", None)).await.expect_err("no service");
    assert!(matches!(error, ResolveError::NoSuchName { .. }), "{error}");
}

#[tokio::test]
async fn aliases_are_followed() {
    let dns = Dns::start().await;
    dns.alias("tts.example.test", 60, "alias.example.test");
    dns.alias("alias.example.test", 60, "real.example.test");
    dns.set("real.example.test", 60, &["10.0.0.9"]);
    assert_eq!(ask(&resolver(&dns), "tts.example.test", Some(7010)).await, ["10.0.0.9:7010"]);
}

#[tokio::test]
async fn an_answer_is_good_for_its_ttl_within_5_s_and_an_hour_and_is_not_asked_for_again() {
    let dns = Dns::start().await;
    for (name, ttl, expected) in [("short.test", 0, 5), ("long.test", 100_000, 3600), ("middle.test", 60, 60)] {
        dns.set(name, ttl, &["10.0.0.1"]);
        let resolver = resolver(&dns);
        let answer = resolver.resolve(&question(name, Some(1))).await.expect("it has an address");
        let wanted = Duration::from_secs(expected);
        let near = Duration::from_secs(1);
        assert!(answer.expires + near >= wanted && answer.expires <= wanted + near, "{name}: {:?}", answer.expires);
        let asked = dns.zone().asked.len();
        // AAAA was NODATA: that is remembered for 5 s.
        resolver.resolve(&question(name, Some(1))).await.expect("it has an address");
        assert_eq!(dns.zone().asked.len(), asked, "{name}");
    }
}

#[tokio::test]
async fn a_name_that_is_not_there_is_told_from_a_server_that_fails() {
    let dns = Dns::start().await;
    let one = question("none.example.test", None);
    let error = resolver(&dns).resolve(&one).await.expect_err("NXDOMAIN");
    assert!(matches!(error, ResolveError::NoSuchName { .. }), "{error}");
    assert!(error.expires() >= Duration::from_secs(5) && error.expires() <= Duration::from_secs(30));
    for mood in [Mood::Fails, Mood::Silent] {
        dns.be(mood);
        let error = resolver(&dns).resolve(&one).await.expect_err("no answer");
        assert!(matches!(error, ResolveError::Failed { .. }), "{mood:?}: {error}");
        assert_eq!(error.expires(), Duration::from_secs(5));
    }
}

#[tokio::test]
async fn the_last_good_answer_serves_while_dns_fails_and_ends_when_dns_says_so() {
    let dns = Dns::start().await;
    let resolver = resolver(&dns);
    // What an earlier start knew, since this one's cache would hide that DNS fails.
    let one = question("tts.example.test", Some(7010));
    let known = Resolver::new(&DnsConfig { servers: vec![dns.address], timeout: Duration::from_secs(2) });
    dns.set("tts.example.test", 60, &["10.0.0.1"]);
    let before = known.resolve(&one).await.expect("it has an address");
    resolver.keep(one.clone(), before.addresses.clone());
    for mood in [Mood::Silent, Mood::Fails] {
        dns.be(mood);
        let answer = resolver.resolve(&one).await.expect("the last good one");
        assert_eq!(answer.addresses, before.addresses);
        assert!(matches!(answer.stale, Some(ResolveError::Failed { .. })), "{answer:?}");
        assert_eq!(answer.expires, Duration::from_secs(5));
    }
    dns.be(Mood::Answers);
    dns.set("tts.example.test", 60, &[]);
    let error = resolver.resolve(&one).await.expect_err("it is gone");
    assert!(matches!(error, ResolveError::NoSuchName { .. }), "{error}");
    dns.be(Mood::Silent);
    assert_eq!(resolver.kept(&one), None);
}

#[tokio::test]
async fn half_an_answer_serves_and_the_other_half_is_what_was_last_known() {
    let dns = Dns::start().await;
    dns.set("tts.example.test", 60, &["10.0.0.1", "2001:db8::1"]);
    dns.be(Mood::SilentToV6);
    let one = question("tts.example.test", Some(7010));
    let config = DnsConfig { servers: vec![dns.address], timeout: Duration::from_secs(1) };
    let fresh = Resolver::new(&config);
    let answer = fresh.resolve(&one).await.expect("half of it");
    assert_eq!(addresses(&answer), ["10.0.0.1:7010"]);
    assert!(answer.stale.is_some());
    let knowing = Resolver::new(&config);
    let address = |text: &&str| text.parse::<SocketAddr>().expect("an address");
    let of = |address| tandem::edge::resolve::Address { address, priority: 0, weight: 1 };
    knowing.keep(one.clone(), ["10.0.0.9:7010", "[2001:db8::1]:7010"].iter().map(address).map(of).collect());
    let answer = knowing.resolve(&one).await.expect("the new IPv4 and the old IPv6 address");
    assert_eq!(addresses(&answer), ["10.0.0.1:7010", "[2001:db8::1]:7010"]);
    // A target of a service that lacks its IPv6 addresses serves with those that it has.
    dns.services("_sip._udp.example.test", 60, &[(1, 1, 7010, "tts.example.test")]);
    let service = question("example.test", None);
    knowing.keep(service.clone(), vec![of(address(&"10.0.0.9:7010"))]);
    let answer = knowing.resolve(&service).await.expect("half a target");
    assert_eq!((addresses(&answer), answer.stale.is_some()), (vec!["10.0.0.1:7010".to_owned()], true));
}
