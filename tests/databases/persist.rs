//! A node that writes states back, and hears what is written there by hand.

use std::time::{Duration, Instant, SystemTime};

use tandem::config::Config;
use tandem::engine::dispatch::{Order, RowState, SetId, Standing};
use tandem::server::Node;

use super::server::Kind;
use super::tables::{article, opensips_9};
use super::{LONG, load, prepared, rows};

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_written_and_a_hand_is_heard() {
    for kind in Kind::BOTH {
        let (writer, reader) = prepared(kind, "persist", &format!("{} {};", opensips_9(kind), article(kind))).await;
        let folder = std::env::temp_dir().join(format!("tandem-databases-{}-{kind:?}-persist", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let url = kind.shared().url("writer_persist", "persist");
        let text = format!(
            "state_dir = \"state\"\n[[listener]]\nbind = \"udp:127.0.0.1:0\"\n[database]\nurl = \"{url}\"\n\
             persist_state = \"opensips\"\npoll_interval = \"1s\"\ntimeout = \"60s\"\n"
        );
        let config = Config::parse("test.toml", &text, &folder).expect("valid");
        let node = Node::start(&config).await.expect("it starts");
        let (by, reason) = ("ann".to_owned(), "a new disk".to_owned());
        let standing = Standing { order: Order::Drain, by, reason, at: SystemTime::now(), deadline: None };
        let given = node.server().give(SetId(19), "sip:10.129.39.88:7010", standing).await;
        given.expect("it runs").expect("it is loaded");
        let states = async || -> Vec<RowState> { rows(&load(&reader).await).iter().map(|row| row.state).collect() };
        until("the drain is written", async || states().await == [RowState::Inactive, RowState::Active]).await;
        writer.execute("UPDATE dispatcher SET state = 1").await.expect("good SQL");
        let standings = async || {
            let snapshot = node.server().fresh_snapshot().await.expect("it runs");
            let all = snapshot.sets[0].destinations.iter();
            all.map(|one| (one.standing.order, one.standing.by.clone())).collect::<Vec<_>>()
        };
        let wanted = [(Order::Drain, "ann".to_owned()), (Order::Maint, "database".to_owned())];
        until("the hand is heard", async || standings().await == wanted).await;
        node.stop().await;
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
