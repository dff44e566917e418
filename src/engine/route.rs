//! The rules: which request outside a dialog goes to which set.

use std::net::IpAddr;

use crate::engine::dispatch::SetId;
use crate::engine::flow::ListenerId;
use crate::engine::sip::Reply;

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

/// Text to compare with: exact, or a glob with `*` and `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// A network: an address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// What is done with a request that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to a destination of the set.
    Set(Target),
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
