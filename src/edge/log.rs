//! Logs: lines to standard error that never hold anyone up. The one door of tracing-subscriber and tracing-appender.

use std::fmt;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tracing::{debug, info, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::edge::moment::Moment;
use crate::engine::Event;
use crate::engine::dispatch::{AgentWord, AtDeadline, Distrust, DistrustOrder, Health, NotDistrusted};
use crate::engine::event::{AgentChange, EndOrder, HealthChange, NotEnded, Record, Which};
use crate::engine::explain::Fate;
use crate::engine::trace::{Packet, Step, TraceOrder, What};

/// Lines that may wait for standard error before further ones are dropped: a few seconds of calls.
const QUEUE: usize = 32_768;

/// What a filter may ask for.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// What a line looks like.
    pub format: LogFormat,
    /// A level, or levels by module as in `info,tandem::engine=debug`.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { format: LogFormat::default(), filter: "info".to_owned() }
    }
}

/// Why logging could not start.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter is none.
    #[error(
        "log filter is {filter:?}, {problem}: give a level (error, warn, info, debug, trace or off) or module=level"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Logging was started before in this process.
    #[error("logging was started twice in one process: start it once")]
    Twice {
        /// What tracing said.
        source: TryInitError,
    },
}

/// Keeps the thread that writes; waiting lines are written when it is dropped.
pub struct LogGuard {
    dropped: ErrorCounter,
    _worker: WorkerGuard,
}

