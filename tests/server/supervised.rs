//! A node under a supervisor, which a real datagram socket stands for.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use crate::scratch::{Folder, PATIENCE, config_text};

/// Starts what it is told to, and lets its engine's thread stand still (`hold`) and turn again (`go`), which only its parent may.
const HOLDER: &str = r#"
import ctypes, os, subprocess, sys
SEIZE, INTERRUPT, DETACH, ALL = 0x4206, 0x4207, 17, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
print(child.pid, flush=True)

def trace(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))

for line in sys.stdin:
    tasks = f"/proc/{child.pid}/task"
    thread, = (int(one) for one in os.listdir(tasks) if open(f"{tasks}/{one}/comm").read() == "tandem-engine\n")
    if line == "hold\n":
        trace(SEIZE, thread)
        trace(INTERRUPT, thread)
        os.waitpid(thread, ALL)
        # In the log, so that what comes behind it was written later.
        print("it stands still", file=sys.stderr, flush=True)
    else:
        trace(DETACH, thread)
    print("done", flush=True)
# Whoever goes away takes it along.
if child.poll() is None:
    child.kill()
child.wait()
"#;

struct Manager {
    socket: UnixDatagram,
    told: VecDeque<String>,
}

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Manager { socket, told: VecDeque::new() }
    }

    fn hear(&mut self) -> String {
        let mut bytes = [0; 2048];
        let length = self.socket.recv(&mut bytes).expect("the node tells something");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// What comes next that begins so; what else came before it is kept.
    fn wait_for(&mut self, word: &str) -> String {
        loop {
            let told = self.hear();
            if told.starts_with(word) {
                return told;
            }
            self.told.push_back(told);
        }
    }

    /// All that has come, and is left out of what comes later.
    fn so_far(&mut self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("a socket");
        let mut bytes = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            self.told.push_back(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        self.socket.set_nonblocking(false).expect("a socket");
        self.told.drain(..).collect()
    }
}

/// The node behind its holder.
struct Held {
    holder: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    log: Receiver<String>,
    node: String,
}

impl Held {
    fn start(config: &Path, variables: &[(&str, &str)]) -> Self {
        let mut holder = Command::new("python3")
            .args(["-c", HOLDER, env!("CARGO_BIN_EXE_tandem"), "run", "--config"])
            .arg(config)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let answers = lines(holder.stdout.take().expect("it is piped"));
        let log = lines(holder.stderr.take().expect("it is piped"));
        let node = answers.recv_timeout(PATIENCE).expect("the node's number");
        let orders = holder.stdin.take();
        Held { holder, orders, answers, log, node }
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("they are taken until the end");
        writeln!(orders, "{order}").expect("the holder lives");
        assert_eq!(self.answers.recv_timeout(PATIENCE).as_deref(), Ok("done"), "{order}");
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.node]).status().expect("kill runs").success());
    }

    /// The next line of the log that is so; those before it are gone.
    fn logs(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        let last = Instant::now() + PATIENCE;
        let next = || self.log.recv_timeout(last.saturating_duration_since(Instant::now())).expect(what);
        while !is_so(&next()) {}
    }
}

/// What comes out of it, line by line, so that one may wait for no longer than one wants to.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    let read = move || BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| to.send(line).ok());
    thread::spawn(read);
    lines
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.holder.wait();
    }
}

#[test]
fn a_supervisor_hears_of_start_reload_and_end() {
    let folder = Folder::new();
    let file = folder.write("tandem.toml", &config_text("[drain]\nhandover = \"0s\"\nlimit = \"3s\""));
    let path = folder.path().join("notify");
    let mut manager = Manager::at(&path);
    let node = Held::start(&file, &[("NOTIFY_SOCKET", path.to_str().expect("text"))]);
    assert_eq!(manager.hear(), "READY=1");
    let status = manager.hear();
    assert!(status.starts_with("STATUS=node ") && status.contains(" is ready: 0 of 0 destinations"), "{status}");
    node.signal("-HUP");
    let reloading = manager.wait_for("RELOADING=1");
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    manager.wait_for("READY=1");
    node.signal("-TERM");
    assert_eq!(manager.wait_for("STOPPING=1"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=13000000");
    assert!(!manager.so_far().iter().any(|told| told == "WATCHDOG=1"), "nobody has asked for it");
}

#[test]
fn the_watchdog_hears_nothing_while_the_engines_thread_stands_still() {
    let folder = Folder::new();
    let file = folder.write("tandem.toml", &config_text(""));
    let path = folder.path().join("notify");
    let mut manager = Manager::at(&path);
    let variables = [("NOTIFY_SOCKET", path.to_str().expect("text")), ("WATCHDOG_USEC", "1000000")];
    let mut node = Held::start(&file, &variables);
    manager.wait_for("READY=1");
    (0..3).for_each(|_| drop(manager.wait_for("WATCHDOG=1")));
    node.order("hold");
    manager.so_far();
    node.logs("the holder's word", |line| line == "it stands still");
    // It waits for one answer, longer and longer. A wait that the first of these tells of may have begun before; the second is told
    // a while later.
    let waits = |line: &str| line.contains("the engine's thread does not answer") && !line.ends_with("ms");
    (0..2).for_each(|_| node.logs("a wait of a second or more", waits));
    // One may have been on its way.
    let told = manager.so_far();
    assert!(told.iter().filter(|told| *told == "WATCHDOG=1").count() <= 1, "{told:?}");
    node.order("go");
    manager.wait_for("WATCHDOG=1");
}
