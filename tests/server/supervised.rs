//! A node under a supervisor, which a real datagram socket stands for.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

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
    answers: Box<dyn Iterator<Item = String>>,
    log: Box<dyn Iterator<Item = String>>,
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
        let mut answers = BufReader::new(holder.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let log = BufReader::new(holder.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        let node = answers.next().expect("the node's number");
        let orders = holder.stdin.take();
        Held { holder, orders, answers: Box::new(answers), log: Box::new(log), node }
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("they are taken until the end");
        writeln!(orders, "{order}").expect("the holder lives");
        assert_eq!(self.answers.next().as_deref(), Some("done"), "{order}");
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.node]).status().expect("kill runs").success());
    }

    fn log_says(&mut self, word: &str) {
        assert!(self.log.any(|line| line.contains(word)), "no line says {word}");
    }
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
    (0..2).for_each(|_| node.log_says("the engine's thread does not answer"));
    // One may have been on its way.
    let told = manager.so_far();
    assert!(told.iter().filter(|told| *told == "WATCHDOG=1").count() <= 1, "{told:?}");
    node.order("go");
    manager.wait_for("WATCHDOG=1");
}
