//! How long it takes until a node knows of a dead destination from another, before any probe or call of its own:
//! TANDEM_VERDICT_TRIALS times.

use std::time::{Duration, Instant};

use tandem::engine::dispatch::{Fitness, Health};
use tandem::engine::explain::Came;
use tandem::engine::snapshot::DestinationView;
use tandem::lab::Behaviour;
use tandem::server::Node;
use tokio::time::sleep;

use crate::pair::Pair;
use crate::scratch::PATIENCE;

/// So often both nodes are asked.
const POLL: Duration = Duration::from_millis(1);
/// What is worse is a fault, even on a machine that is busy with other things.
const MEDIAN: Duration = Duration::from_secs(1);
const WORST: Duration = Duration::from_secs(5);

const INVITE: &str = "INVITE sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5072;branch=z9hG4bK-told\r\n\
     Max-Forwards: 70\r\nFrom: <sip:127.0.0.1:5072>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: told\r\nCSeq: 1 INVITE\r\n\
     Contact: <sip:127.0.0.1:5072>\r\nUser-Agent: OPENSIPS_TTS_MRCP_CLIENT\r\nContent-Length: 0\r\n\r\n";

/// What the next call would be told of the first server: asked of the engine itself, since a snapshot may be of a while ago.
async fn first(node: &Node) -> (DestinationView, Fitness) {
    let told = node.server().explain(INVITE.into(), Came::default()).await.expect("it runs").expect("a request");
    let told = told.sets[0].destinations[0].clone();
    (told.view, told.fitness)
}

/// When a node first said so.
async fn when(node: &Node, what: &str, is_so: impl Fn(&DestinationView, Fitness) -> bool) -> Instant {
    let began = Instant::now();
    loop {
        let (view, fitness) = first(node).await;
        if is_so(&view, fitness) {
            return Instant::now();
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {view:?}");
        sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_told_of_a_dead_destination_before_its_own_probe() {
    let trials: usize = match std::env::var("TANDEM_VERDICT_TRIALS") {
        Ok(count) => count.parse().expect("TANDEM_VERDICT_TRIALS is a number above 0"),
        Err(_) => 5,
    };
    // One node asks at once again and again, the other nobody.
    let probe =
        "[set.probe]\ninterval = \"100ms\"\nfast_interval = \"100ms\"\ndown_interval = \"100ms\"\nfall = 1\nrise = 1";
    let pair = Pair::start_with([probe, ""], None).await;
    let [a, b] = [&pair.nodes[0], &pair.nodes[1]];
    let mut times = Vec::new();
    for _ in 0..trials {
        // At any time between two rounds of the gossip.
        sleep(Duration::from_millis(fastrand::u64(..300))).await;
        pair.servers[0].set(Behaviour { offline: true, ..Behaviour::default() });
        let set = when(a, "down on a", |view, _| view.health == Health::Down);
        let seen = when(b, "unfit on b", |view, fitness| {
            assert_eq!(view.health, Health::Up, "b has asked nobody");
            !fitness.is_fit()
        });
        let (set, seen) = tokio::join!(set, seen);
        times.push(seen.saturating_duration_since(set));
        pair.servers[0].set(Behaviour::default());
        when(a, "up on a", |view, _| view.health == Health::Up).await;
        when(b, "fit on b", |_, fitness| fitness.is_fit()).await;
    }
    times.sort();
    let (median, p99, worst) = (times[trials / 2], times[(trials * 99).div_ceil(100) - 1], times[trials - 1]);
    println!(
        "from down on one node to unfit on the other, {trials} times: median {median:?}, p99 {p99:?}, worst {worst:?}"
    );
    assert!(median <= MEDIAN && worst <= WORST, "median {median:?}, worst {worst:?}: at most {MEDIAN:?} and {WORST:?}");
    pair.stop().await;
}
