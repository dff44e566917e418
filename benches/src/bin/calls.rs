//! Plays calls through the engine and nothing else, for a profiler: `calls [COUNT]`.

use std::env;

use tandem_benches::{Call, Player};

fn main() {
    let count = env::args().nth(1).map_or(1000, |count| count.parse().expect("a number of calls"));
    let calls = Player::record(count);
    play(&mut Player::new(), &calls);
}

/// A name of its own, so that a profiler tells it from the recording.
#[inline(never)]
fn play(player: &mut Player, calls: &[Call]) {
    for call in calls {
        player.next_call();
        for message in call {
            player.play(message);
        }
    }
}
