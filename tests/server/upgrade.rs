//! What earlier versions have left and told is read, by `tests/upgrade/`; and what is named stays named.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tandem::drill::state::State;
use tandem::edge::http::{NodeReport, SetReport, SetsReport, StoreReport};
use tandem::edge::store::Store;
use tandem::edge::store::memory::{self, KeptHealth};
use tandem::engine::dispatch::{AtDeadline, Order};
use tandem::server::Node;

use crate::scratch::{Folder, http};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/upgrade");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The folders of all releases.
fn releases() -> Vec<PathBuf> {
    let all = fs::read_dir(HERE).expect("tests/upgrade").map(|entry| entry.expect("it is there").path());
    let mut all: Vec<_> = all.filter(|path| path.is_dir()).collect();
    all.sort();
    assert!(all.len() >= 2, "{all:?}");
    all
}

fn repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn told(release: &Path, what: &str) -> String {
    fs::read_to_string(release.join("told").join(what)).expect("tests/upgrade/make writes it")
}

#[test]
fn this_version_has_a_section_in_the_changelog_and_a_folder_of_what_it_leaves() {
    let changelog = repository("CHANGELOG.md");
    let mut sections = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(sections.next(), Some("Unreleased"), "what comes next has a place");
    let released = sections.next().expect("a release");
    let (version, date) = released.split_once(" - ").unwrap_or_else(|| panic!("{released:?} is no VERSION - DATE"));
    assert_eq!(version, VERSION, "CHANGELOG.md's first release is that of Cargo.toml");
    let date: Vec<_> = date.split('-').map(str::len).collect();
    assert_eq!(date, [4, 2, 2], "{released}");
    let folder = Path::new(HERE).join(VERSION);
    assert!(
        folder.join("state").is_dir() && folder.join("names").is_dir(),
        "make {}: docs/upgrade.md",
        folder.display()
    );
}

/// The names that are there now: keys of the configuration, routes of the surface, metrics with their labels.
fn names() -> [(&'static str, BTreeSet<String>); 3] {
    let (mut keys, mut section) = (BTreeSet::new(), String::new());
    for line in repository("config/tandem.toml").lines() {
        let line = line.trim_start_matches(['#', ' ']);
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.".contains(&b))
        };
        let header = line.split(" #").next().unwrap_or_default().trim_end();
        if let Some(name) = header.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.trim_matches(['[', ']']);
            if is_name(name) {
                section = name.to_owned();
            }
        } else if section == "set.capacity.resources" {
            // Its keys are names that people give to classes.
            keys.insert(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_name(key)) {
            keys.insert(format!("{section}.{key}").trim_start_matches('.').to_owned());
        }
    }
    let api: Value = serde_json::from_str(&repository("docs/openapi.json")).expect("JSON");
    let paths = api["paths"].as_object().expect("paths").iter();
    // The page's own files are nobody's but the page's.
    let routes = paths.filter(|(path, _)| !path.starts_with("/page.")).flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").keys().filter(|method| *method != "parameters");
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let routes = routes.collect();
    let metrics = repository("docs/metrics.md");
    let metrics = metrics.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(|cell| cell.trim().replace('`', ""));
        let (name, kind, labels) = (cells.next()?, cells.next()?, cells.next()?);
        ["counter", "gauge", "histogram"].contains(&kind.as_str()).then(|| format!("{kind} {name} {{{labels}}}"))
    });
    [("keys", keys), ("routes", routes), ("metrics", metrics.collect())]
}

#[test]
fn names_stay_until_the_next_major_version() {
    let names = names();
    for (what, least) in [("keys", 180), ("routes", 20), ("metrics", 80)] {
        let found = names.iter().find(|(name, _)| *name == what).map_or(0, |(_, names)| names.len());
        assert!(found >= least, "{found} {what}");
    }
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    if std::env::var_os("WRITE_NAMES").is_some() {
        let folder = Path::new(HERE).join(VERSION).join("names");
        fs::create_dir_all(&folder).expect("a folder");
        for (what, names) in &names {
            let text: String = names.iter().map(|name| format!("{name}\n")).collect();
            fs::write(folder.join(format!("{what}.txt")), text).expect("written");
        }
    }
    let mut gone = Vec::new();
    for release in releases() {
        let version = release.file_name().expect("a name").to_string_lossy().into_owned();
        if major(&version) != major(VERSION) {
            continue;
        }
        for (what, names) in &names {
            let file = release.join("names").join(format!("{what}.txt"));
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(text.lines().count() > 0, "{}", file.display());
            gone.extend(
                text.lines().filter(|name| !names.contains(*name)).map(|name| format!("{what} of {version}: {name}")),
            );
        }
    }
    assert!(gone.is_empty(), "only a new major version may take these away, or change their labels: {gone:#?}");
}

