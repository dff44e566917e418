//! What rows say of their own probes. Ours go by the configuration, so it is only told where the two differ.

use super::{Column, Form, Judge};
use crate::engine::dispatch::SetId;

/// When a row is to be probed by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeWish {
    /// `load_balancer`'s `probe_mode` 0, Kamailio's flag 32.
    Never,
    /// `load_balancer`'s `probe_mode` 1.
    WhenDown,
    /// `probe_mode` 1 of OpenSIPS's `dispatcher` and 2 of `load_balancer`, Kamailio's flag 8.
    Always,
}

/// A row that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedProbe {
    /// Its set.
    pub set: SetId,
    /// Its destination.
    pub uri: String,
    /// What it says.
    pub wish: ProbeWish,
}

impl Judge<'_> {
    /// What the row says of its probes, if anything.
    pub(super) fn probe_mode(&mut self) -> Option<ProbeWish> {
        match self.names.form {
            Form::OpenSips => match self.number(Column::ProbeMode, 0, 0..=1, "0")? {
                0 => None,
                _ => Some(ProbeWish::Always),
            },
            Form::LoadBalancer => match self.number(Column::ProbeMode, 0, 0..=2, "0")? {
                0 => Some(ProbeWish::Never),
                1 => Some(ProbeWish::WhenDown),
                _ => Some(ProbeWish::Always),
            },
            Form::Kamailio => self.flags_of_probes(),
            Form::Toml => None,
        }
    }
}
