//! Files of JSON objects, one a line. A thread of its own writes each file, and nobody ever waits for it: what finds its queue
//! full is dropped and counted.

mod file;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use self::file::LinesFile;
use crate::edge::counters::{LineCounters, LineFault};

/// Lines that may wait for the disk: some seconds of calls.
const QUEUE: usize = 16_384;
/// Bytes of them, since a caller chooses how long his Call-ID is.
const QUEUED_BYTES: usize = 32 << 20;
/// Bytes of lines after which a batch is written although more wait.
const BATCH: usize = 64 << 10;
/// From one try to write to the next while the disk takes nothing.
const RETRY: Duration = Duration::from_secs(1);
/// How often a fault that lasts is told.
const TELL: Duration = Duration::from_secs(60);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinesConfig {
    /// The file. Older ones stand beside it as `file.1`, `file.2` and so on.
    pub file: PathBuf,
    /// A line that would make the file longer begins a new one; none: it is never set aside.
    pub max_bytes: Option<u64>,
    /// How many older files are kept; at least 1.
    pub keep: u32,
}

impl LinesConfig {
    /// What holds for a file unless something else is said.
    pub fn of(file: PathBuf) -> Self {
        LinesConfig { file, max_bytes: Some(100 << 20), keep: 10 }
    }
}

/// What becomes a line.
pub trait Line: Send + 'static {
    /// What many of them are called.
    const NAME: &'static str;
    /// What each line begins with: it shows whose line a torn one is. No longer than a line may be.
    const HEAD: &'static str;

    /// Its bytes while it waits, roughly.
    fn bytes(&self) -> usize;

    /// Writes the JSON object.
    ///
    /// # Errors
    /// It can't be written as JSON, which is a fault of ours.
    fn write(&self, line: &mut Vec<u8>) -> serde_json::Result<()>;
}

/// Takes lines for a file. Dropping it ends the thread when what waits is written, or can't be.
#[derive(Debug)]
pub struct Lines<L> {
    queue: Option<SyncSender<L>>,
    shared: Arc<Shared>,
    thread: Thread,
    /// Closed by the thread's end.
    ended: Receiver<()>,
    told: Told,
}

/// What both sides of the queue know.
#[derive(Debug)]
struct Shared {
    counters: Arc<LineCounters>,
    /// Bytes in the queue, roughly.
    queued: AtomicUsize,
    /// What can't be written now never will be.
    closing: AtomicBool,
}

impl Shared {
    /// Why lines are dropped if they are.
    fn fault(&self) -> LineFault {
        self.counters.read().fault.unwrap_or(LineFault::Slow)
    }

    fn dropped(&self) -> u64 {
        self.counters.read().dropped.iter().sum()
    }
}

impl<L: Line> Lines<L> {
    /// Starts the thread. A file that can't be written to is told in the log and tried again: the node goes on without it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(config: &LinesConfig, counters: Arc<LineCounters>) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE);
        let (end, ended) = channel();
        let shared = Arc::new(Shared { counters, queued: AtomicUsize::new(0), closing: AtomicBool::new(false) });
        let writer = Writer {
            file: LinesFile::new(config, L::NAME, L::HEAD),
            queue: waiting,
            shared: Arc::clone(&shared),
            lines: Vec::new(),
            told: Told::default(),
            lost_before: None,
            _end: end,
        };
        let thread = thread::Builder::new().name(L::NAME.to_owned()).spawn(move || writer.run())?;
        let thread = thread.thread().clone();
        Ok(Lines { queue: Some(queue), shared, thread, ended, told: Told::default() })
    }

    /// Takes one line, or drops and counts it. Never waits.
    pub fn take(&mut self, line: L) {
        let bytes = line.bytes();
        let queued = self.shared.queued.fetch_add(bytes, Relaxed) + bytes;
        if queued <= QUEUED_BYTES && self.queue.as_ref().is_some_and(|queue| queue.try_send(line).is_ok()) {
            return;
        }
        self.shared.queued.fetch_sub(bytes, Relaxed);
        let fault = self.shared.fault();
        self.shared.counters.dropped(fault, 1);
        // Of other faults the thread tells, which a disk that hangs does not let do anything.
        if fault == LineFault::Slow && self.told.is_due() {
            warn!(dropped = self.shared.dropped(), "{} are dropped: their disk is too slow or hangs", L::NAME);
        }
    }

    /// Writes what waits and closes the file. Returns whether it came to an end within that time.
    pub fn close(mut self, within: Duration) -> bool {
        self.end();
        let ended = self.ended.recv_timeout(within) == Err(RecvTimeoutError::Disconnected);
        if !ended {
            warn!(waited = ?within, "{} are left unwritten: their disk is too slow or hangs", L::NAME);
        }
        ended
    }
}

