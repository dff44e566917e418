//! Records of sessions, a JSON object a line, into a file. A thread of its own writes them, and nobody ever waits for it: what
//! finds its queue full is dropped and counted.

mod file;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use serde::Serialize;
use tracing::{error, info, warn};

use self::file::RecordsFile;
use crate::edge::counters::{Counters, RecordFault};
use crate::edge::moment::Moment;
use crate::engine::event::Record;

/// Records that may wait for the disk: some seconds of calls.
const QUEUE: usize = 16_384;
/// Bytes of them, since a caller chooses how long his Call-ID is.
const QUEUED_BYTES: usize = 32 << 20;
/// Bytes of lines after which a batch is written although more wait.
const BATCH: usize = 64 << 10;
/// From one try to write to the next while the disk takes nothing.
const RETRY: Duration = Duration::from_secs(1);
/// How often a fault that lasts is told.
const TELL: Duration = Duration::from_secs(60);

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordsConfig {
    /// The file. Older ones stand beside it as `file.1`, `file.2` and so on.
    pub file: PathBuf,
    /// A record that would make the file longer begins a new one; none: it is never set aside.
    pub max_bytes: Option<u64>,
    /// How many older files are kept; at least 1.
    pub keep: u32,
}

impl RecordsConfig {
    /// What holds for a file unless something else is said.
    pub fn of(file: PathBuf) -> Self {
        RecordsConfig { file, max_bytes: Some(100 << 20), keep: 10 }
    }
}

/// One line. These names are a promise to whoever reads the file: they may become more, and none changes.
#[derive(Debug, Serialize)]
struct Line<'r> {
    // First, since it shows whose line a torn one is (`file::HEAD`).
    began: Moment,
    node: &'r str,
    call_id: &'r str,
    set: u32,
    destination: Option<&'r str>,
    address: Option<SocketAddr>,
    codes: &'r [u16],
    setup_seconds: Option<f64>,
    duration_seconds: f64,
    ending: &'static str,
}

impl<'r> Line<'r> {
    fn new(node: &'r str, record: &'r Record) -> Self {
        Line {
            began: Moment(record.began),
            node,
            call_id: &record.call_id,
            set: record.set.0,
            destination: record.destination.as_deref(),
            address: record.address,
            codes: &record.codes,
            setup_seconds: record.answered_after.map(seconds),
            duration_seconds: seconds(record.lasted),
            ending: record.ending.name(),
        }
    }
}

/// To the millisecond.
fn seconds(length: Duration) -> f64 {
    length.as_millis() as f64 / 1000.0
}

/// Takes records for the file. Dropping it ends the thread when what waits is written, or can't be.
#[derive(Debug)]
pub struct Records {
    queue: Option<SyncSender<Box<Record>>>,
    shared: Arc<Shared>,
    thread: Thread,
    /// Closed by the thread's end.
    ended: Receiver<()>,
    told: Told,
}

/// What both sides of the queue know.
#[derive(Debug)]
struct Shared {
    counters: Arc<Counters>,
    /// Bytes in the queue, roughly.
    queued: AtomicUsize,
    /// What can't be written now never will be.
    closing: AtomicBool,
}

impl Shared {
    /// Why records are dropped if they are.
    fn fault(&self) -> RecordFault {
        self.counters.read().record_fault.unwrap_or(RecordFault::Slow)
    }

    fn dropped(&self) -> u64 {
        self.counters.read().records_dropped.iter().sum()
    }
}