impl LogGuard {
    /// Lines dropped so far because standard error was too slow.
    pub fn dropped(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

impl fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogGuard").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

impl LogConfig {
    /// Checks the filter without starting anything.
    ///
    /// # Errors
    /// [`LogError::Filter`].
    pub fn check(&self) -> Result<(), LogError> {
        filter(&self.filter).map(drop)
    }
}

/// Starts logging for the whole process. Lines are dropped and counted rather than waited for.
///
/// # Errors
/// [`LogError`] if the filter is none or logging was started before.
pub fn start(config: &LogConfig) -> Result<LogGuard, LogError> {
    let filter = filter(&config.filter)?;
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    subscriber(config.format, filter, writer, std::io::stderr().is_terminal())
        .try_init()
        .map_err(|source| LogError::Twice { source })?;
    Ok(LogGuard { dropped, _worker: worker })
}

/// Whether the filter lets the lines of each call through: if not, nobody need gather what stands in them.
pub fn tells_calls() -> bool {
    tracing::enabled!(tracing::Level::INFO)
}

/// Tells people of an engine's event, one line for each.
pub fn report(event: &Event) {
    match event {
        Event::Call(call) => {
            let message = if call.rule.is_some() { "call routed" } else { "call matches no rule" };
            info!(
                call_id = call.call_id,
                user_agent = call.user_agent,
                from = call.from,
                to = call.to,
                request_uri = call.request_uri,
                source = %call.source,
                media = call.media.join(", "),
                rule = call.rule,
                set = call.set.map(|set| set.0),
                destination = call.destination,
                "{message}"
            );
        }
        Event::SetEmpty { set, call_id } => warn!(set = set.0, call_id, "set has no fit destination"),
        Event::Session(record) => report_session(record),
        Event::Distrusted { order, done } => report_distrust(order, done),
        Event::EndOrdered { order, ended } => report_end(order, ended),
        // Told where it is known whether a story begins with it.
        Event::Traced(_) => {}
        Event::TraceOrdered { order: TraceOrder { call_id, by, reason, time }, done } => match done {
            Ok(()) => info!(call_id, by, reason, time = ?time, "call is traced by order"),
            Err(cause) => warn!(call_id, by, reason, %cause, "call to be traced in vain"),
        },
        Event::SetsReplaced(changes) => {
            info!(added = changes.added, removed = changes.removed, changed = changes.changed, "sets replaced");
        }
        Event::Health(change) => report_health(change),
        Event::Agent(change) => report_agent(change),
        Event::Ordered { set, uri, address, old, standing, sessions } => info!(
            set = set.0,
            destination = uri,
            address = elsewhere(uri, *address),
            order = standing.order.name(),
            was = old.name(),
            by = standing.by,
            reason = standing.reason,
            then_end = standing.ends_sessions().then_some(true),
            sessions,
            "order given"
        ),
        Event::OrderedInVain(unknown) => warn!(cause = %unknown, "order given in vain"),
        Event::Draining { set, uri, address, sessions, late: Some(then) } => {
            let address = elsewhere(uri, *address);
            let message = match then {
                AtDeadline::Tell => "destination still has sessions at its deadline",
                AtDeadline::End => "destination still has sessions at its deadline: they are ended",
            };
            warn!(set = set.0, destination = uri, address, sessions, "{message}");
        }
        Event::Draining { set, uri, address, sessions, late: None } => {
            let address = elsewhere(uri, *address);
            info!(set = set.0, destination = uri, address, sessions, "destination still has sessions");
        }
        Event::Drained { set, uri, address } => {
            let address = elsewhere(uri, *address);
            info!(set = set.0, destination = uri, address, "destination has no session left");
        }
        Event::Dropped { cause, flow } => {
            debug!(
                cause = cause.name(),
                source = %flow.peer,
                transport = flow.transport.name(),
                listener = flow.listener.0,
                "message dropped"
            );
        }
    }
}

/// Tells people of a step of a call that is told of.
pub fn report_step(step: &Step) {
    let Step { call_id, what, .. } = step;
    let lines = |packet: &Packet| (packet.flow.peer, packet.listener.clone(), packet.line.clone());
    match what {
        What::Came(packet) => {
            let (peer, listener, line) = lines(packet);
            info!(call_id, %peer, listener, line, "message came");
        }
        What::Left(packet) => {
            let (peer, listener, line) = lines(packet);
            info!(call_id, %peer, listener, line, "message sent");
        }
        What::Lost { packet, why } => {
            let (peer, listener, line) = lines(packet);
            info!(call_id, %peer, listener, line, cause = why.text(), "message lost");
        }
        What::Decided(told) => {
            let rule = told.rules.iter().find(|rule| rule.matches == Some(true)).map(|rule| &rule.name);
            info!(call_id, rule, decision = in_words(&told.fate), "call decided");
        }
    }
}

fn in_words(fate: &Fate) -> String {
    match fate {
        Fate::Sent { set, tries, most } => {
            let uris: Vec<_> = tries.iter().filter(|one| one.way.is_some()).map(|one| one.uri.as_str()).collect();
            format!("set {}: {}", set.0, uris[..uris.len().min(*most)].join(", then "))
        }
        Fate::Relayed { peer, why, .. } => format!("to {peer}: {why}"),
        Fate::LookedUp { name, why } => format!("to {name}, once it is looked up: {why}"),
        Fate::Answered { status, reason, why, .. } => format!("{status} {reason}: {why}"),
        Fate::Ends { why } => why.clone(),
    }
}

fn report_session(record: &Record) {
    let codes: Vec<_> = record.codes.iter().map(u16::to_string).collect();
    let seconds = |length: Duration| format!("{:.3}s", length.as_secs_f64());
    info!(
        set = record.set.0,
        destination = record.destination,
        address = record.address.and_then(|address| elsewhere(record.destination.as_deref().unwrap_or(""), address)),
        call_id = record.call_id,
        codes = (!codes.is_empty()).then(|| codes.join(", ")),
        began = Moment(record.began).to_string(),
        setup = record.answered_after.map(seconds),
        duration = seconds(record.lasted),
        ending = record.ending.name(),
        "session over"
    );
}

fn report_health(change: &HealthChange) {
    let HealthChange { set, uri, address, old, new, lasted, why, cause } = change;
    let (set, address, was, why) = (set.0, elsewhere(uri, *address), old.name(), why.to_string());
    let lasted = format!("{:.1}s", lasted.as_secs_f64());
    // What was seen last; what time alone has changed has no cause.
    let seen = cause.map(|seen| (seen.outcome.name(), seen.witness.name()));
    let (cause, witness) = (seen.as_ref().map(|(cause, _)| cause.as_str()), seen.as_ref().map(|(_, witness)| *witness));
    match new {
        Health::Down => warn!(set, destination = uri, address, why, cause, witness, was, lasted, "destination down"),
        Health::Up => info!(set, destination = uri, address, why, cause, witness, was, lasted, "destination up"),
        Health::Busy => info!(set, destination = uri, address, why, cause, witness, was, lasted, "destination busy"),
        Health::Unknown => {
            info!(set, destination = uri, address, why, cause, witness, was, lasted, "destination unknown");
        }
    }
}

fn report_distrust(order: &DistrustOrder, done: &Result<(), NotDistrusted>) {
    let DistrustOrder { set, uri, distrust, by, reason, .. } = order;
    let (set, destination) = (set.0, uri);
    match (done, distrust) {
        (Ok(()), Distrust::Down) => info!(set, destination, by, reason, "held for down by order"),
        (Ok(()), Distrust::OnTrial) => info!(set, destination, by, reason, "put on trial by order"),
        (Err(cause), _) => warn!(set, destination, by, reason, %cause, "to be held for failed in vain"),
    }
}

fn report_end(order: &EndOrder, ended: &Result<u64, NotEnded>) {
    let EndOrder { which, by, reason } = order;
    let (call_id, set, destination) = match which {
        Which::Call(call_id) => (Some(call_id), None, None),
        Which::Destination { set, uri } => (None, Some(set.0), Some(uri)),
    };
    match ended {
        Ok(sessions) => info!(call_id, set, destination, by, reason, sessions, "sessions ended by order"),
        Err(cause) => warn!(call_id, set, destination, by, reason, %cause, "sessions to be ended in vain"),
    }
}

/// That it takes calls or takes none is told, how many it wants only to who asks for more: that may change every few seconds.
fn report_agent(change: &AgentChange) {
    let AgentChange { set, uri, address, old, new } = change;
    let (set, address, was) = (set.0, elsewhere(uri, *address), old.refusal().map(AgentWord::name));
    let Some(new) = new else {
        info!(
            set,
            destination = uri,
            address,
            was,
            "destination's agent is silent: what it said does not hold any more"
        );
        return;
    };
    let (share, sessions) = (new.share, new.sessions);
    match (old.refusal(), new.refusal()) {
        (old, new) if old == new => {
            debug!(set, destination = uri, address, share, sessions, "destination's agent wants another share");
        }
        (_, Some(word)) => {
            let (agent, reason) = (word.name(), &new.reason);
            info!(set, destination = uri, address, agent, reason, "destination's agent wants no calls");
        }
        (_, None) => {
            info!(set, destination = uri, address, share, sessions, was, "destination's agent wants calls again");
        }
    }
}

/// The address of a destination whose URI does not name it.
fn elsewhere(uri: &str, address: SocketAddr) -> Option<String> {
    let address = address.to_string();
    (!uri.contains(&address)).then_some(address)
}

fn subscriber(format: LogFormat, filter: EnvFilter, writer: NonBlocking, colour: bool) -> tracing::Dispatch {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(colour).into(),
        LogFormat::Json => builder.with_ansi(false).json().flatten_event(true).into(),
    }
}

/// Stricter than tracing, which takes a word that is no level as a module's name and silences all others.
fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let fault = |problem: String| LogError::Filter { filter: text.to_owned(), problem };
    let words: Vec<_> = text.split(',').map(str::trim).collect();
    for word in &words {
        let level = word.rsplit_once('=').map_or(*word, |(_, level)| level);
        if !LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known)) {
            return Err(fault(format!("but {level:?} is no level")));
        }
    }
    EnvFilter::try_new(words.join(",")).map_err(|source| fault(source.to_string()))
}

