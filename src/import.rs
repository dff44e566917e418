//! Ways in from OpenSIPS and Kamailio: their configuration, or their rows, becomes a Tandem configuration and a report of what
//! each thing that was found became. Text goes in, text comes out; who reads files and databases is the command.

mod algorithm;
mod answers;
mod branches;
mod calls;
mod changes;
mod condition;
mod draft;
mod lex;
mod list;
mod parse;
mod pattern;
mod preprocess;
mod report;
mod rows;
mod rules;
mod script;
mod sets;
mod settings;
mod syntax;
mod write;

use std::io;

use thiserror::Error;

pub use self::lex::ReadFile;
pub use self::report::{Line, Report, Verdict, without_passwords};

use self::draft::Draft;
use self::lex::Lexer;
use self::report::At;
use self::script::Walker;
use self::settings::Settings;
use crate::engine::dispatch::{RowState, Sets};

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// OpenSIPS.
    OpenSips,
    /// Kamailio.
    Kamailio,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The configuration. It may hold a database's password.
    pub toml: String,
    /// What became of each thing; no password stands in it.
    pub report: Report,
}

/// Why nothing came of it.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The script can't be read as one.
    #[error("{file}:{line}: {problem}")]
    Syntax {
        /// The file.
        file: String,
        /// The line.
        line: u32,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// It is the other peer's.
    #[error("{file}: it is a script of {whose} ({mark}): give tandem import {whose} {file}")]
    Whose {
        /// The file.
        file: String,
        /// Whose it is.
        whose: &'static str,
        /// What shows that.
        mark: String,
    },
    /// A file that the script includes can't be read.
    #[error("{file}: can't read it: {source}: copy it beside the file that includes it, or take its line out")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Imports a script. `name` is its file; `read` reads those that it includes.
///
/// # Errors
/// [`ImportError`] if it is no script, or lacks a file.
pub fn script(peer: Peer, name: &str, text: &str, read: &mut ReadFile<'_>) -> Result<Imported, ImportError> {
    if peer == Peer::OpenSips && text.starts_with("#!KAMAILIO") {
        return Err(ImportError::Whose { file: name.to_owned(), whose: "kamailio", mark: "#!KAMAILIO".into() });
    }
    let mut report = Report::default();
    let tokens = Lexer::new(peer, read, &mut report).lex(name, text)?;
    let script = parse::parse(&tokens, &report)?;
    let (whose, theirs): (_, &[&str]) = match peer {
        Peer::OpenSips => {
            ("kamailio", &["kex", "corex", "tmx", "siputils", "textopsx", "jsonrpcs", "ctl", "sanity", "cfg_rpc"])
        }
        Peer::Kamailio => {
            ("opensips", &["proto_udp", "proto_tcp", "signaling", "sipmsgops", "clusterer", "load_balancer"])
        }
    };
    if let Some((module, _)) = script.modules.iter().find(|(module, _)| theirs.contains(&module.as_str())) {
        let mark = format!("loadmodule {module}");
        return Err(ImportError::Whose { file: name.to_owned(), whose, mark });
    }
    let mut settings = Settings::of(peer, &script, &mut report);
    let mut draft = Draft {
        node_id: settings.node_id.take(),
        listeners: settings.listeners.clone(),
        database: settings.database.clone(),
        partitions: settings.partitions.clone(),
        cluster: settings.cluster.clone(),
        ..Draft::default()
    };
    let mut walker = Walker::new(peer, &script, &settings, &mut report, &mut draft);
    walker.walk();
    walker.decide();
    let toml = write::toml(&draft, name);
    Ok(Imported { toml, report })
}

/// Imports Kamailio's `dispatcher.list`.
pub fn list(name: &str, text: &str) -> Imported {
    let mut report = Report::default();
    let file = report.file(name);
    let rows = list::read(text, file, &mut report);
    let mut draft = Draft::default();
    draft.database.url = Some(format!("list:{name}"));
    rows::draft(Peer::Kamailio, &rows, &mut draft, &mut report);
    let toml = write::toml(&draft, name);
    Imported { toml, report }
}

/// Imports the rows of a database; `faults` are those of rows that can't be used, each with its `id`.
pub fn rows(peer: Peer, url: &str, sets: &Sets, faults: &[(i64, String)]) -> Imported {
    let mut report = Report::default();
    let file = report.file(url);
    let at = |row: i64| At { file, line: u32::try_from(row).unwrap_or_default() };
    for (row, fault) in faults {
        report.not_mappable(at(*row), "a row that can't be used", fault);
    }
    let mut rows = Vec::new();
    for set in &sets.0 {
        rows.extend(set.rows.iter().map(|row| rows::Found {
            set: set.id.0,
            uri: row.uri.to_string(),
            attrs: row.attrs.clone(),
            flags: match row.state {
                RowState::Active => 0,
                RowState::Inactive => 1,
                RowState::Probing => 2,
            },
            at: at(row.row),
        }));
    }
    let mut draft = Draft::default();
    draft.database.url = Some(url.to_owned());
    draft.database.schema = (peer == Peer::Kamailio).then_some("kamailio");
    rows::draft(peer, &rows, &mut draft, &mut report);
    let toml = write::toml(&draft, &without_passwords(url));
    Imported { toml, report }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// The configuration and the report of an OpenSIPS script.
    fn imported(text: &str) -> (String, String) {
        let mut read = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let text = format!("socket=udp:127.0.0.1:5060\nloadmodule \"dispatcher.so\"\n{text}");
        let Imported { toml, report } =
            script(Peer::OpenSips, "a.cfg", &text, &mut read).unwrap_or_else(|error| panic!("{error}"));
        (toml, report.to_string())
    }

    /// The rules that are no comments, each as what it asks and what becomes of it; all of it is accepted.
    fn rules(toml: &str) -> Vec<String> {
        Config::parse("a.toml", toml, Path::new("/nowhere")).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        let shown = |block: &str| {
            let (mut asked, mut action) = (Vec::new(), "reply");
            for (key, value) in block.lines().filter_map(|line| line.split_once(" = ")) {
                match key {
                    "name" | "rewrite" | "reply" => {}
                    "set" => action = value,
                    _ => asked.push(format!("{key} {value}")),
                }
            }
            format!("{} -> {action}", asked.join(", "))
        };
        toml.split("\n\n").filter(|block| block.starts_with("[[rule]]")).map(shown).collect()
    }

    fn told(report: &str, verdict: &str, words: &str) -> bool {
        report.lines().any(|line| line.contains(&format!(": {verdict}: ")) && line.contains(words))
    }

    #[track_caller]
    fn is_lost(report: &str, words: &str) {
        assert!(told(report, "not mappable", words), "{words}\n{report}");
    }

    #[test]
    fn myself_is_asked_of_the_request_uri_alone() {
        let (toml, report) = imported(
            "route { if (src_ip == myself) { sl_send_reply(403,\"loop\"); exit; } if ($ua==\"TTS\") { ds_select_dst(1,4); t_relay(); } }",
        );
        assert_eq!(rules(&toml), ["user_agent \"TTS\" -> 1"], "{report}");
        is_lost(&report, ": src_ip == myself");
        assert!(!report.contains("inside a dialog"), "{report}");
        for guard in
            ["src_ip != myself && !allow_source_address(1)", "!is_myself(\"$rd\")", "uri != myself", "$fd == myself"]
        {
            let (toml, report) = imported(&format!(
                "route {{ if ({guard}) {{ sl_send_reply(403, \"no\"); exit; }} ds_select_dst(1, 4); t_relay(); }}"
            ));
            assert_eq!(rules(&toml), [" -> 1"], "{guard}: {report}");
            is_lost(&report, "[[listener]] allow");
            assert!(!report.contains("Tandem answers by itself"), "{guard}: {report}");
        }
    }

    #[test]
    fn a_default_before_a_switch_is_the_last_rule() {
        let (toml, report) = imported(
            "route { $var(set) = 1; switch ($ua) { case \"TTS\": $var(set) = 2; break; case \"ASR\": $var(set) = 3; break; }
             ds_select_dst($var(set), 4); t_relay(); }",
        );
        let expected = ["user_agent \"TTS\" -> 2", "user_agent \"ASR\" -> 3", " -> 1"];
        assert_eq!(rules(&toml), expected, "{report}");
        let (toml, report) = imported(
            "route { switch ($ua) { case \"TTS\": case \"ASR\": $var(set) = 2; default: $var(set) = 3; }
             ds_select_dst($var(set), 4); t_relay(); }",
        );
        assert_eq!(rules(&toml), [" -> 3"], "it falls through: {report}");
    }

    #[test]
    fn the_last_choice_counts_and_only_what_is_sent() {
        let (toml, report) =
            imported("route { ds_select_dst(1,4); if ($ua==\"ASR\") { ds_select_dst(2,4); } t_relay(); }");
        assert_eq!(rules(&toml), ["user_agent \"ASR\" -> 2", " -> 1"], "{report}");
        let (toml, report) =
            imported("route { ds_select_dst(1,4); if ($ua!=\"ASR\") { ds_select_dst(2,4); } t_relay(); }");
        assert_eq!(rules(&toml), ["user_agent \"ASR\" -> 1", " -> 2"], "{report}");
        let (toml, report) = imported("route { ds_select_dst(1,4); ds_select_dst(2,4); t_relay(); }");
        assert_eq!(rules(&toml), [" -> 2"], "{report}");
        assert!(report.contains("takes its place"), "{report}");
        let (toml, report) = imported(
            "route { if (ds_select_dst(1,4) && $ua == \"TTS\") { t_relay(); exit; } sl_send_reply(403, \"no\"); }",
        );
        assert_eq!(rules(&toml), ["user_agent \"TTS\" -> 1"], "{report}");
        let (toml, report) = imported("route { ds_select_dst(1,4); }");
        assert_eq!(rules(&toml), Vec::<String>::new(), "{report}");
        is_lost(&report, "nothing was found that sends these calls");
    }

    #[test]
    fn destinations_by_hand_are_told_and_change_no_rule() {
        let (toml, report) = imported(
            "route { ds_select_dst(1,4); $rd = \"10.0.0.9\"; t_on_failure(\"F\"); t_relay(); }
             failure_route[F] { $ru = \"sip:10.0.0.8\"; rewritehost(\"10.0.0.7\"); append_branch(); t_relay(); }
             branch_route[B] { $du = \"sip:10.0.0.6\"; }",
        );
        assert!(toml.contains("rewrite = \"none\""), "{toml}");
        for words in ["$rd = ", "$ru = ", "rewritehost(", "append_branch()", "branch_route[B]"] {
            is_lost(&report, words);
        }
        for call in ["$du = \"sip:10.0.0.1\"; t_relay()", "t_relay(, \"udp:10.0.0.1:5060\")", "forward(\"10.0.0.1\")"] {
            let (toml, report) = imported(&format!("route {{ {call}; exit; }}"));
            assert_eq!(rules(&toml), Vec::<String>::new(), "{report}");
            is_lost(&report, "a destination that no set has chosen");
        }
    }

    #[test]
    fn what_is_too_long_is_one_rule_or_told() {
        let any = |part: fn(u32) -> String, sign: &str| (1..=100).map(part).collect::<Vec<_>>().join(sign);
        let sources = any(|n| format!("$si == \"10.0.0.{n}\""), " || ");
        let (toml, report) = imported(&format!("route {{ if ({sources}) {{ ds_select_dst(1,4); t_relay(); }} }}"));
        assert_eq!(rules(&toml).len(), 1, "{report}");
        assert!(toml.contains("\"10.0.0.1\"") && toml.contains("\"10.0.0.100\""), "{toml}");
        let agents = any(|n| format!("$ua == \"a{n}\""), " || ");
        let (_, report) = imported(&format!("route {{ if ({agents}) {{ ds_select_dst(1,4); t_relay(); }} }}"));
        is_lost(&report, "the others are left out");
        is_lost(&report, "beyond the first 64");
        let (_, report) = imported("route { route(A); } route[A] { route(A); }");
        is_lost(&report, "routes go too deep");
    }

    #[test]
    fn a_partition_of_any_name_is_found_or_told() {
        let head = "modparam(\"dispatcher\", \"partition\", \"tts: db_url=sqlite:t.db; table_name=x; odd=1\")
             modparam(\"dispatcher\", \"partition\", \"default: tts\")\n";
        let (toml, report) = imported(&format!("{head} route {{ ds_select_dst(1,4); t_relay(); }}"));
        assert_eq!(rules(&toml), [" -> 1"], "{report}");
        assert!(toml.contains("[database]\nurl = \"sqlite:t.db\"") && !toml.contains("[[partition]]"), "{toml}");
        is_lost(&report, "odd is not known");
        for name in ["$avp(p)", "\"nowhere\""] {
            let (toml, report) = imported(&format!("{head} route {{ ds_select_dst(1,4,,{name}); t_relay(); }}"));
            assert_eq!(rules(&toml), Vec::<String>::new(), "{report}");
            is_lost(&report, "partition");
        }
    }

    #[test]
    fn a_loop_hides_what_it_sets() {
        let (toml, report) = imported(
            "route { $var(i) = 1; while ($var(i) < 3) { $var(i) = 2; } ds_select_dst($var(i), 4); t_relay(); }",
        );
        assert_eq!(rules(&toml), Vec::<String>::new(), "{report}");
        is_lost(&report, "it is set in a loop");
    }

    #[test]
    fn changes_of_a_request_and_unknown_calls_are_told_and_not_asked_again() {
        let (toml, report) = imported(
            "route { $rU = \"9\"; append_hf(\"X-A: 1\"); remove_hf(\"X-B\"); strip(2); dlg_set_timeout(9); odd(1); odd(1); route($var(x));
             route(nowhere); xlog(\"a\"); if ($rU == \"9\") { ds_select_dst(1,4); t_relay(); } }
             local_route { odd(2); } event_route[E_X] { xlog(\"x\"); } onreply_route[1] { fix(); }",
        );
        assert_eq!(rules(&toml), Vec::<String>::new(), "{report}");
        let told = ["$rU = ", "append_hf(", "remove_hf(", "strip(2)", "dlg_set_timeout(9)", "odd(1)", "route($var(x))"];
        for words in told.into_iter().chain(["route(\"nowhere\")", "local_route", "onreply_route[1]", "$rU == "]) {
            is_lost(&report, words.trim_end_matches("\"nowhere\")"));
        }
        assert!(!report.contains("xlog") && !report.contains("event_route"), "{report}");
    }

    #[test]
    fn a_failure_route_asks_for_what_all_its_conditions_let_through() {
        let (toml, report) = imported(
            "route { ds_select_dst(1,4); t_on_failure(\"F\"); t_relay(); }
             failure_route[F] { if (t_check_status(\"486\")) { t_reply(480, \"busy\"); exit; }
             if (t_check_status(\"(4..)|(5..)\")) { if (t_check_status(\"503|603\")) { ds_next_dst(); t_relay(); } } }",
        );
        assert!(toml.contains("retry_on = [\"503\"]"), "{toml}");
        assert!(!toml.contains("empty_reply"), "{toml}");
        is_lost(&report, "an answer to some statuses alone");
    }

    #[test]
    fn what_no_rule_asks_is_a_comment() {
        let (toml, report) =
            imported("route { if (odd()) { ds_select_dst(1,4); t_relay(); exit; } ds_select_dst(2,4); t_relay(); }");
        assert_eq!(rules(&toml), [" -> 2"], "{report}");
        assert!(toml.contains("# Narrow it, then uncomment: no rule can ask odd()\n# [[rule]]\n"), "{toml}");
        is_lost(&report, "narrow it");
        let (toml, report) = imported("route { if (src_ip == 10.1.0.0/16) { ds_select_dst(1,4); t_relay(); } }");
        assert_eq!(rules(&toml), ["source [\"10.1.0.0/16\"] -> 1"], "{report}");
        let (_, report) = imported("route { if ($fU != \"x\") { ds_select_dst(1,4); t_relay(); } }");
        is_lost(&report, "not $fU == \"x\": a rule can't exclude");
    }

    #[test]
    fn a_rule_that_is_a_comment_takes_nothing_from_others() {
        let (toml, report) = imported(
            "route { if ($rU =~ \"^1\" && $rU =~ \"9$\") { ds_select_dst(1,4); t_relay(); exit; }
             t_on_failure(\"NOWHERE\"); ds_select_dst(2,4); t_relay(); }",
        );
        assert_eq!(rules(&toml), ["request_uri { user = \"1*\" } -> 2", " -> 2"], "{report}");
        is_lost(&report, "a rule can't exclude: set-2");
        is_lost(&report, "no such failure_route");
    }

    #[test]
    fn the_other_peers_script_and_another_language_are_told() {
        let mut read = |_: &Path| Err(io::ErrorKind::NotFound.into());
        for (peer, text) in [
            (Peer::OpenSips, "#!KAMAILIO\n"),
            (Peer::OpenSips, "loadmodule \"kex.so\"\n"),
            (Peer::Kamailio, "loadmodule \"proto_udp.so\"\n"),
        ] {
            let error = script(peer, "a.cfg", text, &mut read).expect_err("the other's");
            assert!(error.to_string().contains("give tandem import"), "{error}");
        }
        let text = "#!KAMAILIO\nimport_file \"nowhere.cfg\"\ncfgengine \"python\"\n";
        let report = script(Peer::Kamailio, "a.cfg", text, &mut read).expect("a script").report.to_string();
        is_lost(&report, "no route was read");
        is_lost(&report, "the file is not there");
    }
}
