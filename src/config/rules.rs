//! `[[set]]`, `[[rule]]` and `[unroutable]`: who goes where.

use std::sync::Arc;
use std::time::Duration;

use super::listeners::Bound;
use super::probe::Asked;
use super::reader::Section;
use super::values::NETWORK;
use super::{capacity, health, probe, session, values};
use crate::engine::dispatch::{
    Algorithm, Failover, MOST_FAILOVERS, Policy, PriorityOrder, RetryOn, SetId, VerdictRule,
};
use crate::engine::route::{Action, Condition, Config, Pattern, Rewrite, Rule, Target, UriPart};
use crate::engine::sip::Reply;

/// What a condition compares with.
const PATTERN: &str = "a string, exact or a glob with * and ?";
/// A node tells its time once a second.
const VIEW_TTL: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3600));

/// Reads every `[[set]]`.
pub(super) fn read_sets(root: &Section<'_>, bound: &Bound) -> Vec<Policy> {
    let mut sets: Vec<Policy> = Vec::new();
    for section in &mut root.sections("set") {
        let set = section.number("id", 0..=i64::from(i32::MAX));
        if let Some(set) = set {
            section.rename(format!("set {set}"));
        }
        let policy = read_set(section, SetId(set.unwrap_or_default() as u32), bound);
        match set {
            None if section.has("id") => {}
            None => section.fault("it has no id: give the setid of its rows, as id = 19"),
            Some(_) if sets.iter().any(|other| other.set == policy.set) => {
                section.fault("there are two of it: put both into one [[set]]");
            }
            Some(_) => sets.push(policy),
        }
        section.finish();
    }
    sets
}

