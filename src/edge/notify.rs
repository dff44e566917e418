//! What the process tells its supervisor: sd_notify(3), systemd's protocol, one datagram for each thing told.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tracing::warn;

/// What may wait to be told while the supervisor takes nothing; what finds no room is dropped.
const QUEUE: usize = 16;

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It serves, or serves what it has read anew.
    Ready,
    /// It reads something anew; [`Word::Ready`] follows.
    Reloading,
    /// It leaves, and that may take so long.
    Stopping(Duration),
    /// It lives: due before [`Supervisor::watchdog`] is over.
    Alive,
    /// How it is, in words.
    Status(String),
}

/// Who has started us and wants to hear. What it is told waits for it aside, so that it holds nothing up. Needs a runtime.
#[derive(Clone, Debug)]
pub struct Supervisor {
    words: mpsc::Sender<Word>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// By `NOTIFY_SOCKET`; none where there is no such variable, or none that we can use.
    pub fn of_environment() -> Option<Self> {
        let name = env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty())?;
        let watchdog = watchdog(|name| env::var(name).ok(), process::id());
        match address(&name) {
            Ok(address) => Some(Supervisor::at(address, watchdog)),
            Err(cause) => {
                warn!(socket = name, %cause, "the supervisor is told nothing: NOTIFY_SOCKET is no path and no abstract name");
                None
            }
        }
    }

    fn at(address: SocketAddr, watchdog: Option<Duration>) -> Self {
        let (words, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(speak(address, waiting));
        Supervisor { words, watchdog }
    }

    /// How long it waits for [`Word::Alive`] before it holds the process for hung; none: it does not wait.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells it that.
    pub fn tell(&self, word: Word) {
        let _ = self.words.try_send(word);
    }
}

async fn speak(address: SocketAddr, mut waiting: mpsc::Receiver<Word>) {
    let mut is_deaf = false;
    while let Some(word) = waiting.recv().await {
        match send(&address, &line(&word)).await {
            Ok(()) => is_deaf = false,
            Err(cause) if !is_deaf => {
                is_deaf = true;
                warn!(%cause, "the supervisor can't be told anything");
            }
            Err(_) => {}
        }
    }
}

/// A socket for each: the supervisor may have made its own anew. Connected, since only then the kernel tells when there is room.
async fn send(address: &SocketAddr, line: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(address)?;
    socket.set_nonblocking(true)?;
    tokio::net::UnixDatagram::from_std(socket)?.send(line.as_bytes()).await.map(drop)
}

fn line(word: &Word) -> String {
    match word {
        Word::Ready => "READY=1".to_owned(),
        Word::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic().as_micros()),
        Word::Stopping(within) => format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()),
        Word::Alive => "WATCHDOG=1".to_owned(),
        // A line break would begin the next variable.
        Word::Status(text) => format!("STATUS={}", text.replace(['\n', '\r'], " ")),
    }
}

/// The clock that the supervisor compares with its own.
fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// A path, or an abstract name behind `@`.
fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if name.starts_with('/') => SocketAddr::from_pathname(name),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// `WATCHDOG_USEC`, if `WATCHDOG_PID` names nobody else: it may have been meant for who started us.
fn watchdog(variable: impl Fn(&str) -> Option<String>, ourselves: u32) -> Option<Duration> {
    let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(ourselves));
    let limit = variable("WATCHDOG_USEC")?.parse().ok().filter(|&limit| limit > 0 && is_ours)?;
    Some(Duration::from_micros(limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::scratch::Folder;

    /// A supervisor's end, and what is told to it.
    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes).expect("something is told");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    fn patient(socket: UnixDatagram) -> UnixDatagram {
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        socket
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_word_is_one_datagram_to_a_path_or_an_abstract_name() {
        let folder = Folder::new();
        let path = folder.path().join("notify");
        let hidden = format!("tandem-test-{}", path.display());
        let name = SocketAddr::from_abstract_name(&hidden).expect("a name");
        let by_path = patient(UnixDatagram::bind(&path).expect("a socket"));
        let by_name = patient(UnixDatagram::bind_addr(&name).expect("a socket"));
        for (socket, name) in [(by_path, path.display().to_string()), (by_name, format!("@{hidden}"))] {
            let supervisor = Supervisor::at(address(&name).expect("an address"), None);
            supervisor.tell(Word::Ready);
            supervisor.tell(Word::Status("one\ntwo".to_owned()));
            supervisor.tell(Word::Alive);
            supervisor.tell(Word::Stopping(Duration::from_secs(45)));
            let told: Vec<_> = (0..4).map(|_| heard(&socket)).collect();
            let stopping = "STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000";
            assert_eq!(told, ["READY=1", "STATUS=one two", "WATCHDOG=1", stopping]);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_takes_nothing_holds_nothing_up_and_hears_the_first_words_later() {
        let folder = Folder::new();
        let path = folder.path().join("notify");
        let socket = patient(UnixDatagram::bind(&path).expect("a socket"));
        let filler = UnixDatagram::unbound().expect("a socket");
        filler.set_nonblocking(true).expect("a socket");
        let mut filled = 0;
        while filler.send_to(b"full", &path).is_ok() {
            filled += 1;
        }
        let supervisor = Supervisor::at(address(&path.display().to_string()).expect("a path"), None);
        supervisor.tell(Word::Ready);
        (0..10_000).for_each(|_| supervisor.tell(Word::Alive));
        let told: Vec<_> = (0..=filled).map(|_| heard(&socket)).collect();
        assert_eq!(told.last().map(String::as_str), Some("READY=1"), "{filled} filled its queue");
    }

    #[test]
    fn a_reload_is_told_with_the_clock_that_systemd_reads() {
        let before = monotonic().as_micros();
        let told = line(&Word::Reloading);
        let at = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|at| at.parse().ok()).expect("a time");
        assert!(before > 0 && (before..=monotonic().as_micros()).contains(&at), "{told}");
    }

    #[test]
    fn a_watchdog_is_ours_unless_it_names_another_process() {
        let told = |limit: &'static str, pid: Option<&'static str>| {
            watchdog(
                |name| match name {
                    "WATCHDOG_USEC" => Some(limit.to_owned()),
                    _ => pid.map(str::to_owned),
                },
                42,
            )
        };
        assert_eq!(told("20000000", Some("42")), Some(Duration::from_secs(20)));
        assert_eq!(told("20000000", None), Some(Duration::from_secs(20)));
        assert_eq!(told("20000000", Some("41")), None);
        assert_eq!((told("0", None), told("soon", None)), (None, None));
        assert_eq!(watchdog(|_| None, 42), None);
    }

    #[test]
    fn other_kinds_of_addresses_are_none_that_we_know() {
        assert!(address("vsock:2:1234").is_err() && address("run/notify").is_err());
    }
}
