//! `[health]` and the health's part of a `[[set]]`: how destinations are probed, what answers mean, how traffic is watched.

use std::time::Duration;

use super::reader::Section;
use super::values::duration_from;

/// What holds for the health of all sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// Health that was kept on disk means nothing when it is older.
    pub state_ttl: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        HealthConfig { state_ttl: Duration::from_secs(300) }
    }
}

/// Reads `[health]`.
pub(super) fn read(section: &Section<'_>) -> HealthConfig {
    let default = HealthConfig::default();
    let health = HealthConfig {
        state_ttl: section.text("state_ttl", duration_from(Duration::from_secs(1))).unwrap_or(default.state_ttl),
    };
    section.finish();
    health
}
