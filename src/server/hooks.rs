//! The journal's ways out: its file and the webhooks, from a node's start to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tracing::warn;

use crate::edge::journal::Journal;
use crate::edge::webhook::{Webhook, WebhookStatus};

/// How long a node that stops goes on telling webhooks what is left.
const LAST_DELIVERIES: Duration = Duration::from_secs(2);
/// How long it waits for the file.
const LAST_LINES: Duration = Duration::from_secs(5);

/// The webhooks' tasks. Dropping it stops them at once.
#[derive(Debug)]
pub(super) struct Hooks {
    tasks: JoinSet<()>,
    hooks: Vec<Webhook>,
    ending: watch::Sender<bool>,
    journal: Arc<Journal>,
}

impl Hooks {
    /// Begins to tell them what the journal has.
    pub(super) fn start(hooks: &[Webhook], journal: Arc<Journal>) -> Self {
        let ending = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for hook in hooks {
            tasks.spawn(hook.clone().run(ending.subscribe()));
        }
        Hooks { tasks, hooks: hooks.to_vec(), ending, journal }
    }

    /// Tells what is left, and writes what waits for the file. Nothing may be added to the journal any more.
    pub(super) async fn close(mut self) {
        self.ending.send_replace(true);
        let journal = Arc::clone(&self.journal);
        let file = spawn_blocking(move || journal.close(LAST_LINES));
        let told = timeout(LAST_DELIVERIES, async { while self.tasks.join_next().await.is_some() {} });
        let (told, _) = tokio::join!(told, file);
        if told.is_err() {
            for WebhookStatus { hook, queue, .. } in
                self.hooks.iter().map(Webhook::status).filter(|hook| hook.queue > 0)
            {
                warn!(
                    webhook = hook,
                    left = queue,
                    "the webhook is not told of the last events: it takes none, or is too slow"
                );
            }
        }
    }
}