/// For tests that read the log.
#[cfg(test)]
pub(crate) fn plain<W: std::io::Write + 'static>(
    writer: impl Fn() -> W + Send + Sync + 'static,
) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc;

    use super::*;
    use std::time::SystemTime;

    use crate::engine::dispatch::{
        Meaning, NoSuchDestination, Observation, Order, Outcome, SetId, Standing, Why, Wish, Witness,
    };
    use crate::engine::event::{Call, Changes, DropCause, Ending, NotOurs};
    use crate::engine::flow::{ConnectionId, Flow, ListenerId, Transport};

    /// Hands each written line over.
    struct Lines(mpsc::Sender<String>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that reporting `events` makes.
    fn lines(config: &LogConfig, events: &[Event]) -> Vec<String> {
        let (sender, receiver) = mpsc::channel();
        let (writer, worker) = NonBlockingBuilder::default().finish(Lines(sender));
        let dispatch = subscriber(config.format, filter(&config.filter).expect("a filter"), writer, false);
        tracing::dispatcher::with_default(&dispatch, || events.iter().for_each(report));
        drop(dispatch);
        drop(worker);
        receiver.iter().collect()
    }

    fn call() -> Call {
        Call {
            call_id: "a@b".to_owned(),
            user_agent: "OPENSIPS_TTS_MRCP_CLIENT".to_owned(),
            from: "<sip:10.0.0.2:5072>;tag=1".to_owned(),
            to: "<sip:127.0.0.1:8060>".to_owned(),
            request_uri: "sip:127.0.0.1:8060".to_owned(),
            source: "10.0.0.2:5072".parse().expect("an address"),
            media: vec!["m=application 9 TCP/MRCPv2 1".to_owned(), "m=audio 4000 RTP/AVP 0".to_owned()],
            rule: Some("tts".to_owned()),
            set: Some(SetId(19)),
            destination: Some("sip:10.129.39.88:7010".to_owned()),
        }
    }

    fn json(filter: &str) -> LogConfig {
        LogConfig { format: LogFormat::Json, filter: filter.to_owned() }
    }

    #[test]
    fn a_call_is_one_info_line_with_the_article_s_fields() {
        let lines = lines(&json("info"), &[Event::Call(Box::new(call()))]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "call routed");
        for (field, value) in [
            ("call_id", "a@b"),
            ("user_agent", "OPENSIPS_TTS_MRCP_CLIENT"),
            ("from", "<sip:10.0.0.2:5072>;tag=1"),
            ("to", "<sip:127.0.0.1:8060>"),
            ("request_uri", "sip:127.0.0.1:8060"),
            ("source", "10.0.0.2:5072"),
            ("media", "m=application 9 TCP/MRCPv2 1, m=audio 4000 RTP/AVP 0"),
            ("rule", "tts"),
            ("destination", "sip:10.129.39.88:7010"),
        ] {
            assert_eq!(line[field], value, "{field}");
        }
        assert_eq!(line["set"], 19);
    }

    #[test]
    fn a_call_without_a_rule_says_so_and_leaves_fields_out() {
        let call = Call { rule: None, set: None, destination: None, ..call() };
        let lines = lines(&json("info"), &[Event::Call(Box::new(call))]);
        let line: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert_eq!(line["message"], "call matches no rule");
        assert!(line.get("rule").is_none() && line.get("set").is_none() && line.get("destination").is_none());
    }

    #[test]
    fn a_caller_cannot_write_lines_of_his_own() {
        let call = Call { user_agent: "x\r\n2026 INFO forged \u{1b}[2J".to_owned(), ..call() };
        for format in [LogFormat::Text, LogFormat::Json] {
            let config = LogConfig { format, ..LogConfig::default() };
            let lines = lines(&config, &[Event::Call(Box::new(call.clone()))]);
            let text = lines.concat();
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(!text.contains(['\r', '\u{1b}']), "{text:?}");
        }
    }

    #[test]
    fn each_event_has_its_level() {
        let flow = Flow {
            listener: ListenerId(0),
            transport: Transport::Udp,
            peer: "10.0.0.2:5072".parse().expect("an address"),
            connection: ConnectionId(0),
        };
        let events = [
            Event::SetEmpty { set: SetId(19), call_id: "a@b".to_owned() },
            Event::SetsReplaced(Changes { added: 2, removed: 1, changed: 0 }),
            Event::Dropped { cause: DropCause::NotSip, flow },
        ];
        let text = LogConfig { filter: "trace".to_owned(), ..LogConfig::default() };
        let all = lines(&text, &events);
        for (line, words) in all.iter().zip([
            ["WARN", "set=19", "call_id=\"a@b\""],
            ["INFO", "sets replaced", "added=2 removed=1 changed=0"],
            ["DEBUG", "cause=\"not_sip\"", "source=10.0.0.2:5072"],
        ]) {
            assert!(words.iter().all(|word| line.contains(word)), "{line:?} has {words:?}");
        }
        assert_eq!(all.len(), 3);
        assert_eq!(lines(&LogConfig::default(), &events).len(), 2);
        assert_eq!(lines(&LogConfig { filter: "off".to_owned(), ..text }, &events).len(), 0);
    }

    #[test]
    fn a_destination_that_goes_down_tells_why_by_what_and_after_how_long() {
        let seen = Observation {
            at: SystemTime::UNIX_EPOCH,
            witness: Witness::Options,
            outcome: Outcome::TimedOut,
            meaning: Meaning::Fall,
            latency: Duration::from_secs(2),
        };
        let down = HealthChange {
            set: SetId(19),
            uri: "sip:10.129.39.88:7010".to_owned(),
            address: "10.129.39.88:7010".parse().expect("an address"),
            old: Health::Up,
            new: Health::Down,
            lasted: Duration::from_millis(90_250),
            why: Why::ProbesFailed { witness: Witness::Options, failures: 2 },
            cause: Some(seen),
        };
        let tried = HealthChange {
            uri: "sip:tts.example.net".to_owned(),
            old: Health::Down,
            new: Health::Unknown,
            why: Why::HalfOpen { trial: false },
            cause: None,
            ..down.clone()
        };
        let lines = lines(&LogConfig::default(), &[down, tried].map(|change| Event::Health(Box::new(change))));
        for (line, words) in lines.iter().zip([
            "WARN destination down set=19 destination=\"sip:10.129.39.88:7010\" \
             why=\"2 probes in a row failed (options)\" cause=\"timeout\" witness=\"options\" was=\"up\" lasted=\"90.2s\"\n",
            "INFO destination unknown set=19 destination=\"sip:tts.example.net\" address=\"10.129.39.88:7010\" \
             why=\"calls failed before: the next call tries it\" was=\"down\" lasted=\"90.2s\"\n",
        ]) {
            assert!(line.ends_with(words), "{line}{words}");
        }
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_session_that_is_over_is_one_info_line_for_people_and_for_programs() {
        let over = Record {
            call_id: "a@b".to_owned(),
            set: SetId(19),
            destination: Some("sip:10.129.39.88:7011".to_owned()),
            address: "10.129.39.88:7011".parse().ok(),
            codes: vec![408, 200],
            began: SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_127_257_250),
            answered_after: Some(Duration::from_micros(2_012_400)),
            lasted: Duration::from_millis(34_417),
            ending: Ending::CallerBye,
        };
        let empty = Record {
            call_id: "x\r\n2026 INFO forged".to_owned(),
            destination: None,
            address: None,
            codes: Vec::new(),
            answered_after: None,
            lasted: Duration::ZERO,
            ending: Ending::Empty,
            ..over.clone()
        };
        let events = [over, empty].map(|record| Event::Session(Box::new(record)));
        let text = lines(&LogConfig::default(), &events);
        for (line, words) in text.iter().zip([
            "INFO session over set=19 destination=\"sip:10.129.39.88:7011\" call_id=\"a@b\" codes=\"408, 200\" \
             began=\"2025-11-26T03:20:57.250Z\" setup=\"2.012s\" duration=\"34.417s\" ending=\"caller_bye\"\n",
            "INFO session over set=19 call_id=\"x\\r\\n2026 INFO forged\" \
             began=\"2025-11-26T03:20:57.250Z\" duration=\"0.000s\" ending=\"empty\"\n",
        ]) {
            assert!(line.ends_with(words), "{line}{words}");
        }
        assert_eq!(text.len(), 2);
        let json = lines(&json("info"), &events);
        let line: serde_json::Value = serde_json::from_str(&json[0]).expect("JSON");
        assert_eq!(
            (&line["message"], &line["set"], &line["ending"]),
            (&"session over".into(), &19.into(), &"caller_bye".into())
        );
        assert_eq!(lines(&LogConfig { filter: "warn".to_owned(), ..LogConfig::default() }, &events).len(), 0);
    }

    #[test]
    fn an_order_tells_who_why_and_how_many_sessions_are_left() {
        let (set, uri) = (SetId(19), "sip:10.129.39.88:7010".to_owned());
        let address = "10.129.39.88:7010".parse().expect("an address");
        let standing = Standing {
            order: Order::Drain,
            by: "alice".to_owned(),
            reason: "new model".to_owned(),
            at: SystemTime::UNIX_EPOCH,
            deadline: None,
        };
        let vain = NoSuchDestination { set: SetId(20), uri: "sip:nobody".to_owned() };
        let events = [
            Event::Ordered { set, uri: uri.clone(), address, old: Order::Ready, standing, sessions: 3 },
            Event::Draining { set, uri: uri.clone(), address, sessions: 2, late: None },
            Event::Draining { set, uri: uri.clone(), address, sessions: 1, late: Some(AtDeadline::Tell) },
            Event::Draining { set, uri: uri.clone(), address, sessions: 1, late: Some(AtDeadline::End) },
            Event::Drained { set, uri, address },
            Event::OrderedInVain(vain.into()),
        ];
        let lines = lines(&LogConfig::default(), &events);
        for (line, words) in lines.iter().zip([
            "INFO order given set=19 destination=\"sip:10.129.39.88:7010\" order=\"drain\" was=\"ready\" by=\"alice\" \
             reason=\"new model\" sessions=3\n",
            "INFO destination still has sessions set=19 destination=\"sip:10.129.39.88:7010\" sessions=2\n",
            "WARN destination still has sessions at its deadline set=19 destination=\"sip:10.129.39.88:7010\" sessions=1\n",
            "WARN destination still has sessions at its deadline: they are ended set=19 \
             destination=\"sip:10.129.39.88:7010\" sessions=1\n",
            "INFO destination has no session left set=19 destination=\"sip:10.129.39.88:7010\"\n",
            "WARN order given in vain cause=set 20 has no destination sip:nobody\n",
        ]) {
            assert!(line.ends_with(words), "{line}{words}");
        }
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn whoever_holds_a_destination_for_failed_is_told_with_the_reason() {
        let (set, uri) = (SetId(19), "sip:10.129.39.88:7010".to_owned());
        let order = |distrust| {
            let (by, reason) = ("mi".to_owned(), "ds_set_state".to_owned());
            DistrustOrder { set, uri: uri.clone(), distrust, by, reason, guarded: false }
        };
        let unwatched = NotDistrusted::Unwatched { set, uri: uri.clone() };
        let events = [
            Event::Distrusted { order: order(Distrust::Down), done: Ok(()) },
            Event::Distrusted { order: order(Distrust::OnTrial), done: Ok(()) },
            Event::Distrusted { order: order(Distrust::Down), done: Err(unwatched) },
        ];
        let lines = lines(&LogConfig::default(), &events);
        let who = "set=19 destination=\"sip:10.129.39.88:7010\" by=\"mi\" reason=\"ds_set_state\"";
        for (line, words) in lines.iter().zip([
            format!("INFO held for down by order {who}\n"),
            format!("INFO put on trial by order {who}\n"),
            format!(
                "WARN to be held for failed in vain {who} cause=nothing would find that sip:10.129.39.88:7010 of set 19 works: \
                 probe the set, let it observe its calls, or give maint\n"
            ),
        ]) {
            assert!(line.ends_with(&words), "{line}{words}");
        }
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn whoever_ends_sessions_is_told_with_the_reason_and_what_came_of_it() {
        let order = |which| EndOrder { which, by: "alice".to_owned(), reason: "stuck".to_owned() };
        let (set, uri) = (SetId(19), "sip:10.129.39.88:7010".to_owned());
        let call = order(Which::Call("a@b".to_owned()));
        let parked = NotEnded::NotOurs { call_id: "a@b".to_owned(), why: NotOurs::Parked };
        let events = [
            Event::EndOrdered { order: call.clone(), ended: Ok(1) },
            Event::EndOrdered { order: order(Which::Destination { set, uri }), ended: Ok(7) },
            Event::EndOrdered { order: call, ended: Err(parked) },
        ];
        let lines = lines(&LogConfig::default(), &events);
        for (line, words) in lines.iter().zip([
            "INFO sessions ended by order call_id=\"a@b\" by=\"alice\" reason=\"stuck\" sessions=1\n",
            "INFO sessions ended by order set=19 destination=\"sip:10.129.39.88:7010\" by=\"alice\" reason=\"stuck\" sessions=7\n",
            "WARN sessions to be ended in vain call_id=\"a@b\" by=\"alice\" reason=\"stuck\" cause=the session with the Call-ID \
             a@b can't be ended here: it is parked: another node holds the address that its caller came by\n",
        ]) {
            assert!(line.ends_with(words), "{line}{words}");
        }
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn an_agents_refusal_is_told_with_its_reason_and_its_share_only_to_who_asks_for_more() {
        let refusing = Wish { state: Some(AgentWord::Stopped), reason: "by hand\n".to_owned(), ..Wish::default() };
        let half = Wish { share: 50, sessions: Some(30), ..Wish::default() };
        let steps = [Wish::default(), half.clone(), refusing, half].map(Some);
        let steps = [&steps[..], &[None]].concat();
        let (set, uri) = (SetId(19), "sip:10.129.39.88:7010".to_owned());
        let address = "10.129.39.88:7010".parse().expect("an address");
        let change = |step: &[Option<Wish>]| {
            let (uri, old, new) = (uri.clone(), step[0].clone().unwrap_or_default(), step[1].clone());
            Event::Agent(Box::new(AgentChange { set, uri, address, old, new }))
        };
        let events: Vec<_> = steps.windows(2).map(change).collect();
        let trace = LogConfig { filter: "trace".to_owned(), ..LogConfig::default() };
        let all = lines(&trace, &events);
        for (line, words) in all.iter().zip([
            "DEBUG destination's agent wants another share set=19 destination=\"sip:10.129.39.88:7010\" share=50 sessions=30\n",
            "INFO destination's agent wants no calls set=19 destination=\"sip:10.129.39.88:7010\" agent=\"stopped\" \
             reason=\"by hand\\n\"\n",
            "INFO destination's agent wants calls again set=19 destination=\"sip:10.129.39.88:7010\" share=50 sessions=30 \
             was=\"stopped\"\n",
            "INFO destination's agent is silent: what it said does not hold any more set=19 \
             destination=\"sip:10.129.39.88:7010\"\n",
        ]) {
            assert!(line.ends_with(words), "{line}{words}");
        }
        assert_eq!((all.len(), lines(&LogConfig::default(), &events).len()), (4, 3));
    }

    #[test]
    fn a_filter_that_would_silence_everything_is_refused() {
        for bad in ["inof", "", "info,tandem", "tandem=loud", "tandem::engine=", "[", "3"] {
            let config = LogConfig { filter: bad.to_owned(), ..LogConfig::default() };
            let fault = config.check().map_err(|fault| fault.to_string());
            assert!(fault.as_ref().is_err_and(|text| text.contains("give a level")), "{bad:?}: {fault:?}");
        }
        for good in ["info", "WARN", "info,tandem::engine=debug", "off, tandem=trace", "[call]=debug"] {
            let config = LogConfig { filter: good.to_owned(), ..LogConfig::default() };
            assert!(config.check().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_slow_reader_costs_lines_and_they_are_counted() {
        /// Takes nothing until it is told to.
        struct Stuck(mpsc::Receiver<()>);

        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        let (go, stuck) = mpsc::channel();
        let (writer, worker) = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(4).finish(Stuck(stuck));
        let guard = LogGuard { dropped: writer.error_counter(), _worker: worker };
        let dispatch = subscriber(LogFormat::Text, filter("info").expect("a filter"), writer, false);
        tracing::dispatcher::with_default(&dispatch, || {
            (0..20).for_each(|_| report(&Event::SetsReplaced(Changes::default())));
        });
        // Four wait, and the writer may hold one more.
        assert!((15..=16).contains(&guard.dropped()), "{guard:?}");
        drop(go);
    }

    #[test]
    fn logging_starts_once() {
        let first = start(&LogConfig::default());
        let second = start(&LogConfig::default());
        assert!(first.is_ok(), "{first:?}");
        assert!(second.is_err_and(|fault| fault.to_string().contains("twice")));
        assert!(matches!(
            start(&LogConfig { filter: "inof".to_owned(), ..LogConfig::default() }),
            Err(LogError::Filter { .. })
        ));
    }
}