impl Records {
    /// Starts the thread. A file that can't be written to is told in the log and tried again: calls go on without records.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(config: &RecordsConfig, node: &str, counters: Arc<Counters>) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE);
        let (end, ended) = channel();
        let shared = Arc::new(Shared { counters, queued: AtomicUsize::new(0), closing: AtomicBool::new(false) });
        let writer = Writer {
            node: node.to_owned(),
            file: RecordsFile::new(config),
            queue: waiting,
            shared: Arc::clone(&shared),
            lines: Vec::new(),
            told: Told::default(),
            lost_before: None,
            _end: end,
        };
        let thread = thread::Builder::new().name("records".to_owned()).spawn(move || writer.run())?;
        let thread = thread.thread().clone();
        Ok(Records { queue: Some(queue), shared, thread, ended, told: Told::default() })
    }

    /// Takes one record, or drops and counts it. Never waits.
    pub fn take(&mut self, record: Box<Record>) {
        let bytes = bytes_of(&record);
        let queued = self.shared.queued.fetch_add(bytes, Relaxed) + bytes;
        if queued <= QUEUED_BYTES && self.queue.as_ref().is_some_and(|queue| queue.try_send(record).is_ok()) {
            return;
        }
        self.shared.queued.fetch_sub(bytes, Relaxed);
        let fault = self.shared.fault();
        self.shared.counters.records_dropped(fault, 1);
        // Of other faults the thread tells, which a disk that hangs does not let do anything.
        if fault == RecordFault::Slow && self.told.is_due() {
            warn!(dropped = self.shared.dropped(), "records are dropped: their disk is too slow or hangs");
        }
    }

    /// Writes what waits and closes the file. Returns whether it came to an end within that time.
    pub fn close(mut self, within: Duration) -> bool {
        self.end();
        let ended = self.ended.recv_timeout(within) == Err(RecvTimeoutError::Disconnected);
        if !ended {
            warn!(waited = ?within, "records are left unwritten: their disk is too slow or hangs");
        }
        ended
    }

    fn end(&mut self) {
        self.shared.closing.store(true, Relaxed);
        self.queue = None;
        self.thread.unpark();
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.end();
    }
}

fn bytes_of(record: &Record) -> usize {
    size_of::<Record>() + record.call_id.len() + record.destination.as_ref().map_or(0, String::len)
}

/// All that the thread owns.
#[derive(Debug)]
struct Writer {
    node: String,
    file: RecordsFile,
    queue: Receiver<Box<Record>>,
    shared: Arc<Shared>,
    /// Whole lines that are not in the file yet.
    lines: Vec<u8>,
    told: Told,
    /// How many records were lost before a fault that was told; none: there is no such fault.
    lost_before: Option<u64>,
    _end: Sender<()>,
}

