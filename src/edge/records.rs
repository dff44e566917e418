//! Records of sessions, a JSON object a line, into a file.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::edge::counters::LineCounters;
use crate::edge::lines::{Line, Lines, LinesConfig};
use crate::edge::moment::Moment;
use crate::engine::event::Record;

/// One line. These names are a promise to whoever reads the file: they may become more, and none changes.
#[derive(Debug, Serialize)]
struct Fields<'r> {
    // First, since it shows whose line a torn one is (`Line::HEAD`).
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

impl<'r> Fields<'r> {
    fn new(node: &'r str, record: &'r Record) -> Self {
        Fields {
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

/// A record of that node.
#[derive(Debug)]
struct OfNode {
    node: Arc<str>,
    record: Box<Record>,
}

impl Line for OfNode {
    const NAME: &'static str = "records";
    const HEAD: &'static str = "{\"began\":\"";

    fn bytes(&self) -> usize {
        size_of::<Record>() + self.record.call_id.len() + self.record.destination.as_ref().map_or(0, String::len)
    }

    fn write(&self, line: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(line, &Fields::new(&self.node, &self.record))
    }
}

/// Takes records for the file. Dropping it writes what waits, if that can be.
#[derive(Debug)]
pub struct Records {
    node: Arc<str>,
    lines: Lines<OfNode>,
}

impl Records {
    /// Starts the thread that writes them ([`Lines::start`]).
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(config: &LinesConfig, node: &str, counters: Arc<LineCounters>) -> io::Result<Self> {
        Ok(Records { node: node.into(), lines: Lines::start(config, counters)? })
    }

    /// Takes one record, or drops and counts it. Never waits.
    pub fn take(&mut self, record: Box<Record>) {
        self.lines.take(OfNode { node: Arc::clone(&self.node), record });
    }

    /// Writes what waits and closes the file. Returns whether it came to an end within that time.
    pub fn close(self, within: Duration) -> bool {
        self.lines.close(within)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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

    fn line_of(record: &Record) -> String {
        serde_json::to_string(&Fields::new("a", record)).expect("plain values")
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
            let counters = Arc::new(LineCounters::default());
            let config = LinesConfig::of(file.clone());
            let mut records = Records::start(&config, "a", Arc::clone(&counters)).expect("a thread");
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
            let read = counters.read();
            prop_assert_eq!((read.written, read.dropped.iter().sum::<u64>()), (call_ids.len() as u64, 0));
        }
    }
}
