//! The rules: which request outside a dialog goes to which set.

mod explain;
mod pattern;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

pub use explain::{ConditionTold, RuleTold};
pub use pattern::Pattern;

use crate::engine::dispatch::SetId;
use crate::engine::flow::{Cidr, ListenerId};
use crate::engine::sip::{Host, Message, Reply, Scheme, Uri};

/// The rules in order and what is answered when none matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// First match wins.
    pub rules: Vec<Rule>,
    /// The answer to what no rule matches; 404 by default.
    pub unroutable: Reply,
}

/// One `[[rule]]`: every condition that is given must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// A name for people, unique.
    pub name: String,
    /// What a request must be like.
    pub when: Vec<Condition>,
    /// What is done with it.
    pub action: Action,
}

/// One condition on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The method is one of these (case-sensitive, RFC 3261 section 7.1).
    Method(Vec<String>),
    /// The User-Agent header matches.
    UserAgent(Pattern),
    /// The packet came from one of these networks.
    Source(Vec<Cidr>),
    /// It came in by one of these listeners.
    Listener(Vec<ListenerId>),
    /// A part of the Request-URI matches; an absent user matches only the pattern "".
    RequestUri(UriPart, Pattern),
    /// A part of the From URI matches.
    From(UriPart, Pattern),
    /// A part of the To URI matches.
    To(UriPart, Pattern),
    /// Some value of the named header matches; the name in any case, compact or long.
    Header(String, Pattern),
}

/// Which part of a URI a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriPart {
    /// The user part, unescaped; absent is "".
    User,
    /// The host, without port, in any case.
    Host,
}

/// What is done with a request that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to a destination of the set.
    Set(Arc<Target>),
    /// It is answered so.
    Reply(Reply),
    /// It goes where its Request-URI says (an address that we were told to trust).
    Relay,
}

/// A set, and what the request looks like when it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The set.
    pub set: SetId,
    /// What becomes of the Request-URI.
    pub rewrite: Rewrite,
    /// Parameters that our Record-Route carries besides its own, as `;nat=yes`; empty if none.
    pub record_route_params: String,
}

/// What becomes of the Request-URI on its way to a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rewrite {
    /// `sip:host:port` of the destination (with `;transport=` if it is not UDP), as OpenSIPS's script in the article does.
    #[default]
    Article,
    /// Host, port and transport of the destination; the user and the other parameters stay.
    Host,
    /// It stays.
    None,
}

/// What the rules look at.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a, 'b> {
    /// The request.
    pub message: &'a Message<'b>,
    /// Where its packet came from.
    pub source: SocketAddr,
    /// The listener that it came in by.
    pub listener: ListenerId,
}

impl Default for Config {
    fn default() -> Self {
        Config { rules: Vec::new(), unroutable: Reply::new(404, "Not Found") }
    }
}

impl Config {
    /// The first rule whose every condition holds.
    pub fn choose(&self, request: &RequestView<'_, '_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches(request))
    }
}

impl Rule {
    fn matches(&self, request: &RequestView<'_, '_>) -> bool {
        self.when.iter().all(|condition| condition.holds(request))
    }
}

impl Condition {
    /// Whether it holds. What the request does not have, or has in no readable form, matches no pattern; not even `*`.
    pub fn holds(&self, request: &RequestView<'_, '_>) -> bool {
        let RequestView { message, source, listener } = *request;
        match self {
            Condition::Method(methods) => methods.iter().any(|name| name.as_bytes() == message.method().as_bytes()),
            Condition::UserAgent(pattern) => message.user_agent().is_some_and(|value| pattern.matches(value)),
            Condition::Source(networks) => networks.iter().any(|network| network.contains(source.ip())),
            Condition::Listener(listeners) => listeners.contains(&listener),
            Condition::RequestUri(part, pattern) => part.matches(message.request_uri(), pattern),
            Condition::From(part, pattern) => message.from().is_some_and(|from| part.matches(from.uri, pattern)),
            Condition::To(part, pattern) => message.to().is_some_and(|to| part.matches(to.uri, pattern)),
            Condition::Header(name, pattern) => message.headers(name.as_bytes()).any(|value| pattern.matches(value)),
        }
    }
}

impl UriPart {
    fn matches(self, uri: &[u8], pattern: &Pattern) -> bool {
        let Ok(uri) = Uri::parse(uri) else { return false };
        match self {
            UriPart::User => match user(&uri) {
                b"" => pattern.as_str().is_empty(),
                user => pattern.matches_bytes(Unescaped(user)),
            },
            UriPart::Host => host_matches(&uri, pattern),
        }
    }
}