impl<L> Lines<L> {
    fn end(&mut self) {
        self.shared.closing.store(true, Relaxed);
        self.queue = None;
        self.thread.unpark();
    }
}

impl<L> Drop for Lines<L> {
    fn drop(&mut self) {
        self.end();
    }
}

/// All that the thread owns.
#[derive(Debug)]
struct Writer<L> {
    file: LinesFile,
    queue: Receiver<L>,
    shared: Arc<Shared>,
    /// Whole lines that are not in the file yet.
    lines: Vec<u8>,
    told: Told,
    /// How many lines were lost before a fault that was told; none: there is no such fault.
    lost_before: Option<u64>,
    _end: Sender<()>,
}

impl<L: Line> Writer<L> {
    fn run(mut self) {
        // Before the first line, so that a wrong path is told at the start.
        let mut goes_on = self.insist();
        while goes_on && let Ok(line) = self.queue.recv() {
            self.push(&line);
            while self.lines.len() < BATCH
                && let Ok(line) = self.queue.try_recv()
            {
                self.push(&line);
            }
            goes_on = self.insist();
        }
        self.give_up();
    }

    /// Writes what waits, however long that takes. Returns whether it is written: at the end one try has to do.
    fn insist(&mut self) -> bool {
        loop {
            // Before the try: one that began earlier may have failed of what has been mended since.
            let last = self.shared.closing.load(Relaxed);
            match self.write() {
                Ok(()) => return true,
                Err(_) if last => return false,
                Err(_) => thread::park_timeout(RETRY),
            }
        }
    }

    fn push(&mut self, line: &L) {
        self.shared.queued.fetch_sub(line.bytes(), Relaxed);
        line.write(&mut self.lines).expect("plain values go into memory");
        self.lines.push(b'\n');
    }

    /// Writes what waits; what the disk does not take stays.
    fn write(&mut self) -> io::Result<()> {
        let (whole, result) = self.file.append(&self.lines);
        self.shared.counters.written(count(&self.lines[..whole]));
        self.lines.drain(..whole);
        match &result {
            Ok(()) => self.works(),
            Err(cause) => self.fails(cause),
        }
        result
    }

    fn fails(&mut self, cause: &io::Error) {
        let fault = fault_of(cause);
        self.shared.counters.fault(Some(fault));
        if self.told.is_due() {
            let lost_before = *self.lost_before.get_or_insert_with(|| self.shared.dropped());
            let (file, lost) = (self.file.path().display(), self.shared.dropped() - lost_before);
            error!(%file, %cause, lost, "{} can't be written: {}", L::NAME, fault.remedy());
        }
    }

    fn works(&mut self) {
        self.shared.counters.fault(None);
        if let Some(lost_before) = self.lost_before.take() {
            let (file, lost) = (self.file.path().display(), self.shared.dropped() - lost_before);
            info!(%file, lost, "{} are written again", L::NAME);
        }
    }

