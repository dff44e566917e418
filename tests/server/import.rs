//! `tandem import`, as its users run it: configurations of both peers, each with the configuration and the report that it
//! becomes. They were made by `tandem import PEER PEER/NAME.cfg > PEER/NAME.toml 2> PEER/NAME.report` in tests/import, and read.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tandem::config::Config;
use tandem::edge::store::{Database, Store};
use tandem::engine::dispatch::{Algorithm, Ping, PingLegs, Policy, SetId};
use tandem::engine::route::{Action, Condition, Pattern, Rewrite};
use tandem::engine::sip::Reply;

use crate::scratch::Folder;

/// Each configuration, and the exit status of its import: 1 where something is not mappable.
const CASES: &[(&str, &str, i32)] = &[
    ("opensips", "article", 0),
    ("opensips", "load-balancer", 1),
    ("opensips", "partitions", 1),
    ("opensips", "cluster", 1),
    ("kamailio", "default", 1),
    ("kamailio", "callload", 1),
    ("kamailio", "weights", 1),
];

/// What stands as a password in them.
const SECRETS: &[&str] =
    &["opensipsrw", "fR33", "pass@10", "acc:other", "s3cret", "t0psecret", "kama:", "ilio@rw", "kamailiorw"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

fn import_in(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.arg("import").args(args).current_dir(folder).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The configuration that a written one makes: `Config::parse` has no fault to tell.
fn accepted(name: &str, toml: &str) -> Config {
    Config::parse(name, toml, Path::new("/nowhere")).unwrap_or_else(|error| panic!("{error}"))
}

fn policy(config: &Config, set: u32) -> &Policy {
    config.sets.iter().find(|policy| policy.set == SetId(set)).expect("the set")
}

#[test]
fn each_configuration_becomes_what_is_expected_and_each_thing_in_it_is_told() {
    for (peer, name, status) in CASES {
        let output = import_in(&folder(), &[peer, &format!("{peer}/{name}.cfg")]);
        let (toml, report) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(toml, read(&format!("{peer}/{name}.toml")), "{peer}/{name}.toml");
        assert_eq!(report, read(&format!("{peer}/{name}.report")), "{peer}/{name}.report");
        assert_eq!(output.status.code(), Some(*status), "{peer}/{name}");
    }
}

#[test]
fn every_written_configuration_is_accepted() {
    for (peer, name, _) in CASES {
        let file = format!("{peer}/{name}.toml");
        accepted(&file, &read(&file));
    }
    accepted("kamailio/list.toml", &read("kamailio/list.toml"));
}

#[test]
fn no_parameter_of_the_modules_and_no_call_of_theirs_is_left_out() {
    let modules = ["dispatcher", "load_balancer", "dialog", "clusterer"];
    for (peer, name, _) in CASES.iter().filter(|(_, name, _)| *name != "default") {
        let (script, report) = (read(&format!("{peer}/{name}.cfg")), read(&format!("{peer}/{name}.report")));
        let mut found = 0;
        for (number, line) in (1..).zip(script.lines()) {
            let code = line.split('#').next().unwrap_or_default();
            let is_parameter = modules.iter().any(|module| code.contains(&format!("modparam(\"{module}\"")));
            let is_call = ["ds_", "lb_"].iter().any(|word| {
                code.match_indices(word).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    let name = code[at..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                    !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '"'))
                        && code[at + name.len()..].starts_with('(')
                })
            });
            if is_parameter || is_call {
                found += 1;
                assert!(
                    report.contains(&format!("{peer}/{name}.cfg:{number}: ")),
                    "{peer}/{name}.cfg:{number}: {line}"
                );
            }
        }
        assert!(found > 3, "{peer}/{name}: {found}");
    }
}

