//! One connection: made or taken, read into messages, written from its queue, ended.

use std::cell::RefCell;
use std::future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::table::{Origin, Queue, Waiting};
use super::{Heard, Shared, bind};
use crate::engine::flow::{ConnectionId, Fault, Flow};
use crate::engine::sip::{Frame, Framer, PING};

/// A peer must take one message within this time.
const STALLED: Duration = Duration::from_secs(10);
/// How long a peer has to read our last words before the connection is gone.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the engine has to answer what could not be read.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of one read.
const READ: usize = 65_536;

thread_local! {
    /// One for each thread and not for each connection: a thousand quiet ones cost nothing.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The engine asked for it, or it made room for another; its queue has been written.
    Closed,
    /// It was idle, or never said anything.
    Quiet,
    /// The peer closed it, or it broke.
    Broken,
    /// The server ends.
    Stopped,
    /// Its address is no longer this machine's.
    LetGo,
}

/// How alive a connection is.
struct Life {
    /// When it last carried anything, in milliseconds after `Shared::start`.
    last: AtomicU64,
    /// Whether a whole message has come.
    spoken: AtomicBool,
}

impl Life {
    fn stir(&self, shared: &Shared) {
        self.last.store(shared.start.elapsed().as_millis() as u64, Relaxed);
    }
}

/// Makes a connection from `local` to the flow's peer, and serves it. Messages wait in its queue meanwhile.
pub(super) async fn make(shared: Arc<Shared>, flow: Flow, local: IpAddr, mut queue: Queue) {
    let made = async { bind::connecting(local)?.connect(flow.peer).await };
    let mut stop = shared.stop.clone();
    let made = tokio::select! {
        made = timeout(shared.limits.connect_timeout, made) => made,
        _ = &mut queue.let_go => return shared.let_go(flow.connection),
        _ = stop.changed() => return,
    };
    match made.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => serve(shared, flow, Origin::Us, stream, queue).await,
        Err(error) => {
            shared.counters.connect_failed();
            shared.end(flow.connection, queue.waiting, None, blame(&error)).await;
        }
    }
}

/// Whose fault it is that a connection could not be made. What is not known to be the peer's is ours: no descriptor, no
/// port, no route.
fn blame(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::TimedOut => Fault::Theirs,
        _ => Fault::Ours,
    }
}

/// Reads and writes a connection until it ends.
pub(super) async fn serve(shared: Arc<Shared>, flow: Flow, origin: Origin, stream: TcpStream, queue: Queue) {
    bind::tune(&stream);
    let Queue { mut waiting, mut let_go } = queue;
    let (mut input, mut output) = stream.into_split();
    let life = Life { last: AtomicU64::new(0), spoken: AtomicBool::new(false) };
    life.stir(&shared);
    let mut unsent = None;
    let mut stop = shared.stop.clone();
    let serving = async {
        tokio::select! {
            end = read(&shared, flow, &input, &life) => end,
            end = write(&shared, &mut output, &mut waiting, &mut unsent, &life) => end,
            end = watch(&shared, origin, &life) => end,
        }
    };
    let end = tokio::select! {
        biased;
        _ = &mut let_go => End::LetGo,
        _ = stop.changed() => End::Stopped,
        end = serving => end,
    };
    if end == End::Stopped {
        waiting.close();
        if unsent.is_none() {
            let _ = timeout(LAST_WORDS, write(&shared, &mut output, &mut waiting, &mut unsent, &life)).await;
        }
        return;
    }
    if end == End::LetGo {
        bind::forget(output.as_ref());
        output.forget();
        return shared.let_go(flow.connection);
    }
    let ours = origin == Origin::Us;
    if ours && end != End::Quiet {
        // Whatever waits for an answer by it waits in vain; and nothing new may take it.
        shared.table().close(flow.connection);
        shared.hear(Heard::Lost { flow: Flow { connection: ConnectionId::default(), ..flow } }).await;
    }
    if end == End::Closed {
        let _ = timeout(LAST_WORDS, part(&mut input, &mut output)).await;
    }
    shared.end(flow.connection, waiting, unsent, Fault::Theirs).await;
}

/// Cuts what comes into messages.
async fn read(shared: &Shared, flow: Flow, input: &OwnedReadHalf, life: &Life) -> End {
    let mut framer = Framer::new(shared.limits.frame);
    // Since when a message has been there in part.
    let mut begun = None;
    loop {
        let readable = async {
            match begun {
                Some(begun) => timeout_at(begun + shared.limits.message_timeout, input.readable()).await,
                None => Ok(input.readable().await),
            }
        };
        match readable.await {
            Ok(Ok(())) => {}
            // It broke, or the rest of a message does not come.
            Ok(Err(_)) | Err(_) => return End::Broken,
        }
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let count = input.try_read(scratch)?;
            framer.feed(&scratch[..count]);
            Ok::<_, io::Error>(count)
        });
        match read {
            Ok(0) => return End::Broken,
            Ok(_) => life.stir(shared),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => continue,
            Err(_) => return End::Broken,
        }
        let mut whole = false;
        loop {
            let heard = match framer.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Ping)) => Heard::Message { flow, bytes: Bytes::from_static(PING) },
                Ok(Some(Frame::Message(bytes))) => {
                    whole = true;
                    shared.counters.stream_received();
                    if !life.spoken.swap(true, Relaxed) {
                        shared.table().has_spoken(flow.connection);
                    }
                    Heard::Message { flow, bytes }
                }
                Err(fault) => {
                    let head = Bytes::copy_from_slice(framer.head());
                    drop(framer);
                    shared.hear(Heard::Unframed { flow, head, fault }).await;
                    // The engine answers if it can, and closes the connection.
                    sleep(ANSWER).await;
                    return End::Closed;
                }
            };
            if !shared.hear(heard).await {
                return future::pending().await;
            }
        }
        begun = match framer.is_inside_message() {
            true => begun.filter(|_| !whole).or_else(|| Some(Instant::now())),
            false => None,
        };
    }
}

/// Writes what is queued; `unsent` holds the message that is being written.
async fn write(
    shared: &Shared,
    output: &mut OwnedWriteHalf,
    queue: &mut mpsc::Receiver<Waiting>,
    unsent: &mut Option<Waiting>,
    life: &Life,
) -> End {
    while let Some(message) = queue.recv().await {
        let Waiting { message, .. } = unsent.insert(message);
        match timeout(STALLED, output.write_all(&message.bytes)).await {
            Ok(Ok(())) => shared.counters.stream_sent(),
            Ok(Err(_)) | Err(_) => return End::Broken,
        }
        *unsent = None;
        life.stir(shared);
    }
    End::Closed
}

/// Waits until a connection has been quiet for too long.
async fn watch(shared: &Shared, origin: Origin, life: &Life) -> End {
    if origin == Origin::Peer {
        sleep(shared.limits.message_timeout).await;
        if !life.spoken.load(Relaxed) {
            return End::Quiet;
        }
    }
    loop {
        let last = Duration::from_millis(life.last.load(Relaxed));
        let quiet = shared.start.elapsed().saturating_sub(last);
        match shared.limits.idle_timeout.checked_sub(quiet) {
            None | Some(Duration::ZERO) => return End::Quiet,
            Some(left) => sleep(left).await,
        }
    }
}

/// Ends our half, and reads what still comes: closing over unread bytes would throw our last words away.
async fn part(input: &mut OwnedReadHalf, output: &mut OwnedWriteHalf) {
    let _ = output.shutdown().await;
    while input.readable().await.is_ok() {
        let more = SCRATCH.with_borrow_mut(|scratch| input.try_read(scratch));
        match more {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}
