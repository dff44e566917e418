//! PostgreSQL's LISTEN: a connection of its own that waits for somebody's NOTIFY.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::StoreError;
use crate::edge::retry::Retry;

/// The pauses between tries to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// One channel that is listened to.
pub(super) struct Listening {
    channel: String,
    state: Mutex<State>,
}

struct State {
    listener: Option<PgListener>,
    retry: Retry,
    /// Not before then is the next try.
    due: Instant,
    /// Why the last one failed.
    cause: String,
}

impl Listening {
    pub(super) fn new(channel: &str) -> Self {
        let state =
            State { listener: None, retry: Retry::new(RETRY.0, RETRY.1), due: Instant::now(), cause: String::new() };
        Listening { channel: channel.to_owned(), state: Mutex::new(state) }
    }

    /// Waits for a notification, or until it listens anew: what was notified meanwhile nobody has heard. May be dropped and
    /// called again at any time; what came in between is not lost.
    pub(super) async fn changed(
        &self,
        options: impl Fn() -> Result<PgConnectOptions, StoreError>,
        limit: Duration,
        database: &str,
    ) {
        let mut state = self.state.lock().await;
        loop {
            let Some(listener) = &mut state.listener else {
                if self.connect(&mut state, &options, limit, database).await {
                    return;
                }
                continue;
            };
            match listener.try_recv().await {
                Ok(Some(_)) => {
                    // One look at the rows answers all that have come.
                    while listener.next_buffered().is_some() {}
                    return;
                }
                Ok(None) => warn!(%database, channel = self.channel, "notifications are lost: it listens anew"),
                Err(error) => {
                    warn!(%database, channel = self.channel, cause = %error, "notifications are lost: it listens anew");
                }
            }
            state.listener = None;
        }
    }

    /// Tries once, when it is time; whether it listens now.
    async fn connect(
        &self,
        state: &mut State,
        options: impl Fn() -> Result<PgConnectOptions, StoreError>,
        limit: Duration,
        database: &str,
    ) -> bool {
        sleep_until(state.due).await;
        state.due = Instant::now() + state.retry.next_pause();
        let cause = match options() {
            Err(error) => error.to_string(),
            Ok(options) => match timeout(limit, listener(options, &self.channel, limit)).await {
                Ok(Ok(listener)) => {
                    info!(%database, channel = self.channel, "listening for changes");
                    state.listener = Some(listener);
                    state.retry = Retry::new(RETRY.0, RETRY.1);
                    state.cause.clear();
                    return true;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {limit:?}"),
            },
        };
        if cause != state.cause {
            warn!(%database, channel = self.channel, %cause, "can't listen for changes: it is tried again");
            state.cause = cause;
        }
        false
    }
}

async fn listener(options: PgConnectOptions, channel: &str, limit: Duration) -> Result<PgListener, sqlx::Error> {
    // A pool of one, since the driver's listener asks for a pool; its time is shorter, so that it tells its own cause.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(limit.mul_f64(0.8))
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    // We reconnect ourselves, with pauses, and want to know it.
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    Ok(listener)
}
