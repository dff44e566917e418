//! What destinations and their agents are asked by other means than SIP: many at once, each with its outcome or none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tracing::warn;

use super::Asked;
use super::node::Shared;
use crate::edge::{check, descriptors};
use crate::engine::dispatch::LONGEST_LINE;

/// Checks at once, at most: each holds a descriptor.
const MOST_AT_ONCE: usize = 1000;
/// How long one waits for its turn: the engine grants a second beside the time that the destination has.
const WAIT_FOR_TURN: Duration = Duration::from_millis(500);

impl Shared {
    /// Asks what the engine wants asked.
    pub(super) async fn check(self: Arc<Self>, mut asked: mpsc::Receiver<Asked>, mut stopped: watch::Receiver<bool>) {
        let turns = Arc::new(Semaphore::new(at_once(descriptors::limit())));
        loop {
            let asked = tokio::select! {
                asked = asked.recv() => asked,
                _ = stopped.changed() => return,
            };
            let Some(asked) = asked else { return };
            tokio::spawn(Arc::clone(&self).ask(asked, Arc::clone(&turns)));
        }
    }

    async fn ask(self: Arc<Self>, asked: Asked, turns: Arc<Semaphore>) {
        // Whoever can't have its turn has not been asked: that says nothing of it.
        let turn = match timeout(WAIT_FOR_TURN, turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err("as many others are under way as may be (ulimit -n)".to_owned()),
        };
        let _ = match asked {
            Asked::Check { id, target, timeout: patience } => {
                let outcome = match turn {
                    Ok(_turn) => check::ask(&target, patience).await.map_err(|error| error.to_string()),
                    Err(cause) => Err(cause),
                };
                match outcome {
                    Ok(outcome) => self.handle.checked(id, outcome).await,
                    Err(cause) => {
                        let told = self.handle.unchecked(id).await;
                        self.warn(&target, &cause);
                        told
                    }
                }
            }
            Asked::Agent { id, address, path, timeout: patience } => {
                let said = match turn {
                    Ok(_turn) => {
                        let heard = check::hear(address, &path, LONGEST_LINE + 1, patience).await;
                        heard.map_err(|error| error.to_string())
                    }
                    Err(cause) => Err(cause),
                };
                let body = said.unwrap_or_else(|cause| {
                    self.handle.not_asked();
                    self.warn(&format_args!("agent {address}{path}"), &cause);
                    None
                });
                self.handle.agent_said(id, body).await
            }
        };
    }

    fn warn(&self, target: &dyn std::fmt::Debug, cause: &str) {
        // The first, the second, the fourth: as much as anybody wants to read.
        let times = self.handle.edge_counters().check_faults;
        if times.is_power_of_two() {
            warn!(?target, cause, times, "a destination could not be checked, for reasons of our own");
        }
    }
}

/// Calls, connections and the store need descriptors too: three quarters are theirs.
fn at_once(descriptors: u64) -> usize {
    usize::try_from(descriptors / 4).unwrap_or(usize::MAX).clamp(1, MOST_AT_ONCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_never_take_the_descriptors_that_calls_need() {
        for (descriptors, checks) in [(0, 1), (64, 16), (1024, 256), (4096, 1000), (u64::MAX, 1000)] {
            assert_eq!(at_once(descriptors), checks, "{descriptors}");
        }
    }
}