#[test]
fn the_article_becomes_what_it_is() {
    let config = accepted("article.toml", &read("opensips/article.toml"));
    let tts = policy(&config, 19);
    assert_eq!(tts.algorithm, Algorithm::RoundRobin);
    assert_eq!(tts.empty_reply, Reply::new(480, "MRCP server Unavailable"));
    assert!(tts.probing.checks.is_empty() && tts.session.ping.is_none(), "a TTS channel bears no OPTIONS");
    let asr = Ping { legs: PingLegs::Both, interval: Duration::from_secs(30), ..Ping::default() };
    assert_eq!(policy(&config, 20).session.ping, Some(asr), "other traffic is asked");
    let rule = config.route.rules.iter().find(|rule| rule.name == "set-19").expect("its rule");
    let agent = Condition::UserAgent(Pattern::new("OPENSIPS_TTS_MRCP_CLIENT"));
    assert_eq!(rule.when, [Condition::Method(vec!["INVITE".into()]), agent]);
    let Action::Set(target) = &rule.action else { panic!("{rule:?}") };
    assert_eq!(
        (target.set, target.rewrite, target.record_route_params.as_str()),
        (SetId(19), Rewrite::Article, "nat=yes")
    );
}

#[test]
fn a_password_stands_in_the_configuration_alone() {
    for (peer, name, _) in CASES {
        let file = format!("{peer}/{name}.cfg");
        for args in [vec![*peer, &file], vec![peer, &file, "--json"]] {
            let output = import_in(&folder(), &args);
            let told = text(&output.stderr);
            assert!(SECRETS.iter().all(|secret| !told.contains(secret)), "{told}");
        }
    }
    assert!(read("opensips/load-balancer.toml").contains("mysql://opensips:fR33@pass@10.20.0.9/opensips"));
    let output = import_in(&folder(), &["opensips", "mysql://opensips:opensipsrw@127.0.0.1:1/opensips"]);
    let told = text(&output.stderr);
    assert_eq!((output.status.code(), told.contains("opensipsrw")), (Some(78), false), "{told}");
}

#[test]
fn output_and_report_are_new_files_and_json_is_one_object() {
    let scratch = Folder::new();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (toml, report) = (path("tandem.toml"), path("report.json"));
    let args = ["opensips", "opensips/article.cfg", "--output", &toml, "--report", &report, "--json"];
    let output = import_in(&folder(), &args);
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(0), 0, 0));
    assert_eq!(std::fs::read_to_string(&toml).expect("it is written"), read("opensips/article.toml"));
    let mode = std::fs::metadata(&toml).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a password");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&report).expect("it is written")).expect("one object");
    let lines = json["lines"].as_array().expect("lines");
    assert_eq!(
        (json["not_mappable"].as_u64(), lines.len() + 1),
        (Some(0), read("opensips/article.report").lines().count())
    );
    let first = &lines[0];
    assert_eq!(
        (&first["file"], &first["line"], &first["verdict"]),
        (&"opensips/article.cfg".into(), &13.into(), &"mapped".into())
    );
    let again = import_in(&folder(), &args);
    let told = text(&again.stderr);
    assert_eq!((again.status.code(), told.contains("it is there already")), (Some(1), true), "{told}");
}

