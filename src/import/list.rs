//! Kamailio's `dispatcher.list`: `setid destination flags priority attrs`, one a line.

use super::report::{At, Report};
use super::rows::{self, Found};

/// The rows of a file, and what is wrong with lines that are none.
pub(super) fn read(text: &str, file: usize, report: &mut Report) -> Vec<Found> {
    let mut found = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let at = At { file, line };
        let mut words = text.split_whitespace();
        let (set, uri) = (words.next().and_then(|word| word.parse().ok()), words.next());
        let (Some(set), Some(uri)) = (set, uri.filter(|uri| rows::is_destination(uri))) else {
            report.not_mappable(
                at,
                text,
                "it is no row: give setid destination flags priority attrs, as 1 sip:10.0.0.1:5060 0 0",
            );
            continue;
        };
        let flags = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
        let _priority = words.next();
        let attrs = words.collect::<Vec<_>>().join(" ");
        found.push(Found { set, uri: uri.to_owned(), attrs, flags, at });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_others_told() {
        let mut report = Report::default();
        let file = report.file("dispatcher.list");
        let text = "# sets\n1 sip:10.0.0.1:5060 8 10 duid=a;maxload=30\n\nx y\n2 sip:10.0.0.2 # no more\n";
        let found = read(text, file, &mut report);
        let shown: Vec<_> =
            found.iter().map(|one| (one.set, one.uri.as_str(), one.attrs.as_str(), one.flags)).collect();
        assert_eq!(shown, [(1, "sip:10.0.0.1:5060", "duid=a;maxload=30", 8), (2, "sip:10.0.0.2", "", 0)]);
        assert_eq!(report.lines().len(), 1);
        assert_eq!(report.lines()[0].line, 4);
    }
}