#[test]
fn what_earlier_versions_tell_is_understood() {
    for release in releases() {
        let version = release.file_name().expect("a name").to_string_lossy().into_owned();
        let node: NodeReport = serde_json::from_str(&told(&release, "node")).expect("GET /node");
        assert_eq!((node.node.as_str(), &node.version), ("a", &version));
        let set: SetReport = serde_json::from_str(&told(&release, "sets-19")).expect("GET /sets/19");
        let sets: SetsReport = serde_json::from_str(&told(&release, "sets")).expect("GET /sets");
        assert_eq!((set.destinations.len(), sets.sets.len()), (3, 1));
        assert_eq!(set.destinations[0].order.by, "ann");
        let store: StoreReport = serde_json::from_str(&told(&release, "store")).expect("GET /store");
        assert_eq!((store.partitions[0].version, store.partitions[0].versions.len()), (Some(2), 3));
        let all = ["ready", "store", "sets", "node"].map(|what| told(&release, what)).concat();
        let state = State::read(&all).expect("what a drill asks for");
        assert_eq!((state.program.version, state.rows.len(), state.degraded.is_some()), (version, 1, true));
    }
}

/// What a later version may have written beside what it knows: in each object another field.
fn with_strangers(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, with_strangers(value)));
            Value::Object(fields.chain([("of_a_later_version".to_owned(), json!({ "x": [1] }))]).collect())
        }
        Value::Array(all) => Value::Array(all.into_iter().map(with_strangers).collect()),
        other => other,
    }
}

/// Copies a folder, keys for their owner alone, as a node keeps them; `change` is what becomes of each file of JSON.
fn copy(from: &Path, to: &Path, change: &impl Fn(Value) -> Value) {
    fs::create_dir_all(to).expect("the test's folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("it is there").path();
        let copied = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &copied, change);
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        let text = match path.extension().is_some_and(|end| end == "json") {
            true => change(serde_json::from_str(&text).expect("JSON")).to_string(),
            false => text,
        };
        fs::write(&copied, text).expect("the test's folder");
        fs::set_permissions(&copied, fs::Permissions::from_mode(0o600)).expect("a mode");
    }
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("it is there").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { [path].into() }).collect()
}

/// The table as tests/upgrade/make has left it: the rows of version 3, and in `state` what was written back.
const TABLE: &str = "INSERT INTO dispatcher (setid, destination, state, weight, priority, attrs, description) VALUES \
    (19, 'sip:127.0.0.1:7010', 1, '1', 100, 'pstn=100', 'TTS'), (19, 'sip:127.0.0.1:7011', 1, '1', 100, 'pstn=100', 'TTS'), \
    (19, 'sip:127.0.0.1:7012', 2, '5', 100, 'pstn=100', 'TTS')";

async fn get(node: &Node, path: &'static str) -> String {
    let address = node.http().expect("it is on");
    tokio::task::spawn_blocking(move || http(address, "GET", path).1).await.expect("no panic")
}

/// A node with the rows of [`TABLE`], on what its folder holds.
async fn start(folder: &Folder) -> Node {
    let mut config = folder.config("");
    config.database.persist_state = true;
    let store = Store::new(&config.database, &config.base).expect("SQLite");
    store.make().await.expect("a table");
    store.execute(TABLE).await.expect("rows");
    Node::start(&config).await.expect("it starts")
}

