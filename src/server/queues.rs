//! The bounded queues between the engine's thread and others, for people to see how full they are.

use tokio::sync::mpsc::{Sender, WeakSender};

use super::turn::{Asked, Order};
use super::{Happened, Lookup};
use crate::edge::metrics::Queue;
use crate::edge::tcp::Heard;

/// Seen from outside: who only looks keeps none of them open.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) orders: WeakSender<Order>,
    pub(super) events: WeakSender<Happened>,
    pub(super) lookups: WeakSender<Lookup>,
    pub(super) checks: WeakSender<Asked>,
    /// None without a TCP listener.
    pub(super) streams: Option<WeakSender<Heard>>,
}

impl Queues {
    /// Those that are open.
    pub(super) fn look(&self) -> Vec<Queue> {
        let streams = self.streams.as_ref().and_then(|streams| look("streams", streams));
        let others = [
            look("orders", &self.orders),
            look("events", &self.events),
            look("lookups", &self.lookups),
            look("checks", &self.checks),
        ];
        others.into_iter().flatten().chain(streams).collect()
    }
}

fn look<T>(name: &'static str, queue: &WeakSender<T>) -> Option<Queue> {
    let queue: Sender<T> = queue.upgrade()?;
    let capacity = queue.max_capacity();
    Some(Queue { name, depth: capacity - queue.capacity(), capacity })
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn what_waits_is_seen_and_who_looks_keeps_nothing_open() {
        let (sender, mut receiver) = mpsc::channel(4);
        let weak = sender.downgrade();
        for number in 0..3 {
            sender.try_send(number).expect("room");
        }
        assert_eq!(look("numbers", &weak), Some(Queue { name: "numbers", depth: 3, capacity: 4 }));
        receiver.try_recv().expect("the first");
        assert_eq!(look("numbers", &weak).map(|queue| queue.depth), Some(2));
        drop(sender);
        assert_eq!(look("numbers", &weak), None);
        assert_eq!([receiver.try_recv(), receiver.try_recv()], [Ok(1), Ok(2)]);
        assert_eq!(receiver.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }
}