fn read_set(section: &Section<'_>, set: SetId, bound: &Bound) -> Policy {
    let algorithm = |text: &str| {
        let name = |one: &Algorithm| match one.number() {
            Some(number) => format!("{} ({number})", one.name()),
            None => one.name().to_owned(),
        };
        let all: Vec<_> = Algorithm::ALL.iter().map(name).collect();
        Algorithm::from_name_or_number(text).ok_or_else(|| format!("give one of {}", all.join(", ")))
    };
    let order = |text: &str| match text {
        "high_first" => Ok(PriorityOrder::HighFirst),
        "low_first" => Ok(PriorityOrder::LowFirst),
        _ => Err("give high_first or low_first".to_owned()),
    };
    let default = Policy::of(set);
    let judgement = health::read_judgement(section);
    let verdict = section.word("verdict", &VerdictRule::ALL.map(|rule| (rule.name(), rule))).unwrap_or_default();
    let Asked { probing, probing_instead, agent, agent_instead } =
        probe::read(section, &judgement.observe, verdict, bound);
    Policy {
        set,
        name: section.text("name", "a string", |text| Ok(text.to_owned())).unwrap_or_default(),
        algorithm: section.text("algorithm", "an algorithm's name or number", algorithm).unwrap_or_default(),
        priority_order: section.text("priority_order", r#""high_first" or "low_first""#, order).unwrap_or_default(),
        empty_reply: read_reply(&section.section("empty_reply"), default.empty_reply),
        failover: read_failover(section, default.failover),
        probing,
        probing_instead,
        agent,
        agent_instead,
        judgement,
        panic: health::read_panic(&section.section("panic")),
        capacity: capacity::read(&section.section("capacity"), set),
        session: session::read(&section.section("session")),
        attrs: capacity::read_attrs(&section.section("attrs")),
        verdict,
        max_out_percent: section
            .number("max_out_percent", 0..=100)
            .map_or(default.max_out_percent, |percent| percent as u8),
        view_ttl: section.duration_within("view_ttl", VIEW_TTL.0..=VIEW_TTL.1).unwrap_or(default.view_ttl),
    }
}

fn read_failover(section: &Section<'_>, default: Failover) -> Failover {
    let outcome = |text: &str| RetryOn::NONE.and(text).map(|_| text.to_owned()).map_err(|bad| bad.to_string());
    let retry_on = section
        .texts("retry_on", r#""timeout", "transport", a code or class of answers"#, outcome)
        .map_or(default.retry_on, |outcomes| {
            outcomes.iter().fold(RetryOn::NONE, |sum, outcome| sum.and(outcome).unwrap_or(sum))
        });
    let time = |key, otherwise| section.duration(key, Duration::from_millis(100)).unwrap_or(otherwise);
    let number =
        |key, most, otherwise: usize| section.number(key, 0..=most).map_or(otherwise, |number| number as usize);
    Failover {
        retry_on,
        first_response_timeout: time("first_response_timeout", default.first_response_timeout),
        final_timeout: time("final_timeout", default.final_timeout),
        max_retries: number("max_retries", MOST_FAILOVERS as i64, default.max_retries),
        retry_budget: number("retry_budget", 100, usize::from(default.retry_budget)) as u8,
        min_retry_concurrency: number("min_retry_concurrency", 1_000_000, default.min_retry_concurrency),
    }
}

pub(super) fn read_reply(section: &Section<'_>, default: Reply) -> Reply {
    let status = section.number("status", 300..=699).map(|status| status as u16);
    let reason = section.text("reason", "a line of text", values::reason);
    let retry_after = section.duration("retry_after", Duration::from_secs(1));
    section.finish();
    let same = status.is_none_or(|status| status == default.status);
    Reply {
        status: status.unwrap_or(default.status),
        reason: reason.unwrap_or_else(|| if same { default.reason } else { "Refused".into() }),
        retry_after: retry_after.or(default.retry_after),
    }
}

/// Reads every `[[rule]]` and `[unroutable]`.
pub(super) fn read(root: &Section<'_>, bound: &Bound) -> Config {
    let default = Config::default();
    let unroutable = read_reply(&root.section("unroutable"), default.unroutable);
    let mut rules = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for section in &mut root.sections("rule") {
        let name = section.text("name", "a name", values::name);
        match &name {
            Some(name) => section.rename(format!("rule {name:?}")),
            None if section.has("name") => {}
            None => section.fault("it has no name: give one, as name = \"tts\""),
        }
        let name = name.unwrap_or_default();
        if names.contains(&name) && !name.is_empty() {
            section.fault("there are two rules of that name: rename one");
        }
        names.push(name.clone());
        let when = read_conditions(section, bound);
        if let Some(action) = read_action(section, &when) {
            rules.push(Rule { name, when, action });
        }
        section.finish();
    }
    Config { rules, unroutable }
}

fn read_conditions(section: &Section<'_>, bound: &Bound) -> Vec<Condition> {
    let pattern = |text: &str| Ok(Pattern::new(text));
    let mut when = Vec::new();
    when.extend(section.texts("method", "a method", values::token).map(Condition::Method));
    when.extend(section.text("user_agent", PATTERN, pattern).map(Condition::UserAgent));
    when.extend(section.texts("source", NETWORK, values::network).map(Condition::Source));
    let listeners = section.texts("listener", "the bind of a listener", |text| bound.named(text));
    when.extend(listeners.map(|ids| Condition::Listener(ids.into_iter().flatten().collect())));
    type OfPart = fn(UriPart, Pattern) -> Condition;
    let parts: [(_, OfPart); 3] =
        [("request_uri", Condition::RequestUri), ("from", Condition::From), ("to", Condition::To)];
    for (key, condition) in parts {
        let uri = section.section(key);
        when.extend(uri.text("user", PATTERN, pattern).map(|pattern| condition(UriPart::User, pattern)));
        when.extend(uri.text("host", PATTERN, pattern).map(|pattern| condition(UriPart::Host, pattern)));
        uri.finish();
    }
    for (name, pattern) in section.section("header").entries(PATTERN, pattern) {
        match values::token(&name) {
            Ok(name) => when.push(Condition::Header(name, pattern)),
            Err(remedy) => section.fault_at("header", &format!("{name:?} is no header's name: {remedy}")),
        }
    }
    when
}

fn read_action(section: &Section<'_>, when: &[Condition]) -> Option<Action> {
    let set = section.number("set", 0..=i64::from(i32::MAX)).map(|set| SetId(set as u32));
    let relay = section.flag("relay").unwrap_or(false);
    let reply = section.section("reply");
    let rewrite = section.text("rewrite", r#""article" or "host" or "none""#, |text| match text {
        "article" => Ok(Rewrite::Article),
        "host" => Ok(Rewrite::Host),
        "none" => Ok(Rewrite::None),
        _ => Err("give article (sip:host:port), host (keeps user and parameters) or none".to_owned()),
    });
    let params = section.text("record_route_params", "URI parameters", values::uri_params);
    let actions = usize::from(set.is_some()) + usize::from(relay) + usize::from(reply.is_present());
    if actions != 1 {
        let has = if actions == 0 { "no action".to_owned() } else { format!("{actions} actions") };
        section.fault(&format!("it has {has}: give one, set = NUMBER, reply = {{ status, reason }} or relay = true"));
        return None;
    }
    if set.is_none() && (rewrite.is_some() || params.is_some()) {
        section.fault("rewrite and record_route_params belong to a rule with a set: drop them");
    }
    if let Some(set) = set {
        let (rewrite, record_route_params) = (rewrite.unwrap_or_default(), params.unwrap_or_default());
        return Some(Action::Set(Arc::new(Target { set, rewrite, record_route_params })));
    }
    if relay {
        let named =
            |condition: &Condition| matches!(condition, Condition::Source(_) | Condition::RequestUri(UriPart::Host, _));
        if !when.iter().any(named) {
            section.fault("relay = true would make an open relay: add source or request_uri.host");
        }
        return Some(Action::Relay);
    }
    Some(Action::Reply(read_reply(&reply, Reply::new(403, "Forbidden"))))
}
