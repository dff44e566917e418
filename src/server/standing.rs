//! How the node is, in a line for people.

use super::Gone;
use super::node::Node;

impl Node {
    /// What it serves, or why it is not ready, and what is wrong with it; only the engine's thread can tell.
    ///
    /// # Errors
    /// [`Gone`] if that has ended.
    pub async fn standing(&self) -> Result<String, Gone> {
        let readiness = self.shared.is_ready().await;
        let snapshot = self.server().snapshot().await?;
        let all: Vec<_> = snapshot.sets.iter().flat_map(|set| &set.destinations).collect();
        let fit = all.iter().filter(|one| one.fitness.is_fit()).count();
        let mut words = match readiness.reasons.as_slice() {
            [] => vec![format!("ready: {fit} of {} destinations are fit", all.len())],
            reasons => vec![format!("not ready: {}", reasons.join("; "))],
        };
        words.extend(readiness.degraded);
        Ok(format!("node {} is {}", self.shared.config.node_id, words.join("; ")))
    }
}
