//! Logs: lines to standard error that never hold anyone up. The one door of tracing-subscriber and tracing-appender.

use std::fmt;
use std::io::IsTerminal;

use thiserror::Error;
use tracing::{debug, info, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::engine::Event;

/// Lines that may wait for standard error before further ones are dropped: a few seconds of calls.
const QUEUE: usize = 32_768;

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
        Event::SetsReplaced(changes) => {
            info!(added = changes.added, removed = changes.removed, changed = changes.changed, "sets replaced");
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

fn subscriber(format: LogFormat, filter: EnvFilter, writer: NonBlocking, colour: bool) -> tracing::Dispatch {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(colour).into(),
        LogFormat::Json => builder.with_ansi(false).json().flatten_event(true).into(),
    }
}

/// A word that is neither a level nor `module=level` would be taken as a module's name and silence all others.
fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let fault = |problem: String| LogError::Filter { filter: text.to_owned(), problem };
    let words = text.split(',').map(str::trim);
    for word in words.filter(|word| !word.contains(['=', '['])) {
        if !["error", "warn", "info", "debug", "trace", "off"].iter().any(|level| word.eq_ignore_ascii_case(level)) {
            return Err(fault(format!("but {word:?} is no level")));
        }
    }
    EnvFilter::try_new(text).map_err(|source| fault(source.to_string()))
}