/// A node that goes on where a release has stopped knows all that it knew.
async fn goes_on(release: &Path, change: &impl Fn(Value) -> Value) {
    let folder = Folder::new();
    let state = folder.path().join("state");
    copy(&release.join("state"), &state, change);
    let before = files(&state);
    let kept = memory::read(&state.join("destinations.json")).expect("orders and health").expect("they are there");
    let is_down = |one: &KeptHealth| one.probes_down && one.ejected.is_none() && one.busy.is_none();
    assert!(kept.health.len() == 3 && kept.health.iter().all(is_down), "{:?}", kept.health);
    let deadline = kept.orders[0].standing.deadline.expect("it has one");
    assert_eq!((deadline.then, kept.orders[1].standing.order), (AtDeadline::End, Order::Maint));

    let node = start(&folder).await;

    // What its rows say has the same digest as ever: else the rollback would stand against something else.
    let partition: Value = serde_json::from_str(&get(&node, "/store").await).expect("JSON");
    let partition = &partition["partitions"][0];
    let before_it: Value = serde_json::from_str(&told(release, "store")).expect("JSON");
    let before_it = &before_it["partitions"][0];
    for key in ["version", "digest", "pinned", "versions", "faults", "refused"] {
        assert_eq!(partition[key], before_it[key], "{key}");
    }
    let sets: SetReport = serde_json::from_str(&get(&node, "/sets/19").await).expect("JSON");
    let before_it: SetReport = serde_json::from_str(&told(release, "sets-19")).expect("JSON");
    // What the table says has stood since these rows were put in place.
    let given = |set: &SetReport| {
        let orders = set.destinations.iter().map(|one| (one.uri.clone(), one.order.clone()));
        let (by_table, by_hand): (Vec<_>, Vec<_>) = orders.partition(|(_, order)| order.by == "table");
        (by_hand, by_table.into_iter().map(|(uri, order)| (uri, order.version)).collect::<Vec<_>>())
    };
    assert_eq!(given(&before_it).0.len(), 2);
    assert_eq!(given(&sets), given(&before_it), "by whom, when, why, until when; and none by the database");
    let ready: Value = serde_json::from_str(&get(&node, "/ready").await).expect("JSON");
    let degraded = ready["degraded"].as_array().expect("a list").iter().filter_map(Value::as_str);
    let unexpected: Vec<_> = degraded.filter(|one| !one.contains("pinned by bob") && !one.contains("no fit")).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    assert!(get(&node, "/metrics").await.contains("tandem_state_faults_total 0"));
    node.stop().await;
    let after = files(&state);
    assert!(before.is_subset(&after), "lost: {:?}", before.difference(&after));
    assert!(!after.iter().any(|path| path.to_string_lossy().ends_with(".ignored")), "{after:?}");
    for key in ["cluster.key", "gossip.key"] {
        let text = |folder: &Path| fs::read_to_string(folder.join(key)).expect("a key");
        assert_eq!(text(&state), text(&release.join("state")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_goes_on_where_an_earlier_version_has_stopped() {
    for release in releases() {
        goes_on(&release, &|value| value).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_goes_on_where_a_later_one_has_stopped_that_knows_more() {
    goes_on(releases().last().expect("a release"), &with_strangers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_later_version_has_written_in_another_format_is_told_and_stays() {
    let folder = Folder::new();
    let state = folder.path().join("state");
    let later = |mut value: Value| {
        value["format"] = json!(2);
        value
    };
    copy(&releases().last().expect("a release").join("state"), &state, &later);
    let before = files(&state);
    let node = start(&folder).await;
    let sets: SetReport = serde_json::from_str(&get(&node, "/sets/19").await).expect("JSON");
    assert_eq!(sets.destinations.len(), 3, "it serves the rows of its table");
    node.stop().await;
    // The last good sets are those of the table now; all else stays, aside if its name is needed.
    let kept = files(&state);
    for path in
        before.iter().filter(|path| path.extension().is_some_and(|end| end == "json") && !path.ends_with("sets.json"))
    {
        let aside = PathBuf::from(format!("{}.ignored", path.display()));
        let stays = |path: &Path| {
            let text = fs::read(path).unwrap_or_default();
            serde_json::from_slice::<Value>(&text).is_ok_and(|value| value["format"] == 2)
        };
        assert!(stays(path) || stays(&aside), "{} is lost: {kept:?}", path.display());
    }
}
