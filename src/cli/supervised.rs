//! A node under a supervisor: it hears when the node serves, reads anew and leaves, and that it lives.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::error;

use crate::edge::http::ReloadOrder;
use crate::edge::notify::{Supervisor, Word};
use crate::server::Node;

/// How often it is told how the node is, where no watchdog is to be told oftener.
const LOOK: Duration = Duration::from_secs(10);
/// What a node needs beside its drain to end.
const TO_END: Duration = Duration::from_secs(10);

/// A node's supervisor; without one nothing is told to anybody.
pub(super) struct Supervised(Option<Supervisor>);

impl Supervised {
    pub(super) fn of_environment() -> Self {
        Supervised(Supervisor::of_environment())
    }

    fn tell(&self, word: Word) {
        if let Some(supervisor) = &self.0 {
            supervisor.tell(word);
        }
    }

    /// Tells that the node serves, then how it is, and that it lives, for as long as it does.
    pub(super) async fn watch(&self, node: &Node) -> Infallible {
        let Some(supervisor) = &self.0 else { return pending().await };
        let third = supervisor.watchdog().map(|limit| limit / 3);
        let period = third.map_or(LOOK, |third| third.min(LOOK));
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_told, mut last) = (false, String::new());
        loop {
            ticks.tick().await;
            // The engine's thread answers this: if it hangs, nobody else may say that the node lives. A late answer counts, so
            // that a thread which stood still for less than the limit is not ended after all.
            let asked = Instant::now();
            let mut answer = pin!(node.standing());
            let answer = loop {
                match timeout(period, &mut answer).await {
                    Ok(answer) => break answer,
                    Err(_) => {
                        let waited = asked.elapsed();
                        error!(?waited, "the engine's thread does not answer: the watchdog is told nothing");
                    }
                }
            };
            let Ok(standing) = answer else {
                error!("the engine's thread has ended: the watchdog is told nothing more");
                return pending().await;
            };
            if !is_told {
                is_told = true;
                supervisor.tell(Word::Ready);
            }
            if third.is_some() {
                supervisor.tell(Word::Alive);
            }
            if standing != last {
                supervisor.tell(Word::Status(standing.clone()));
                last = standing;
            }
        }
    }

    /// Reads the sets anew aside; the node tells its log how that went.
    pub(super) fn reload(&self, node: &Node, order: ReloadOrder) {
        self.tell(Word::Reloading);
        let (reload, supervisor) = (node.reload_aside(order), self.0.clone());
        tokio::spawn(async move {
            let _ = reload.await;
            if let Some(supervisor) = supervisor {
                supervisor.tell(Word::Ready);
            }
        });
    }

    /// Tells that the node leaves.
    pub(super) fn leaves(&self, node: &Node) {
        self.tell(Word::Stopping(node.longest_drain() + TO_END));
    }
}
