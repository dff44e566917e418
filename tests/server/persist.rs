//! `persist_state`: the `state` column follows orders and health, and a hand in it gives an order.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tandem::config::Config;
use tandem::edge::cluster::{ClusterConfig, Seed};
use tandem::edge::store::{Database, RowContext, Store, Strictness};
use tandem::engine::dispatch::{Health, Order, RowState, SetId, Standing};
use tandem::engine::snapshot::DestinationView;
use tandem::lab::{Behaviour, MrcpServer};
use tandem::server::Node;
use tokio::task::spawn_blocking;

use crate::node::{addresses, servers};
use crate::pair::free_port;
use crate::scratch::{Folder, anew, http, insert, until};

/// A node that writes states back and looks for changes often.
fn config(folder: &Folder, more: &str) -> Config {
    let mut config = folder.config(more);
    config.database.persist_state = true;
    config.database.poll_interval = Some(Duration::from_millis(200));
    config
}

/// A table with these destinations, and a log of what is written into its column: each row as often as it is.
async fn table(folder: &Folder, rows: &[SocketAddr]) -> Store {
    let store = Store::new(&Database::of("sqlite:tandem.db"), folder.path()).expect("a good URL");
    store.make().await.expect("made");
    let log = "CREATE TABLE log (destination TEXT, state INTEGER);
        CREATE TRIGGER logs AFTER UPDATE OF state ON dispatcher BEGIN
            INSERT INTO log VALUES (new.destination, new.state);
        END;";
    store.execute(&format!("{log} {}", insert(rows))).await.expect("good SQL");
    store
}

/// The states of the table, by row.
async fn states(store: &Store) -> Vec<RowState> {
    rows(store, "dispatcher").await
}

/// How often somebody has written each.
async fn rows(store: &Store, _: &str) -> Vec<RowState> {
    let context = RowContext { listeners: &[], strictness: Strictness::Strict, set_offset: 0 };
    let load = store.load(&context).await.expect("good rows");
    let mut rows: Vec<_> = load.sets.0.iter().flat_map(|set| &set.rows).collect();
    rows.sort_by_key(|row| row.row);
    rows.iter().map(|row| row.state).collect()
}

async fn until_states(store: &Store, what: &str, wanted: [RowState; 2]) {
    until(what, async || (states(store).await == wanted).then_some(())).await;
}
