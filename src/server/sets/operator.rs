//! What an operator asks of the rows: a plan, a reload, a rollback.

use std::collections::HashSet;
use std::time::SystemTime;

use tracing::{info, warn};

use super::judge::Ask;
use super::source::Source;
use super::{change, source};
use crate::edge::http::{
    PartitionPlan, PartitionReport, PlanReport, ReloadFailed, ReloadOrder, Reloaded, RollbackOrder,
};
use crate::edge::journal::{Entry, Kind};
use crate::edge::store::Load;
use crate::engine::snapshot::Snapshot;
use crate::server::node::Shared;

impl Shared {
    /// The sources that are meant: all, or that partition.
    fn which(&self, partition: Option<&str>) -> Result<Vec<usize>, ReloadFailed> {
        let meant = |source: &Source| partition.is_none_or(|wanted| wanted == source.name);
        let which: Vec<_> = (0..self.sources.len()).filter(|&nth| meant(&self.sources[nth])).collect();
        match which.is_empty() {
            false => Ok(which),
            true => {
                let there: Vec<_> = self.sources.iter().map(|source| source.name.as_str()).collect();
                let error = format!("no partition {}: there are {}", partition.unwrap_or_default(), there.join(", "));
                Err(ReloadFailed { error, ..ReloadFailed::default() })
            }
        }
    }

    /// Whether the rows are in place that who gives an order has seen there.
    fn expects(&self, nth: usize, expected: Option<&str>) -> Result<(), ReloadFailed> {
        let PartitionReport { partition, digest, .. } = self.sources[nth].report();
        let is = digest.as_deref().unwrap_or("none");
        if expected.is_none_or(|expected| expected == is) {
            return Ok(());
        }
        let error = format!("partition {partition} has been changed meanwhile: the rows {is} are in place");
        Err(ReloadFailed { error, overtaken: true, ..ReloadFailed::default() })
    }

    /// An operator's reload.
    pub(in crate::server) async fn reload_by(&self, order: ReloadOrder) -> Result<Reloaded, ReloadFailed> {
        let ReloadOrder { by, reason, force, partition, expected } = order;
        let which = self.which(partition.as_deref())?;
        self.expects(which[0], expected.as_deref())?;
        let ask = Ask::Reload { by, reason, force, unpin: false };
        self.done(&ask, self.load(&which, &ask).await)
    }

    /// An operator's rollback, or the end of one.
    pub(in crate::server) async fn rollback_by(&self, order: RollbackOrder) -> Result<Reloaded, ReloadFailed> {
        let RollbackOrder { by, reason, force, partition, version, expected } = order;
        let which = self.which(Some(partition.as_deref().unwrap_or(source::DEFAULT)))?;
        self.expects(which[0], expected.as_deref())?;
        let source = &self.sources[which[0]];
        let ask = match version {
            None => Ask::Reload { by, reason, force, unpin: true },
            Some(wanted) => {
                let refused = |error| ReloadFailed { error, ..ReloadFailed::default() };
                let version = source.find_version(&wanted).ok_or_else(|| {
                    refused(format!("no version {wanted} is kept of partition {}: see `tandem rollback`", source.name))
                })?;
                Ask::Pin { by, reason, version: version.digest, force }
            }
        };
        self.done(&ask, self.load(&which, &ask).await)
    }

    /// Tells the log what an operator's word has come to.
    fn done(&self, ask: &Ask, result: Result<Reloaded, ReloadFailed>) -> Result<Reloaded, ReloadFailed> {
        let (by, reason) = ask.giver().unwrap_or_default();
        let (outcome, text) = match &result {
            Ok(Reloaded { added, removed, changed, .. }) => {
                ("done", format!("{added} added, {removed} removed, {changed} changed"))
            }
            Err(ReloadFailed { error, .. }) => ("refused", error.clone()),
        };
        let entry = Entry::new(Kind::Reload, SystemTime::now(), format!("sets reloaded by {by}: {text}"));
        self.journal.add(Entry { new: Some(outcome.to_owned()), ..entry.by(by, reason) });
        match &result {
            Ok(Reloaded { added, removed, changed, .. }) => info!(by, reason, added, removed, changed, "sets reloaded"),
            Err(ReloadFailed { error, .. }) => warn!(by, reason, cause = error, "the sets stay as they are"),
        }
        result
    }

    /// What a reload would do.
    pub(in crate::server) async fn plan_of(&self, partition: Option<&str>) -> Result<PlanReport, ReloadFailed> {
        let listeners = self.handle.listeners();
        let snapshot = self.handle.fresh_snapshot().await;
        let snapshot = snapshot.map_err(|gone| ReloadFailed { error: gone.to_string(), ..ReloadFailed::default() })?;
        let mut partitions = Vec::new();
        for nth in self.which(partition)? {
            let source = &self.sources[nth];
            let read = source.look(listeners).await;
            let placed = self.current.lock().await.placed[nth].clone();
            let mut plan = PartitionPlan::from(source.report());
            match read {
                Ok(Load { sets, faults, digest, .. }) => {
                    plan.rows = Some(digest.to_string());
                    plan.faults = faults.iter().map(ToString::to_string).collect();
                    plan.changes = change::changes(&placed.sets, &sets, listeners);
                    plan.changes.iter_mut().for_each(|one| one.sessions = sessions_of(&snapshot, one.set, &one.uri));
                    plan.refused = change::too_much(&placed.sets, &sets, source.guard());
                }
                Err(error) => {
                    plan.error = Some(error.summary());
                    plan.faults = error.rows().iter().map(ToString::to_string).collect();
                }
            }
            partitions.push(plan);
        }
        Ok(PlanReport { node: self.config.node_id.clone(), partitions })
    }
}

/// The live sessions of a destination, all its addresses together.
fn sessions_of(snapshot: &Snapshot, set: u32, uri: &str) -> u64 {
    let sets = snapshot.sets.iter().filter(|view| view.id.0 == set);
    let destinations = sets.flat_map(|view| &view.destinations).filter(|one| one.uri == uri);
    let mut seen = HashSet::new();
    destinations.filter(|one| seen.insert(one.address)).map(|one| one.sessions).sum()
}