impl Writer {
    fn run(mut self) {
        // Before the first record, so that a wrong path is told at the start.
        let mut goes_on = self.insist();
        while goes_on && let Ok(record) = self.queue.recv() {
            self.push(&record);
            while self.lines.len() < BATCH
                && let Ok(record) = self.queue.try_recv()
            {
                self.push(&record);
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

    fn push(&mut self, record: &Record) {
        self.shared.queued.fetch_sub(bytes_of(record), Relaxed);
        serde_json::to_writer(&mut self.lines, &Line::new(&self.node, record)).expect("plain values go into memory");
        self.lines.push(b'\n');
    }

    /// Writes what waits; what the disk does not take stays.
    fn write(&mut self) -> io::Result<()> {
        let (whole, result) = self.file.append(&self.lines);
        self.shared.counters.records_written(count(&self.lines[..whole]));
        self.lines.drain(..whole);
        match &result {
            Ok(()) => self.works(),
            Err(cause) => self.fails(cause),
        }
        result
    }

    fn fails(&mut self, cause: &io::Error) {
        let fault = fault_of(cause);
        self.shared.counters.record_fault(Some(fault));
        if self.told.is_due() {
            let lost_before = *self.lost_before.get_or_insert_with(|| self.shared.dropped());
            let (file, lost) = (self.file.path().display(), self.shared.dropped() - lost_before);
            error!(%file, %cause, lost, "records can't be written: {}", fault.remedy());
        }
    }

    fn works(&mut self) {
        self.shared.counters.record_fault(None);
        if let Some(lost_before) = self.lost_before.take() {
            let (file, lost) = (self.file.path().display(), self.shared.dropped() - lost_before);
            info!(%file, lost, "records are written again");
        }
    }

    fn give_up(self) {
        let lost = count(&self.lines) + self.queue.try_iter().count() as u64;
        if lost > 0 {
            self.shared.counters.records_dropped(self.shared.fault(), lost);
            error!(file = %self.file.path().display(), lost, "records are lost: their disk takes nothing");
        }
    }
}

/// The records in so many lines.
fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

fn fault_of(error: &io::Error) -> RecordFault {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => RecordFault::NoSpace,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => RecordFault::Denied,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => RecordFault::NoFolder,
        _ => RecordFault::Other,
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

    use proptest::prelude::*;

    use super::*;
    use crate::edge::scratch::Folder;
    use crate::engine::dispatch::SetId;
    use crate::engine::event::Ending;

    /// Far more than a disk that works needs.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn record(call_id: &str) -> Box<Record> {
        Box::new(Record {
            call_id: call_id.to_owned(),
            set: SetId(19),
            destination: Some("sip:10.129.39.88:7011".to_owned()),
            address: "10.129.39.88:7011".parse().ok(),
            codes: vec![408, 200],
            began: std::time::UNIX_EPOCH + Duration::from_millis(1_764_127_257_250),
            answered_after: Some(Duration::from_micros(2_012_400)),
            lasted: Duration::from_millis(34_417),
            ending: Ending::CallerBye,
        })
    }

    fn start(file: &Path) -> (Records, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let config = RecordsConfig::of(file.to_owned());
        (Records::start(&config, "a", Arc::clone(&counters)).expect("a thread"), counters)
    }

    /// What was written, and what was dropped for that fault; nothing was for another.
    fn counts(counters: &Counters, fault: RecordFault) -> (u64, u64) {
        let read = counters.read();
        let dropped = read.records_dropped[fault as usize];
        assert_eq!(read.records_dropped.iter().sum::<u64>(), dropped, "{read:?}");
        (read.records_written, dropped)
    }

    /// Waits until the thread has met that fault.
    fn wait_for(records: &Records, fault: RecordFault) {
        let began = Instant::now();
        while records.shared.fault() != fault {
            assert!(began.elapsed() < PATIENCE, "{records:?}");
            thread::yield_now();
        }
    }

    fn line_of(record: &Record) -> String {
        serde_json::to_string(&Line::new("a", record)).expect("plain values")
    }

    #[test]
    fn a_line_has_these_names_in_this_order() {
        assert_eq!(
            line_of(&record("a@b")),
            r#"{"began":"2025-11-26T03:20:57.250Z","node":"a","call_id":"a@b","set":19,"#.to_owned()
                + r#""destination":"sip:10.129.39.88:7011","address":"10.129.39.88:7011","codes":[408,200],"#
                + r#""setup_seconds":2.012,"duration_seconds":34.417,"ending":"caller_bye"}"#
        );
        let empty = Record {
            destination: None,
            address: None,
            codes: Vec::new(),
            answered_after: None,
            lasted: Duration::ZERO,
            ending: Ending::Empty,
            ..*record("")
        };
        assert_eq!(
            line_of(&empty),
            r#"{"began":"2025-11-26T03:20:57.250Z","node":"a","call_id":"","set":19,"destination":null,"#.to_owned()
                + r#""address":null,"codes":[],"setup_seconds":null,"duration_seconds":0.0,"ending":"empty"}"#
        );
    }

    proptest! {
        #[test]
        fn every_line_is_one_json_object_whatever_a_caller_writes(
            call_ids in prop::collection::vec(any::<String>(), 1..20),
            destination in any::<Option<String>>(),
            codes in any::<Vec<u16>>(),
            lasted in any::<Duration>(),
        ) {
            let folder = Folder::new();
            let file = folder.path().join("records.jsonl");
            let (mut records, counters) = start(&file);
            for call_id in &call_ids {
                let (destination, codes) = (destination.clone(), codes.clone());
                records.take(Box::new(Record { destination, codes, lasted, ..*record(call_id) }));
            }
            prop_assert!(records.close(PATIENCE));
            let text = fs::read_to_string(&file).expect("UTF-8");
            prop_assert!(text.ends_with('\n'));
            let lines: Vec<serde_json::Value> =
                text.split_terminator('\n').map(|line| serde_json::from_str(line).expect("JSON")).collect();
            prop_assert_eq!(lines.len(), call_ids.len());
            for (line, call_id) in lines.iter().zip(&call_ids) {
                prop_assert_eq!(line["call_id"].as_str(), Some(call_id.as_str()));
                prop_assert_eq!(line["destination"].as_str(), destination.as_deref());
                prop_assert_eq!(line["codes"].as_array().map(Vec::len), Some(codes.len()));
            }
            prop_assert_eq!(counts(&counters, RecordFault::Slow), (call_ids.len() as u64, 0));
        }
    }

    #[test]
    fn what_waits_at_the_end_is_written() {
        let folder = Folder::new();
        let file = folder.path().join("records.jsonl");
        let (mut records, counters) = start(&file);
        (0..10_000).for_each(|call| records.take(record(&call.to_string())));
        assert!(records.close(PATIENCE));
        let text = fs::read_to_string(&file).expect("it is there");
        let expected: String = (0..10_000).map(|call| line_of(&record(&call.to_string())) + "\n").collect();
        assert!(text == expected, "{} lines, {} bytes", text.lines().count(), text.len());
        assert_eq!(counts(&counters, RecordFault::Slow), (10_000, 0));
    }

    #[test]
    fn a_disk_that_hangs_holds_nobody_up_and_its_records_are_counted() {
        let folder = Folder::new();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        let (mut records, counters) = start(&pipe);
        let taken = 3 * QUEUE as u64;
        // Were it to wait for the pipe, which nobody reads, it would wait for ever.
        (0..taken).for_each(|call| records.take(record(&call.to_string())));
        let (_, dropped) = counts(&counters, RecordFault::Slow);
        assert!(dropped > QUEUE as u64, "{dropped}");
        assert!(!records.close(Duration::from_millis(10)), "the thread still waits for a reader");
        let mut text = String::new();
        fs::File::open(&pipe).and_then(|mut pipe| pipe.read_to_string(&mut text)).expect("until the thread has ended");
        assert_eq!(counts(&counters, RecordFault::Slow), (taken - dropped, dropped));
        assert_eq!(text.lines().count() as u64, taken - dropped);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("a whole line");
        }
    }

    #[test]
    fn records_wait_while_the_disk_is_full_and_are_written_when_it_is_not() {
        let folder = Folder::new();
        let (file, real) = (folder.path().join("records.jsonl"), folder.path().join("real"));
        symlink("/dev/full", &file).expect("a link");
        let (mut records, counters) = start(&file);
        (0..3).for_each(|call| records.take(record(&call.to_string())));
        wait_for(&records, RecordFault::NoSpace);
        assert_eq!(counts(&counters, RecordFault::NoSpace), (0, 0));
        fs::remove_file(&file).and_then(|()| symlink(&real, &file)).expect("another link");
        assert!(records.close(PATIENCE));
        assert_eq!(counts(&counters, RecordFault::NoSpace), (3, 0));
        assert_eq!(fs::read_to_string(&real).expect("it is there").lines().count(), 3);
    }

    #[test]
    fn what_a_full_disk_does_not_take_by_the_end_is_counted_and_keeps_nobody() {
        let (mut records, counters) = start(Path::new("/dev/full"));
        records.take(record("first"));
        wait_for(&records, RecordFault::NoSpace);
        let more = 2 * QUEUE as u64;
        (0..more).for_each(|call| records.take(record(&call.to_string())));
        let (_, dropped) = counts(&counters, RecordFault::NoSpace);
        assert_eq!(dropped, more - QUEUE as u64, "the thread takes no more while it has what it can't write");
        assert!(records.close(PATIENCE));
        assert_eq!(counts(&counters, RecordFault::NoSpace), (0, more + 1));
    }

    #[test]
    fn long_call_ids_do_not_fill_the_memory() {
        let (mut records, counters) = start(Path::new("/dev/full"));
        records.take(record("first"));
        wait_for(&records, RecordFault::NoSpace);
        let long = "a".repeat(1 << 20);
        (0..100).for_each(|_| records.take(record(&long)));
        assert!(records.shared.queued.load(Relaxed) <= QUEUED_BYTES);
        assert_eq!(counts(&counters, RecordFault::NoSpace), (0, 100 - 31));
        records.take(record("a short one still has room"));
        assert_eq!(counts(&counters, RecordFault::NoSpace), (0, 100 - 31));
    }

    #[test]
    fn a_folder_that_is_made_later_is_found() {
        let folder = Folder::new();
        let file = folder.path().join("later/records.jsonl");
        let (mut records, counters) = start(&file);
        wait_for(&records, RecordFault::NoFolder);
        fs::create_dir(folder.path().join("later")).expect("a folder");
        records.take(record("a@b"));
        assert!(records.close(PATIENCE));
        assert_eq!(counts(&counters, RecordFault::NoFolder), (1, 0));
        assert_eq!(fs::read_to_string(&file).expect("it is there"), line_of(&record("a@b")) + "\n");
    }

    #[test]
    fn each_error_of_a_disk_has_its_fault() {
        // ENOSPC, EDQUOT, EFBIG, EACCES, EPERM, EROFS, ENOENT, ENOTDIR, EIO, EMFILE
        for (code, fault) in [
            (28, RecordFault::NoSpace),
            (122, RecordFault::NoSpace),
            (27, RecordFault::NoSpace),
            (13, RecordFault::Denied),
            (1, RecordFault::Denied),
            (30, RecordFault::Denied),
            (2, RecordFault::NoFolder),
            (20, RecordFault::NoFolder),
            (5, RecordFault::Other),
            (24, RecordFault::Other),
        ] {
            assert_eq!(fault_of(&io::Error::from_raw_os_error(code)), fault, "{code}");
        }
    }
}
