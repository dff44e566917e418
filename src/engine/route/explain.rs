//! Why a rule matches a request or does not, for people.

use super::{Action, Condition, Config, RequestView, Rewrite, Rule, Target, Unescaped, UriPart, user};
use crate::engine::flow::ListenerId;
use crate::engine::sip::{Host, Scheme, Uri, printable};

/// What a rule is to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTold {
    /// Its name.
    pub name: String,
    /// What it does with what it matches.
    pub action: String,
    /// Whether it matches; none: a rule before it does, and this one is not asked.
    pub matches: Option<bool>,
    /// Its conditions; none where it is not asked.
    pub conditions: Vec<ConditionTold>,
}

/// What a condition is to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionTold {
    /// The key of the configuration: `user_agent`, `from.host`, `header.Subject`.
    pub key: String,
    /// What the rule wants.
    pub wants: String,
    /// What the request has, one value of a header a line; none if it has nothing of the kind.
    pub has: Vec<String>,
    /// Whether it holds.
    pub holds: bool,
}

impl Config {
    /// Each rule in order: why it is the one of [`Config::choose`], or why not. `listener` names listeners.
    pub fn explain(&self, request: &RequestView<'_, '_>, listener: &dyn Fn(ListenerId) -> String) -> Vec<RuleTold> {
        let mut chosen = false;
        let tell = |rule: &Rule| {
            let asked = !chosen;
            let conditions = if asked { &rule.when[..] } else { &[] };
            let matches = asked.then(|| rule.matches(request));
            chosen |= matches == Some(true);
            RuleTold {
                name: rule.name.clone(),
                action: rule.action.text(),
                matches,
                conditions: conditions.iter().map(|condition| condition.explain(request, listener)).collect(),
            }
        };
        self.rules.iter().map(tell).collect()
    }
}

impl Action {
    /// In words.
    fn text(&self) -> String {
        match self {
            Action::Set(target) => {
                let Target { set, rewrite, .. } = &**target;
                match rewrite {
                    Rewrite::Article => format!("set {}", set.0),
                    Rewrite::Host => format!("set {}, keeping user and parameters", set.0),
                    Rewrite::None => format!("set {}, keeping the Request-URI", set.0),
                }
            }
            Action::Reply(reply) => format!("reply {} {}", reply.status, reply.reason),
            Action::Relay => "relay".to_owned(),
        }
    }
}

impl Condition {
    fn explain(&self, request: &RequestView<'_, '_>, listener: &dyn Fn(ListenerId) -> String) -> ConditionTold {
        let RequestView { message, source, listener: came_by } = *request;
        let one = |value: Option<&[u8]>| value.map(printable).into_iter().collect();
        let part = |key: &str, part: UriPart| format!("{key}.{}", if part == UriPart::User { "user" } else { "host" });
        let (key, wants, has) = match self {
            Condition::Method(methods) => {
                ("method".to_owned(), methods.join(", "), vec![printable(message.method().as_bytes())])
            }
            Condition::UserAgent(pattern) => ("user_agent".to_owned(), pattern.to_string(), one(message.user_agent())),
            Condition::Source(networks) => ("source".to_owned(), list(networks), vec![source.ip().to_string()]),
            Condition::Listener(ids) => {
                let wants: Vec<_> = ids.iter().map(|&id| listener(id)).collect();
                ("listener".to_owned(), wants.join(", "), vec![listener(came_by)])
            }
            Condition::RequestUri(of, pattern) => {
                (part("request_uri", *of), pattern.to_string(), of.value(Some(message.request_uri())))
            }
            Condition::From(of, pattern) => {
                (part("from", *of), pattern.to_string(), of.value(message.from().map(|from| from.uri)))
            }
            Condition::To(of, pattern) => {
                (part("to", *of), pattern.to_string(), of.value(message.to().map(|to| to.uri)))
            }
            Condition::Header(name, pattern) => {
                let has = message.headers(name.as_bytes()).map(printable).collect();
                (format!("header.{name}"), pattern.to_string(), has)
            }
        };
        ConditionTold { key, wants, has, holds: self.holds(request) }
    }
}

impl UriPart {
    /// What a pattern is compared with.
    fn value(self, uri: Option<&[u8]>) -> Vec<String> {
        let uri = uri.and_then(|uri| Uri::parse(uri).ok());
        let value = uri.map(|uri| match self {
            UriPart::User => printable(&Unescaped(user(&uri)).collect::<Vec<_>>()),
            UriPart::Host => match uri.host {
                Host::Name(_) if uri.scheme == Scheme::Tel => String::new(),
                Host::Name(name) => printable(name),
                Host::Ip(ip) => ip.to_string(),
            },
        });
        value.into_iter().collect()
    }
}

fn list(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
