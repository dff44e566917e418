//! docs/metrics.md tells every metric as the code does.

use std::fmt::Write as _;
use std::{env, fs};

use tandem::edge::metrics::{Kind, Row, table};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
/// With this in the environment the table is written anew instead.
const WRITE: &str = "TANDEM_WRITE_METRICS";

/// What the numbers are, as the name tells it.
fn unit(row: &Row) -> &'static str {
    let name = row.name.trim_end_matches("_total");
    let units = [
        ("_timestamp_seconds", "seconds since 1970"),
        ("_seconds", "seconds"),
        ("_bytes", "bytes"),
        ("_ratio", "ratio"),
    ];
    units.into_iter().find(|(ending, _)| name.ends_with(ending)).map_or("", |(_, unit)| unit)
}

fn written() -> String {
    let mut text = "| name | kind | labels | unit | what |\n|---|---|---|---|---|\n".to_owned();
    for row in table() {
        let kind = match row.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{}` | {kind} | {} | {} | {} |", row.name, labels.join(", "), unit(row), row.help)
            .expect("writing to memory");
    }
    text
}

#[test]
fn the_reference_of_metrics_is_complete() {
    let text = fs::read_to_string(PATH).expect("it is there");
    let begins = text.find("| name | kind |").expect("a table of metrics");
    let (before, rest) = text.split_at(begins);
    let (told, after) = rest.split_at(rest.find("\n\n").map_or(rest.len(), |end| end + 1));
    let right = written();
    if env::var_os(WRITE).is_some() {
        fs::write(PATH, [before, &right, after].concat()).expect("it can be written");
        return;
    }
    let missing: Vec<_> = right.lines().filter(|line| !told.lines().any(|one| one == *line)).collect();
    let surplus: Vec<_> = told.lines().filter(|line| !right.lines().any(|one| one == *line)).collect();
    assert!(
        told == right,
        "docs/metrics.md is not what metrics::table() says: run {WRITE}=1 cargo test --test server reference_of_metrics\n\
         missing: {missing:#?}\nsurplus: {surplus:#?}"
    );
}
