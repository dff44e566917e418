//! What would become of a message without a running node: by the configuration and the stored sets alone.

use std::time::SystemTime;

use super::names::Names;
use super::node::KEY_FILE;
use super::sets::check_rows;
use crate::config::Config;
use crate::edge::key;
use crate::engine::event::Input;
use crate::engine::explain::{Came, Explained};
use crate::engine::{Engine, Instant, Now};

/// What a node would say that has just started.
#[derive(Debug)]
pub struct Offline {
    /// What would become of the message.
    pub told: Explained,
    /// What a running node would know better.
    pub notes: Vec<String>,
}

/// Explains a message on an engine of its own, with the sets of the store and no calls, health or orders but the table's.
/// Names of rows are looked up; nothing is made or written.
///
/// # Errors
/// Every fault of the rows, in words.
pub async fn explain_offline(config: &Config, message: &[u8], came: Came) -> Result<Offline, Vec<String>> {
    let mut notes = vec!["no node was asked: sessions, health and orders are those of a fresh start".to_owned()];
    let sets = match check_rows(config).await? {
        Some(load) => {
            notes.extend(load.faults.iter().map(|fault| format!("left out: {fault}")));
            load.sets
        }
        None => {
            notes.push("the database is not there yet: no set has a destination".to_owned());
            Default::default()
        }
    };
    let resolved = Names::new(&config.dns, &config.listeners).resolve(&sets).await;
    notes.extend(resolved.faults);
    // Without it no cookie of a dialog is valid.
    let key = key::find(&config.state_dir.join(KEY_FILE)).unwrap_or_else(|fault| {
        notes.push(fault.to_string());
        None
    });
    let mut engine = Engine::new(config.engine(key.unwrap_or_default()), [0; 32]);
    let now = Now { mono: Instant::ZERO, wall: SystemTime::now() };
    engine.handle(Input::Sets(resolved.sets), now, &mut Vec::new());
    Ok(Offline { told: engine.explain(message, came, now), notes })
}
