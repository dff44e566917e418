//! What the HTTP surface shows and asks of a node.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::error;

use super::node::Shared;
use super::{Gone, History};
use crate::edge::cluster::Peers;
use crate::edge::counters::HttpRefusal;
use crate::edge::http::{
    self, Given, PlanReport, Readiness, ReloadFailed, ReloadOrder, Reloaded, RollbackOrder, StoreReport, Surface,
};
use crate::edge::journal::Journal;
use crate::edge::metrics;
use crate::edge::process;
use crate::edge::stories::Stories;
use crate::edge::tls::Identity;
use crate::edge::webhook::Webhook;
use crate::engine::Snapshot;
use crate::engine::dispatch::{DistrustOrder, NoSuchDestination, NotDistrusted, OrderTerms, SetId, Standing};
use crate::engine::event::{EndOrder, NotEnded};
use crate::engine::explain::{Came, Explained};
use crate::engine::flow::Listener;
use crate::engine::snapshot::SessionPage;
use crate::engine::trace::{NotTraced, TraceOrder};

impl http::Node for Shared {
    fn name(&self) -> &str {
        &self.config.node_id
    }

    fn started(&self) -> SystemTime {
        self.started
    }

    fn peers(&self) -> Option<Peers> {
        self.cluster.as_ref().map(|cluster| cluster.peers().borrow().clone())
    }

    async fn snapshot(&self) -> Result<Arc<Snapshot>, String> {
        self.handle.snapshot().await.map_err(|gone| gone.to_string())
    }

    async fn history(&self, set: SetId, uri: &str) -> Result<History, String> {
        self.handle.history(set, uri).await.map_err(|gone| gone.to_string())
    }

    fn listeners(&self) -> &[Listener] {
        self.handle.listeners()
    }

    fn held(&self) -> Vec<bool> {
        self.addresses.held()
    }

    async fn explain(&self, message: Vec<u8>, came: Came) -> Result<Explained, String> {
        self.handle.explain(message, came).await.map_err(|gone| gone.to_string())
    }

    async fn give(&self, set: SetId, uri: &str, standing: Standing, terms: OrderTerms) -> Result<Given, String> {
        let gone = |gone: Gone| gone.to_string();
        if let Err(why) = self.handle.give_on(set, uri, standing, terms).await.map_err(gone)? {
            return Ok(Given::InVain(why));
        }
        // Whoever is told that it holds may rely on it, whatever happens to the node next.
        Ok(match self.keep().await.map_err(gone)? {
            Ok(()) => Given::Kept,
            Err(fault) => Given::Unkept(fault.to_string()),
        })
    }

    fn persists(&self, set: SetId) -> bool {
        self.sources.iter().any(|source| source.states.follow(set))
    }

    async fn distrust(&self, order: DistrustOrder) -> Result<Result<(), NotDistrusted>, String> {
        self.handle.distrust(order).await.map_err(|gone| gone.to_string())
    }

    async fn sessions(
        &self,
        set: SetId,
        uri: Option<&str>,
        some: (usize, usize),
    ) -> Result<Result<SessionPage, NoSuchDestination>, String> {
        self.handle.sessions(set, uri, some).await.map_err(|gone| gone.to_string())
    }

    async fn end(&self, order: EndOrder) -> Result<Result<u64, NotEnded>, String> {
        self.handle.end(order).await.map_err(|gone| gone.to_string())
    }

    fn stories(&self) -> &Stories {
        &self.stories
    }

    async fn trace(&self, order: TraceOrder) -> Result<Result<(), NotTraced>, String> {
        self.handle.trace(order).await.map_err(|gone| gone.to_string())
    }

    async fn readiness(&self) -> Readiness {
        self.is_ready().await
    }

    async fn unfit(&self) -> Result<Vec<String>, String> {
        self.better_elsewhere().await
    }

    async fn metrics(&self) -> Result<String, String> {
        let snapshot = http::Node::snapshot(self).await?;
        let (edge, stores, queues) = (self.handle.edge_counters(), self.store_statuses(), self.handle.queues());
        let cluster = self.cluster.as_ref().map(|cluster| self.cluster_view(cluster));
        let webhooks: Vec<_> = self.webhooks.iter().map(Webhook::status).collect();
        let (listeners, held, started) = (self.handle.listeners().to_vec(), self.addresses.held(), self.started);
        let stories = self.stories.counters();
        // It reads files, and writes a long text.
        let render = move || {
            metrics::render(&metrics::View {
                snapshot: &snapshot,
                edge: &edge,
                stores: &stores,
                cluster: cluster.as_ref(),
                webhooks: &webhooks,
                listeners: metrics::Listeners { listeners: &listeners, held: &held },
                queues: &queues,
                process: process::usage(),
                stories,
                started,
            })
        };
        spawn_blocking(render).await.map_err(|fault| fault.to_string())
    }

    async fn reload(&self, order: ReloadOrder) -> Result<Reloaded, ReloadFailed> {
        self.reload_by(order).await
    }

    async fn rollback(&self, order: RollbackOrder) -> Result<Reloaded, ReloadFailed> {
        self.rollback_by(order).await
    }

    async fn plan(&self, partition: Option<&str>) -> Result<PlanReport, ReloadFailed> {
        self.plan_of(partition).await
    }

    fn partitions(&self) -> Vec<(String, u32)> {
        self.sources.iter().map(|source| (source.name.clone(), source.set_offset)).collect()
    }

    async fn store(&self) -> StoreReport {
        self.store_report()
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn drain(&self) {
        self.drain_ordered.notify_one();
    }

    fn refused(&self, why: HttpRefusal) {
        self.handle.http_refused(why);
    }
}

/// Serves it until the node stops.
pub(super) async fn serve(
    surface: Surface,
    identity: Option<Identity>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let shutdown = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let access = shared.config.http.access.clone();
    if let Err(fault) = surface.serve(shared, access, identity, shutdown).await {
        error!(cause = %fault, "the HTTP surface is gone");
    }
}
