//! Looks whether the rows have changed: by the clock, when the source says so, and when another node was given an order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::judge::Ask;
use crate::edge::cluster::Peers;
use crate::edge::retry::Retry;
use crate::server::node::Shared;

/// The pauses between tries while the source fails.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// For how long, and how often, one looks for rows that another node has read already: copies of a database lag behind.
const CATCH_UP: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1));

impl Shared {
    /// Reads the rows of a source again and again until the node stops.
    pub(in crate::server) async fn watch_source(self: Arc<Self>, nth: usize, mut stopped: watch::Receiver<bool>) {
        let source = &self.sources[nth];
        let mut retry = None;
        let mut ordered: Option<Instant> = None;
        // Whoever said that there is something to read will not say it again.
        let mut asked = false;
        loop {
            let reads = source.reads();
            let behind = ordered.is_some_and(|at| at.elapsed() < CATCH_UP.0)
                && source.order().is_some_and(|order| Some(order.rows()) != reads.rows);
            // Who has never read it does so as soon as it can, also where nobody polls.
            let failing = !reads.ok && (asked || reads.last_read.is_none() || source.database.poll_interval.is_some());
            let pause = match (failing, behind) {
                (true, _) => Some(retry.get_or_insert_with(|| Retry::new(RETRY.0, RETRY.1)).next_pause()),
                (false, true) => Some(CATCH_UP.1),
                (false, false) => source.database.poll_interval,
            };
            if !failing {
                (retry, asked) = (None, false);
            }
            let wait = async {
                match pause {
                    Some(pause) => sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            let ask = tokio::select! {
                () = wait => Ask::Found,
                () = source.store.changed() => {
                    asked = true;
                    Ask::Found
                }
                // Whoever has read it, as an operator's reload: what was a pause between tries is over.
                () = source.healed.notified() => continue,
                () = source.wake.notified() => {
                    (ordered, asked) = (Some(Instant::now()), true);
                    Ask::Told
                }
                _ = stopped.changed() => return,
            };
            let this = [nth];
            tokio::select! {
                _ = self.load(&this, &ask) => {}
                _ = stopped.changed() => return,
            }
        }
    }

    /// Takes what operators have said to other nodes.
    pub(in crate::server) fn hear_orders(&self, peers: &Peers) {
        for peer in peers.live.iter().filter(|peer| peer.view.report.unknown_format().is_none()) {
            for (partition, told) in &peer.view.report.sources {
                let source = self.sources.iter().find(|source| source.name == *partition);
                if let (Some(source), Some(order)) = (source, &told.order)
                    && source.take(order)
                {
                    source.wake.notify_one();
                }
            }
        }
        self.sources.iter().for_each(|source| self.hear_version(source, peers));
    }
}