    fn give_up(self) {
        let lost = count(&self.lines) + self.queue.try_iter().count() as u64;
        if lost > 0 {
            self.shared.counters.dropped(self.shared.fault(), lost);
            error!(file = %self.file.path().display(), lost, "{} are lost: their disk takes nothing", L::NAME);
        }
    }
}

/// How many lines that are.
fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

fn fault_of(error: &io::Error) -> LineFault {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => LineFault::NoSpace,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => LineFault::Denied,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => LineFault::NoFolder,
        _ => LineFault::Other,
    }
}

/// When a fault was told last: one that lasts is told at intervals.
#[derive(Debug, Default)]
struct Told(Option<Instant>);

impl Told {
    /// Whether it is to be told now.
    fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|last| last.elapsed() >= TELL);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::edge::scratch::Folder;

    /// Far more than a disk that works needs.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[derive(Debug)]
    struct Text(String);

    impl Line for Text {
        const NAME: &'static str = "texts";
        const HEAD: &'static str = "{\"text\":\"";

        fn bytes(&self) -> usize {
            size_of::<Self>() + self.0.len()
        }

        fn write(&self, line: &mut Vec<u8>) -> serde_json::Result<()> {
            serde_json::to_writer(line, &serde_json::json!({ "text": self.0 }))
        }
    }

    fn nth_text(nth: u64) -> Text {
        Text(format!("{nth:0200}"))
    }

    fn line_of(text: &Text) -> String {
        let mut line = Vec::new();
        text.write(&mut line).expect("plain values");
        String::from_utf8(line).expect("JSON is UTF-8")
    }

    fn start(file: &Path) -> (Lines<Text>, Arc<LineCounters>) {
        let counters = Arc::new(LineCounters::default());
        let config = LinesConfig::of(file.to_owned());
        (Lines::start(&config, Arc::clone(&counters)).expect("a thread"), counters)
    }

    /// What was written, and what was dropped for that fault; nothing was for another.
    fn counts(counters: &LineCounters, fault: LineFault) -> (u64, u64) {
        let read = counters.read();
        let dropped = read.dropped[fault as usize];
        assert_eq!(read.dropped.iter().sum::<u64>(), dropped, "{read:?}");
        (read.written, dropped)
    }

    /// Waits until the thread has met that fault.
    fn wait_for(lines: &Lines<Text>, fault: LineFault) {
        let began = Instant::now();
        while lines.shared.fault() != fault {
            assert!(began.elapsed() < PATIENCE, "{lines:?}");
            thread::yield_now();
        }
    }

    #[test]
    fn what_waits_at_the_end_is_written() {
        let folder = Folder::new();
        let file = folder.path().join("lines.jsonl");
        let (mut lines, counters) = start(&file);
        (0..10_000).for_each(|nth| lines.take(nth_text(nth)));
        assert!(lines.close(PATIENCE));
        let text = fs::read_to_string(&file).expect("it is there");
        let expected: String = (0..10_000).map(|nth| line_of(&nth_text(nth)) + "\n").collect();
        assert!(text == expected, "{} lines, {} bytes", text.lines().count(), text.len());
        assert_eq!(counts(&counters, LineFault::Slow), (10_000, 0));
    }

    #[test]
    fn a_disk_that_hangs_holds_nobody_up_and_its_lines_are_counted() {
        let folder = Folder::new();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        let (mut lines, counters) = start(&pipe);
        let taken = 3 * QUEUE as u64;
        // Were it to wait for the pipe, which nobody reads, it would wait for ever.
        (0..taken).for_each(|nth| lines.take(nth_text(nth)));
        let (_, dropped) = counts(&counters, LineFault::Slow);
        assert!(dropped > QUEUE as u64, "{dropped}");
        assert!(!lines.close(Duration::from_millis(10)), "the thread still waits for a reader");
        let mut text = String::new();
        fs::File::open(&pipe).and_then(|mut pipe| pipe.read_to_string(&mut text)).expect("until the thread has ended");
        assert_eq!(counts(&counters, LineFault::Slow), (taken - dropped, dropped));
        assert_eq!(text.lines().count() as u64, taken - dropped);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("a whole line");
        }
    }

    #[test]
    fn lines_wait_while_the_disk_is_full_and_are_written_when_it_is_not() {
        let folder = Folder::new();
        let (file, real) = (folder.path().join("lines.jsonl"), folder.path().join("real"));
        symlink("/dev/full", &file).expect("a link");
        let (mut lines, counters) = start(&file);
        (0..3).for_each(|nth| lines.take(nth_text(nth)));
        wait_for(&lines, LineFault::NoSpace);
        assert_eq!(counts(&counters, LineFault::NoSpace), (0, 0));
        fs::remove_file(&file).and_then(|()| symlink(&real, &file)).expect("another link");
        assert!(lines.close(PATIENCE));
        assert_eq!(counts(&counters, LineFault::NoSpace), (3, 0));
        assert_eq!(fs::read_to_string(&real).expect("it is there").lines().count(), 3);
    }

    #[test]
    fn what_a_full_disk_does_not_take_by_the_end_is_counted_and_keeps_nobody() {
        let (mut lines, counters) = start(Path::new("/dev/full"));
        lines.take(Text("first".to_owned()));
        wait_for(&lines, LineFault::NoSpace);
        let more = 2 * QUEUE as u64;
        (0..more).for_each(|nth| lines.take(nth_text(nth)));
        let (_, dropped) = counts(&counters, LineFault::NoSpace);
        assert_eq!(dropped, more - QUEUE as u64, "the thread takes no more while it has what it can't write");
        assert!(lines.close(PATIENCE));
        assert_eq!(counts(&counters, LineFault::NoSpace), (0, more + 1));
    }

    #[test]
    fn long_lines_do_not_fill_the_memory() {
        let (mut lines, counters) = start(Path::new("/dev/full"));
        lines.take(Text("first".to_owned()));
        wait_for(&lines, LineFault::NoSpace);
        let long = "a".repeat(1 << 20);
        (0..100).for_each(|_| lines.take(Text(long.clone())));
        assert!(lines.shared.queued.load(Relaxed) <= QUEUED_BYTES);
        assert_eq!(counts(&counters, LineFault::NoSpace), (0, 100 - 31));
        lines.take(Text("a short one still has room".to_owned()));
        assert_eq!(counts(&counters, LineFault::NoSpace), (0, 100 - 31));
    }

    #[test]
    fn a_folder_that_is_made_later_is_found() {
        let folder = Folder::new();
        let file = folder.path().join("later/lines.jsonl");
        let (mut lines, counters) = start(&file);
        wait_for(&lines, LineFault::NoFolder);
        fs::create_dir(folder.path().join("later")).expect("a folder");
        lines.take(Text("a@b".to_owned()));
        assert!(lines.close(PATIENCE));
        assert_eq!(counts(&counters, LineFault::NoFolder), (1, 0));
        assert_eq!(fs::read_to_string(&file).expect("it is there"), line_of(&Text("a@b".to_owned())) + "\n");
    }

    #[test]
    fn each_error_of_a_disk_has_its_fault() {
        // ENOSPC, EDQUOT, EFBIG, EACCES, EPERM, EROFS, ENOENT, ENOTDIR, EIO, EMFILE
        for (code, fault) in [
            (28, LineFault::NoSpace),
            (122, LineFault::NoSpace),
            (27, LineFault::NoSpace),
            (13, LineFault::Denied),
            (1, LineFault::Denied),
            (30, LineFault::Denied),
            (2, LineFault::NoFolder),
            (20, LineFault::NoFolder),
            (5, LineFault::Other),
            (24, LineFault::Other),
        ] {
            assert_eq!(fault_of(&io::Error::from_raw_os_error(code)), fault, "{code}");
        }
    }
}
