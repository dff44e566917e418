//! Files of JSON lines: `[records]`, and that of `[events]`.

use std::path::Path;

use super::reader::Section;
use crate::edge::lines::LinesConfig;

/// A file that is shorter would be set aside at every line.
const LEAST_BYTES: i64 = 4096;

/// Reads `file`, `max_bytes` and `keep` of a section; without `file` there is none. The other keys need it.
pub(super) fn read(section: &Section<'_>, base: &Path, example: &str) -> Option<LinesConfig> {
    let default = LinesConfig::of(section.file("file", base, example).unwrap_or_default());
    let max_bytes = match section.number("max_bytes", 0..=1 << 50) {
        Some(0) => None,
        Some(few @ 1..LEAST_BYTES) => {
            section.fault_at("max_bytes", &format!("it is {few}: give {LEAST_BYTES} or more, or 0 for no end"));
            None
        }
        Some(number) => Some(number as u64),
        None => default.max_bytes,
    };
    let keep = section.number("keep", 1..=1000).map_or(default.keep, |number| number as u32);
    section.has("file").then_some(LinesConfig { max_bytes, keep, ..default })
}

/// `[records]`, which the table switches on.
pub(super) fn read_records(section: &Section<'_>, base: &Path) -> Option<LinesConfig> {
    let records = read(section, base, "records.jsonl");
    if section.is_present() && records.is_none() {
        section.fault("it has no file: give one, as file = \"records.jsonl\"");
    }
    section.finish();
    records
}
