//! The engine's thread: sleep, take the turn's one `now`, orders, timers, datagrams, and out with what the engine says.

use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::edge::counters::{Counters, SendFault};
use crate::edge::udp::{Batch, Sockets};
use crate::engine::dispatch::Sets;
use crate::engine::event::{Changes, Event, Input, Output};
use crate::engine::flow::{ConnectionId, Flow, Transport};
use crate::engine::{self, Engine, Now, Snapshot};

/// What other threads may ask of the engine's; each is answered when it is done.
#[derive(Debug)]
pub(super) enum Order {
    Snapshot(oneshot::Sender<Arc<Snapshot>>),
    Replace(Sets, oneshot::Sender<Changes>),
    Drain(oneshot::Sender<()>),
    Stop,
}

/// All that the thread owns.
#[derive(Debug)]
pub(super) struct Turns {
    engine: Engine,
    // Before `orders`, so closed before it: who sees the channel closed finds the addresses free.
    sockets: Sockets,
    orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<Event>,
    counters: Arc<Counters>,
    start: Instant,
    out: Vec<Output>,
}

/// Whether there is another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Serve,
    Stop,
}

/// Ends the process if the thread panics: a node that answers `/live` and no SIP would hold its VIP for ever.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            error!("the engine's thread panicked: the process ends so that its peer or supervisor takes over");
            process::abort();
        }
    }
}

impl Turns {
    pub(super) fn new(
        engine: Engine,
        sockets: Sockets,
        orders: mpsc::Receiver<Order>,
        events: mpsc::Sender<Event>,
        counters: Arc<Counters>,
    ) -> Self {
        Turns { engine, sockets, orders, events, counters, start: Instant::now(), out: Vec::new() }
    }

    /// Serves until `Order::Stop` or until no handle is left.
    pub(super) fn run(mut self) {
        let _guard = AbortOnPanic;
        let mut batch = Batch::default();
        loop {
            let timeout = self.engine.next_deadline().map(|deadline| deadline.since(self.mono()));
            if let Err(cause) = self.sockets.wait(timeout) {
                // Only a broken descriptor makes it fail, and nothing that we could do mends one.
                error!(%cause, "the engine's thread can't wait for its sockets: the process ends");
                process::abort();
            }
            let now = Now { mono: self.mono(), wall: SystemTime::now() };
            if self.take_orders(now) == Next::Stop {
                return;
            }
            // Before the datagrams, so that no flood of them delays a timer by more than a turn.
            if self.engine.next_deadline().is_some_and(|deadline| deadline <= now.mono) {
                self.engine.handle(Input::Wake, now, &mut self.out);
                self.flush();
            }
            for nth in 0..self.sockets.ready() {
                self.receive(nth, now, &mut batch);
                self.flush();
            }
        }
    }

    fn mono(&self) -> engine::Instant {
        engine::Instant::after_start(self.start.elapsed())
    }

    fn take_orders(&mut self, now: Now) -> Next {
        // Those that are here now; each later one rings the bell for a turn of its own, so orders can't keep a turn from
        // its end either.
        for _ in 0..self.orders.len().max(1) {
            match self.orders.try_recv() {
                // Nobody who hangs up before the answer is owed one.
                Ok(Order::Snapshot(answer)) => drop(answer.send(self.engine.snapshot())),
                Ok(Order::Replace(sets, answer)) => {
                    self.engine.handle(Input::Sets(sets), now, &mut self.out);
                    let changes = self.out.iter().find_map(|output| match output {
                        Output::Event(Event::SetsReplaced(changes)) => Some(*changes),
                        _ => None,
                    });
                    self.flush();
                    let _ = answer.send(changes.unwrap_or_default());
                }
                Ok(Order::Drain(answer)) => {
                    self.engine.handle(Input::Drain, now, &mut self.out);
                    self.flush();
                    let _ = answer.send(());
                }
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return Next::Stop,
                Err(TryRecvError::Empty) => break,
            }
        }
        Next::Serve
    }

    fn receive(&mut self, nth: usize, now: Now, batch: &mut Batch) {
        let Turns { engine, sockets, counters, out, .. } = self;
        sockets.receive(nth, batch, counters, |listener, peer, bytes| {
            let flow = Flow { listener, transport: Transport::Udp, peer, connection: ConnectionId::default() };
            engine.handle(Input::Received { flow, bytes }, now, out);
        });
    }

    fn flush(&mut self) {
        for output in self.out.drain(..) {
            match output {
                Output::Send { flow, bytes } if flow.transport == Transport::Udp => {
                    self.sockets.send(flow.listener, flow.peer, &bytes, &self.counters);
                }
                Output::Send { .. } => self.counters.not_sent(SendFault::NoSocket),
                // There are no streams yet that could be closed.
                Output::Close(_) => {}
                Output::Event(event) => {
                    if self.events.try_send(event).is_err() {
                        self.counters.event_dropped();
                    }
                }
            }
        }
    }
}