#[test]
fn what_cannot_be_read_is_told_with_its_line_and_exits_78() {
    let scratch = Folder::new();
    scratch.write("dispatcher.list", "1 sip:10.0.0.1:5060 0 0\n");
    scratch.write("kamailio.cfg", "#!KAMAILIO\nroute { exit; }\n");
    scratch.write("open.cfg", "route {\n  xlog(\"a\");\n");
    scratch.write("text.cfg", "listen=udp:127.0.0.1:5060\n\nmodparam(\"tm\", \"x, 1)\n");
    scratch.write("more.cfg", "include_file \"nowhere.cfg\"\n");
    scratch.write("circle.cfg", "include_file \"circle.cfg\"\n");
    scratch.write("deep.cfg", &format!("route {{ if ({}1) exit; }}", "(".repeat(100_000)));
    for (file, words) in [
        ("nowhere.cfg", "nowhere.cfg: can't read it"),
        ("dispatcher.list", "give tandem import kamailio dispatcher.list"),
        ("kamailio.cfg", "give tandem import kamailio kamailio.cfg"),
        ("open.cfg", "open.cfg:2: a { is never closed"),
        ("text.cfg", "text.cfg:3: what begins here never ends"),
        ("more.cfg", "nowhere.cfg: can't read it"),
        ("circle.cfg", "circle.cfg:1: files that include each other go too deep"),
        ("deep.cfg", "deep.cfg:1: blocks or brackets go too deep"),
        ("sqlite:nowhere.db", "nowhere.db"),
    ] {
        let output = import_in(scratch.path(), &["opensips", file]);
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), told.contains(words)), (Some(78), true), "{file}: {told}");
        assert!(output.stdout.is_empty(), "{file}");
    }
    assert_eq!(import_in(scratch.path(), &["asterisk", "sip.conf"]).status.code(), Some(2));
}

#[test]
fn a_list_becomes_its_sets() {
    let output = import_in(&folder(), &["kamailio", "kamailio/dispatcher.list"]);
    assert_eq!(text(&output.stdout), read("kamailio/list.toml"));
    assert_eq!(text(&output.stderr), read("kamailio/list.report"));
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn a_database_becomes_its_sets() {
    let scratch = Folder::new();
    let store = Store::new(&Database::of("sqlite:t.db"), scratch.path()).expect("a URL");
    store.make().await.expect("a file");
    store
        .execute(
            "INSERT INTO dispatcher (setid, destination, state, weight, priority, attrs, description) VALUES
             (19, 'sip:10.129.39.88:7010', 0, 1, 100, 'pstn=100', 'TTS_MRCP_CLIENT_FS_7010'),
             (19, 'sip:10.129.39.88:7011', 1, 1, 100, 'pstn=100', 'TTS_MRCP_CLIENT_FS_7011'),
             (20, 'sip:10.129.39.89:7010', 2, 1, 0, '', ''),
             (20, 'sip:10.129.39.90:7010', 7, 1, 0, '', '')",
        )
        .await
        .expect("rows");
    let output = import_in(scratch.path(), &["opensips", "sqlite:t.db"]);
    let (toml, report) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{report}");
    let config = accepted("t.toml", &toml);
    assert_eq!(config.sets.iter().map(|policy| policy.set.0).collect::<Vec<_>>(), [19, 20]);
    let expected = "\
sqlite:t.db: approximated: no script: [[listener]] bind = \"udp:*:5060\": rows say nothing of it; give the addresses that are meant
sqlite:t.db:1: approximated: set 19 with 2 rows: [[set]] id = 19, algorithm = \"round_robin\": which one stands in the script, as \
do the conditions of a [[rule]] to it
sqlite:t.db:1: approximated: set 19 attrs pstn: OpenSIPS's dispatcher heeds no attrs, and so it is here: give [set.capacity] attr = \
\"pstn\" to make it a limit
sqlite:t.db:2: mapped: sip:10.129.39.88:7011 state 1: the order maint, until tandem set says otherwise
sqlite:t.db:3: approximated: set 20 with 1 row: [[set]] id = 20, algorithm = \"round_robin\": which one stands in the script, as do \
the conditions of a [[rule]] to it
sqlite:t.db:3: approximated: sip:10.129.39.89:7010 state 2: it is ready, and its health is for probes and calls to say
1 mapped, 5 approximated, 1 not mappable
";
    let (rows, fault): (Vec<_>, Vec<_>) = report.lines().partition(|line| !line.starts_with("sqlite:t.db:4: "));
    assert_eq!(rows.join("\n") + "\n", expected);
    let [fault] = fault.as_slice() else { panic!("{report}") };
    assert!(
        fault.starts_with("sqlite:t.db:4: not mappable: a row that can't be used: dispatcher row 4: state is \"7\""),
        "{fault}"
    );
}
