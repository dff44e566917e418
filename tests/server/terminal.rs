//! The commands at a terminal and in a shell: `tandem top` in a pseudo-terminal that script(1) makes, and what bash completes.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;

use crate::node::calls;
use crate::orders::Bench;
use crate::scratch::PATIENCE;

/// What terminals take for: show the other screen, show the first one again, show the cursor.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW: &str = "\x1b[?25h";

/// `tandem top` in a terminal of 24 lines.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    output: mpsc::Receiver<Vec<u8>>,
    /// All that was written.
    seen: String,
}

impl Terminal {
    fn start(http: SocketAddr) -> Self {
        let program = env!("CARGO_BIN_EXE_tandem");
        let line = format!(
            "stty rows 24 cols 160; tty; echo before $(stty -g); sh -c 'echo pid $$; exec {program} top --http {http}'; \
             echo status $?; echo after $(stty -g); echo all"
        );
        let mut command = Command::new("script");
        command.args(["-qfc", &line, "/dev/null"]).env("SHELL", "/bin/sh").env_remove("NO_COLOR");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bsdutils has script");
        let (to, output) = mpsc::channel();
        let (keys, mut out) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut buffer) {
                if to.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { child, keys, output, seen: String::new() }
    }

    /// Waits until this has been written after what was seen before; from where on it is after it.
    fn wait_for(&mut self, words: &str, from: usize) -> usize {
        loop {
            if let Some(at) = self.seen[from..].find(words) {
                return from + at + words.len();
            }
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(error) => panic!("{words:?} is not there ({error}):\n{}", self.seen),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("it is there");
    }

    /// What stands behind that word at the start of a line.
    fn word(&self, name: &str) -> String {
        let line = self.seen.lines().find_map(|line| line.trim_end().rsplit_once(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}: {:?}", self.seen)).1.to_owned()
    }

    /// It is over with that status, and the terminal as it was before.
    fn is_restored(&mut self, status: &str) {
        let left = self.wait_for(LEAVE, 0);
        self.wait_for("\nall", left);
        let entered = self.seen.find(ENTER).expect("it had a screen of its own");
        assert!(self.seen[entered..].contains(SHOW), "the cursor is back: {:?}", self.seen);
        assert_eq!(
            (self.word("after"), self.word("status").as_str()),
            (self.word("before"), status),
            "{:?}",
            self.seen
        );
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn top_shows_a_server_die_and_leaves_the_terminal_as_it_was() {
    let mut bench = Bench::start().await;
    let proxy = bench.node.server().addresses()[0];
    let (one, other) = (bench.uri(0), bench.uri(1));
    let mut terminal = Terminal::start(bench.http);
    let entered = terminal.wait_for(ENTER, 0);
    terminal.wait_for(&one, entered);
    let at = terminal.wait_for("2 of 2 destinations fit", entered);

    // Its port is closed, and calls find that out.
    bench.servers.remove(0).stop().await;
    calls(proxy, 20, 100.0).await;
    let at = terminal.wait_for("ejected", at);
    let at = terminal.wait_for("1 of 2 destinations fit", at);
    // Only what is not fit, and that is seen at once.
    terminal.press("f");
    let at = terminal.wait_for("f all", at);
    terminal.press("s");
    let at = terminal.wait_for("sorted by calls", at);
    let picture = &terminal.seen[terminal.seen[..at].rfind("\x1b[1;1H").expect("a picture")..at];
    assert!(picture.contains(&one) && !picture.contains(&other), "{picture:?}");
    terminal.press("p");
    let at = terminal.wait_for("paused", at);

    // A larger terminal has its foot further down.
    let tty =
        terminal.seen.lines().find(|line| line.starts_with("/dev/")).expect("it has a name").trim_end().to_owned();
    let resized = Command::new("stty").args(["-F", &tty, "rows", "40"]).status().expect("coreutils has stty");
    assert!(resized.success());
    terminal.wait_for("\x1b[40;1H", at);
    terminal.press("q");
    terminal.is_restored("0");
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn top_says_when_it_is_not_live_and_ends_on_sigterm() {
    let bench = Bench::start().await;
    let mut terminal = Terminal::start(bench.http);
    let entered = terminal.wait_for(ENTER, 0);
    let at = terminal.wait_for("live", entered);
    bench.node.stop().await;
    terminal.wait_for("NOT LIVE", at);
    let pid = terminal.word("pid");
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    terminal.is_restored("0");
}

#[test]
fn bash_completes_commands_and_their_options() {
    let program = env!("CARGO_BIN_EXE_tandem");
    let script = format!(
        "source <({program} completions bash)\n\
         complete -p tandem >/dev/null || exit 1\n\
         completed() {{ COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _tandem tandem \"${{@: -1}}\" \"${{@: -2:1}}\"; echo \"${{COMPREPLY[*]}}\"; }}\n\
         completed tandem se\ncompleted tandem events --f\ncompleted tandem set 19 7010 dr"
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().collect::<Vec<_>>(), ["set sessions", "--follow", "drain"], "{output:?}");
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = crate::scratch::Folder::new();
    let program = env!("CARGO_BIN_EXE_tandem");
    let status = Command::new(program).args(["man", "--out"]).arg(folder.path()).status().expect("it runs");
    assert!(status.success());
    let page = std::fs::read_to_string(folder.path().join("tandem-set.1")).expect("a page");
    let printed = Command::new(program).args(["man", "set"]).output().expect("it runs");
    assert_eq!(page, String::from_utf8_lossy(&printed.stdout));
    let unknown = Command::new(program).args(["man", "sets"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&unknown.stderr);
    assert_eq!((unknown.status.code(), text.starts_with("there is no command sets")), (Some(2), true), "{text}");
}