/// The user without its password, "" if there is none; for `tel:` the number (RFC 3261 section 19.1.6 makes it a user).
fn user<'a>(uri: &Uri<'a>) -> &'a [u8] {
    let (text, end) = match (uri.scheme, uri.host) {
        (Scheme::Tel, Host::Name(number)) => (number, b';'),
        _ => (uri.user.unwrap_or_default(), b':'),
    };
    &text[..memchr::memchr(end, text).unwrap_or(text.len())]
}

/// An IPv6 address matches with and without brackets.
fn host_matches(uri: &Uri<'_>, pattern: &Pattern) -> bool {
    match uri.host {
        Host::Name(_) if uri.scheme == Scheme::Tel => pattern.as_str().is_empty(),
        Host::Name(name) => pattern.matches_any_case(name),
        Host::Ip(ip) => {
            let mut text = SmallVec::<[u8; 48]>::new();
            write!(text, "[{ip}]").expect("writing to memory");
            pattern.matches_any_case(&text[1..text.len() - 1]) || ip.is_ipv6() && pattern.matches_any_case(&text)
        }
    }
}

/// Bytes with `%HH` read as what it stands for (RFC 3261 section 25.1); a percent sign that escapes nothing stays.
#[derive(Clone, Debug)]
struct Unescaped<'a>(&'a [u8]);

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (byte, rest) = match self.0 {
            [b'%', high, low, rest @ ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => ((high << 4 | low) as u8, rest),
                _ => (b'%', &self.0[1..]),
            },
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        self.0 = rest;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MRCP: &str = "INVITE sip:127.0.0.1:8060 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 10.0.0.5:5072;branch=z9hG4bKa\r\n\
        From: <sip:10.0.0.5:5072>;tag=1\r\n\
        To: <sip:127.0.0.1:8060>\r\n\
        Call-ID: a\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\
        User-Agent: OPENSIPS_TTS_MRCP_CLIENT\r\n\r\n";
    const PHONE: &str = "MESSAGE sip:%2a98;x=y:secret@Sip.Example.COM:5070;lr SIP/2.0\r\n\
        v: SIP/2.0/UDP h;branch=z9hG4bKa\r\n\
        f: \"A\" <sip:alice%40home@[2001:db8::A]>;tag=1\r\n\
        t: <tel:+1-201-555-0123;phone-context=x>\r\n\
        i: a\r\nCSeq: 1 MESSAGE\r\n\
        k: 100rel\r\nSupported: timer\r\nX-Tenant: one\r\nx-tenant: two\r\n\r\n";

    fn holds_from(text: &str, source: &str, listener: u16, condition: &Condition) -> bool {
        let message = Message::parse(text.as_bytes()).expect("a request");
        let source = source.parse().expect("an address");
        condition.holds(&RequestView { message: &message, source, listener: ListenerId(listener) })
    }

    fn holds(text: &str, condition: Condition) -> bool {
        holds_from(text, "10.0.0.5:5072", 0, &condition)
    }

    fn is(pattern: &str) -> Pattern {
        Pattern::new(pattern)
    }

    fn rule(name: &str, when: Vec<Condition>) -> Rule {
        Rule { name: name.into(), when, action: Action::Relay }
    }

    #[test]
    fn the_articles_rule_finds_its_client() {
        let client = || Condition::UserAgent(is("OPENSIPS_TTS_MRCP_CLIENT"));
        assert!(holds(MRCP, client()));
        assert!(!holds(PHONE, client()));
        assert!(!holds(PHONE, Condition::UserAgent(is("*"))), "it has none");
        assert!(holds(MRCP, Condition::UserAgent(is("OPENSIPS_*_MRCP_CLIENT"))));
    }

    #[test]
    fn the_first_rule_whose_every_condition_holds_wins() {
        let method = |name: &str| Condition::Method(vec!["OPTIONS".into(), name.into()]);
        let config = Config {
            rules: vec![
                rule("both", vec![method("INVITE"), Condition::Listener(vec![ListenerId(7)])]),
                rule("first", vec![method("INVITE")]),
                rule("any", vec![]),
            ],
            ..Config::default()
        };
        let choose = |text: &str, listener| {
            let message = Message::parse(text.as_bytes()).expect("a request");
            let source = "10.0.0.5:5072".parse().expect("an address");
            let view = RequestView { message: &message, source, listener: ListenerId(listener) };
            config.choose(&view).map(|rule| rule.name.as_str())
        };
        assert_eq!(choose(MRCP, 7), Some("both"));
        assert_eq!(choose(MRCP, 0), Some("first"));
        assert_eq!(choose(PHONE, 7), Some("any"));
    }

    #[test]
    fn without_rules_nothing_is_routable() {
        let config = Config::default();
        assert_eq!((config.rules.len(), config.unroutable), (0, Reply::new(404, "Not Found")));
    }

    #[test]
    fn methods_are_compared_in_their_case() {
        assert!(holds(PHONE, Condition::Method(vec!["MESSAGE".into()])));
        assert!(!holds(PHONE, Condition::Method(vec!["message".into()])));
    }

    #[test]
    fn the_packets_source_counts_and_not_what_the_message_says() {
        let networks =
            Condition::Source(vec!["192.0.2.0/24".parse().expect("one"), "2001:db8::/32".parse().expect("one")]);
        assert!(holds_from(MRCP, "192.0.2.9:1", 0, &networks));
        assert!(holds_from(MRCP, "[::ffff:192.0.2.9]:1", 0, &networks));
        assert!(holds_from(MRCP, "[2001:db8::5]:1", 0, &networks));
        assert!(!holds_from(MRCP, "10.0.0.5:5072", 0, &networks));
        assert!(!holds(MRCP, Condition::Source(vec![])));
    }

    #[test]
    fn an_absent_user_matches_the_empty_pattern_alone() {
        assert!(holds(MRCP, Condition::RequestUri(UriPart::User, is(""))));
        assert!(!holds(MRCP, Condition::RequestUri(UriPart::User, is("?*"))));
        assert!(!holds(MRCP, Condition::RequestUri(UriPart::User, is("*"))), "any user, but there must be one");
    }

    #[test]
    fn a_user_is_unescaped_and_has_no_password() {
        assert!(holds(PHONE, Condition::RequestUri(UriPart::User, is("\\*98;x=y"))));
        assert!(holds(PHONE, Condition::From(UriPart::User, is("alice@home"))));
        assert!(holds(PHONE, Condition::From(UriPart::User, is("alice*"))));
        assert!(!holds(PHONE, Condition::From(UriPart::User, is("ALICE*"))));
    }

    #[test]
    fn a_telephone_number_is_a_user_without_host() {
        assert!(holds(PHONE, Condition::To(UriPart::User, is("+1-201-*"))));
        assert!(holds(PHONE, Condition::To(UriPart::Host, is(""))));
    }

    #[test]
    fn hosts_match_in_any_case_and_addresses_by_their_text() {
        assert!(holds(PHONE, Condition::RequestUri(UriPart::Host, is("sip.example.com"))));
        assert!(holds(PHONE, Condition::RequestUri(UriPart::Host, is("*.Example.com"))));
        assert!(holds(MRCP, Condition::RequestUri(UriPart::Host, is("127.0.0.1"))));
        assert!(holds(MRCP, Condition::From(UriPart::Host, is("10.0.0.?"))));
        assert!(!holds(MRCP, Condition::From(UriPart::Host, is("[10.0.0.5]"))));
        for pattern in ["2001:db8::a", "[2001:DB8::A]", "2001:db8:*", "[2001:*"] {
            assert!(holds(PHONE, Condition::From(UriPart::Host, is(pattern))), "{pattern}");
        }
    }

    #[test]
    fn any_line_of_a_header_may_match_under_any_of_its_names() {
        for (name, pattern) in [("supported", "100rel"), ("k", "timer"), ("X-TENANT", "one"), ("X-Tenant", "t*")] {
            assert!(holds(PHONE, Condition::Header(name.into(), is(pattern))), "{name}");
        }
        assert!(!holds(PHONE, Condition::Header("X-Tenant".into(), is("three"))));
        assert!(!holds(PHONE, Condition::Header("Subject".into(), is("*"))));
    }

    #[test]
    fn a_percent_sign_that_escapes_nothing_stays() {
        let unescape = |text: &str| String::from_utf8(Unescaped(text.as_bytes()).collect()).expect("text");
        assert_eq!(unescape("%41%4a%"), "AJ%");
        assert_eq!(unescape("%zz%2"), "%zz%2");
        assert_eq!(unescape("%2525"), "%25");
    }
}
