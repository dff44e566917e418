//! What is shipped fits the code: configurations load, and fit each other. configuration.rs looks at each key.

use std::path::Path;
use std::time::Duration;

use tandem::config::{Config, EventsConfig, TraceConfig};
use tandem::drill::lab::SCRIPTS;
use tandem::edge::cluster::{ClusterConfig, Seed};
use tandem::edge::hep::{HepConfig, Password};
use tandem::edge::http::Role as TokenRole;
use tandem::edge::lines::LinesConfig;
use tandem::edge::stories::StoriesConfig;
use tandem::edge::webhook::{Url, WebhookConfig};
use tandem::engine::dispatch::{
    Agent, Check, CheckKind, Damping, Judgement, Ping, Probing, SessionPolicy, SipProbe, SlowStart,
};
use tandem::engine::event::Ending;
use tandem::engine::flow::Role;
use tandem::engine::trace::{self, Sample};

use crate::scratch::Folder;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/tandem.toml");

#[test]
fn the_shipped_configuration_loads() {
    let config = Config::load(Path::new(SHIPPED)).expect("valid");
    assert_eq!(config.listeners[0].bind.to_string(), "127.0.0.1:8060");
    assert_eq!((config.route.rules.len(), config.sets[0].set.0), (1, 19));
}

#[test]
fn the_pairs_configurations_load_and_agree_with_each_other_and_with_keepalived() {
    let folder = Path::new(SHIPPED).parent().expect("a folder");
    let scratch = Folder::new();
    let [a, b] = ["a", "b"].map(|node| {
        let name = format!("tandem-{node}.toml");
        let text = std::fs::read_to_string(folder.join(&name)).expect("it is there");
        Config::load(&scratch.write(&name, &text))
    });
    // Without the key they tell what to do.
    let told = a.expect_err("there is no key yet").to_string();
    assert!(told.contains("gossip.key") && told.lines().count() == 1, "{told}");
    assert!(b.is_err());
    scratch.write_secret("state/gossip.key", &"5a".repeat(32));
    let [a, b] =
        ["a", "b"].map(|node| Config::load(&scratch.path().join(format!("tandem-{node}.toml"))).expect("valid"));
    assert_eq!((a.node_id.as_str(), b.node_id.as_str()), ("a", "b"));
    let addresses = |config: &Config, role| {
        let of_role = config.listeners.iter().filter(move |listener| listener.role == role);
        of_role.map(|listener| (listener.transport, listener.bind)).collect::<Vec<_>>()
    };
    let vips = addresses(&a, Role::Vip);
    assert_eq!(vips, addresses(&b, Role::Vip));
    let own = [&a, &b].map(|config| addresses(config, Role::Node)[0].1.ip().to_string());
    assert_eq!((own[0] != own[1], a.route == b.route, a.sets == b.sets), (true, true, true));
    let clusters = [&a, &b].map(|config| config.cluster.clone().expect("it is there"));
    for (node, other) in [(0, 1), (1, 0)] {
        let cluster = &clusters[node];
        assert_eq!((cluster.bind.ip().to_string(), cluster.keys.len()), (own[node].clone(), 1));
        assert_eq!(cluster.seeds, [Seed::from(clusters[other].bind)]);
        let ClusterConfig { bind, seeds, .. } = clusters[other].clone();
        assert_eq!(ClusterConfig { bind, seeds, ..cluster.clone() }, clusters[other]);
    }
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).expect("it is there");
    let rules = read("nftables/tandem-vip.nft");
    for (node, other) in [(0, 1), (1, 0)] {
        let text = read(["keepalived/keepalived-a.conf", "keepalived/keepalived-b.conf"][node]);
        let has = |line: String| {
            text.lines().filter(|one| one.trim().split_once('#').map_or(one.trim(), |it| it.0.trim()) == line).count()
        };
        for (_, vip) in &vips {
            assert_eq!(has(format!("{}/24 dev eth0", vip.ip())), 1);
            assert!(rules.contains(&vip.ip().to_string()));
        }
        assert_eq!((has(format!("unicast_src_ip {}", own[node])), has(own[other].clone())), (2, 2));
        assert_eq!((has("priority 150".into()), has("priority 100".into())), (1, 1));
    }
}

/// A file that is shipped, from the top.
fn shipped(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Its lines without comments.
fn bare(text: &str) -> Vec<&str> {
    let lines = text.lines().map(|line| line.split_once(" #").map_or(line, |(line, _)| line).trim_end());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// The shipped addresses, at docker-compose.yml's.
fn composed(text: &str) -> String {
    text.replace("10.0.0.", "10.129.39.")
}

#[test]
fn composes_pair_is_the_shipped_pair_at_its_addresses_with_the_rows_in_mariadb() {
    let scratch = Folder::new();
    scratch.write_secret("state/gossip.key", &"5a".repeat(32));
    let database = "url = \"mysql://tandem@10.129.39.5/opensips\"\npassword_file = \"database.password\"";
    for node in ["a", "b"] {
        let pairs = composed(&shipped(&format!("config/tandem-{node}.toml")))
            .replace("url = \"sqlite:tandem.db\"", database)
            .replace("listen = \"127.0.0.1:9060\"", "listen = \"0.0.0.0:9060\"");
        let own = shipped(&format!("config/compose/tandem-{node}.toml"))
            .replace("/var/lib/tandem", "state")
            .replace("/run/secrets/database-password", "database.password");
        let [pairs, own] = [pairs, own].map(|text| Config::load(&scratch.write("node.toml", &text)).expect("valid"));
        assert_eq!(own, pairs);
        let compose = shipped("docker-compose.yml");
        let address = own.cluster.as_ref().expect("it is there").bind.ip();
        assert!(compose.contains(&format!("lan: {{ ipv4_address: {address} }}")), "{address}");
        for one in own.listeners.iter().filter(|one| one.role == Role::Vip && one.bind.is_ipv4()) {
            assert!(compose.contains(&format!("--to, \"{}\"", one.bind)), "nobody calls {}", one.bind);
        }
    }
    let one = Config::load(&scratch.write("one.toml", &shipped("config/compose/tandem-one.toml"))).expect("valid");
    let file = Config::load(Path::new(SHIPPED)).expect("valid");
    assert_eq!((&one.route, one.sets[0].set), (&file.route, file.sets[0].set));
}

#[test]
fn compose_scrapes_shows_and_fills_what_is_shipped() {
    let [own, pairs] = ["config/compose/prometheus.yml", "dashboards/prometheus.yml"].map(shipped);
    assert_eq!(bare(&own), bare(&composed(&pairs)));
    let [own, usual] = ["config/compose/grafana.yml", "dashboards/provisioning/datasources/tandem.yml"].map(shipped);
    assert_eq!(bare(&own), bare(&usual.replace("127.0.0.1:9090", "10.129.39.41:9090")));
    // The row of profile one is the first of the article's.
    let row = "19, 'sip:10.129.39.88:7010', 0, 1, 100, 'pstn=100', 'TTS_MRCP_CLIENT_FS_7010'";
    for file in ["config/compose/mariadb/2-rows.sql", "config/compose/one.sql"] {
        assert!(shipped(file).contains(row), "{file}");
    }
    let password = shipped("config/compose/database.password");
    assert!(shipped("config/compose/mariadb/3-user.sql").contains(&format!("IDENTIFIED BY '{}'", password.trim())));
}

#[test]
fn images_are_named_by_the_version_and_others_are_pinned() {
    let version = env!("CARGO_PKG_VERSION");
    let compose = shipped("docker-compose.yml");
    let images: Vec<_> = bare(&compose).into_iter().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
    assert!(images.len() >= 5, "{images:?}");
    for image in images {
        let (name, tag) = image.rsplit_once(':').expect("a tag");
        match name {
            "tandem" | "tandem-host" => assert_eq!(tag, version, "{image}"),
            _ => assert_eq!(tag.trim_start_matches('v').split('.').count(), 3, "{image}"),
        }
    }
    let dockerfile = shipped("Dockerfile");
    assert_eq!(dockerfile.matches(&format!("org.opencontainers.image.version=\"{version}\"")).count(), 2);
    assert_eq!(dockerfile.matches(&format!(":{version}")).count(), 2, "what the comments call the images");
}

#[test]
fn the_drills_lab_has_every_script_that_keepalived_is_to_run() {
    for node in ["a", "b"] {
        let path = Path::new(SHIPPED).with_file_name(format!("keepalived/keepalived-{node}.conf"));
        let text = std::fs::read_to_string(path).expect("it is there");
        let words = text.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
        let named: Vec<_> = words.filter_map(|word| word.strip_prefix("/etc/keepalived/")).collect();
        assert!(named.len() >= 3, "{named:?}");
        for script in named {
            assert!(SCRIPTS.iter().any(|(name, _)| *name == script), "{script} of node {node}");
        }
    }
}

/// What keepalived counts of a node in one state, for the address of each instance.
struct Priorities {
    bases: Vec<i32>,
    weights: Vec<(String, i32)>,
}

impl Priorities {
    fn read(node: &str) -> Self {
        let path = Path::new(SHIPPED).with_file_name(format!("keepalived/keepalived-{node}.conf"));
        let text = std::fs::read_to_string(path).expect("it is there");
        let (mut bases, mut weights, mut tracked) = (Vec::new(), Vec::<(String, i32)>::new(), Vec::new());
        for line in text.lines() {
            let words: Vec<_> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            match words[..] {
                ["vrrp_script", name, "{"] => weights.push((name.to_owned(), 0)),
                ["weight", weight] => weights.last_mut().expect("a script").1 = weight.parse().expect("a number"),
                ["priority", base] => bases.push(base.parse().expect("a number")),
                [name] if weights.iter().any(|(script, _)| script == name) => tracked.push(name.to_owned()),
                _ => {}
            }
        }
        assert_eq!(tracked, ["tandem", "fit", "tandem", "fit"]);
        // Without a weight, a check that fails is a FAULT.
        assert!(weights.iter().all(|(_, weight)| *weight < 0), "{weights:?}");
        Priorities { bases, weights }
    }

    fn of(&self, instance: usize, is_ready: bool, is_fit: bool) -> i32 {
        let fails = |name: &str| if name == "tandem" { !is_ready } else { !is_fit };
        let less: i32 = self.weights.iter().filter(|(name, _)| fails(name)).map(|(_, weight)| weight).sum();
        // As keepalived does.
        (self.bases[instance] + less).clamp(1, 254)
    }
}

#[test]
fn an_address_goes_to_the_node_that_serves_it_best_in_whatever_state_both_are() {
    let nodes = ["a", "b"].map(Priorities::read);
    // Not to be ready is worse than not to be fit, and makes that of no interest.
    let rank = |is_ready: bool, is_fit: bool| if is_ready { 1 + u8::from(is_fit) } else { 0 };
    let states = [(true, true), (true, false), (false, true), (false, false)];
    for (home, instance) in [(0, 0), (1, 1)] {
        for (own, other) in states.iter().flat_map(|own| states.map(|other| (*own, other))) {
            let here = nodes[home].of(instance, own.0, own.1);
            let there = nodes[1 - home].of(instance, other.0, other.1);
            let case = format!("instance {instance}: {own:?} at home {here}, {other:?} at the other {there}");
            match (rank(own.0, own.1), rank(other.0, other.1)) {
                // Nobody serves it: it stays where it is if they are equal.
                (0, 0) => assert!(here >= there, "{case}"),
                (own, other) if own >= other => assert!(here > there, "{case}"),
                _ => assert!(here < there, "{case}"),
            }
        }
    }
}

#[test]
fn its_examples_of_tables_are_read_and_show_their_defaults() {
    let text = std::fs::read_to_string(SHIPPED).expect("it is there");
    // The files of an identity are looked at.
    let folder = Folder::new();
    let base = folder.path();
    for (name, file) in [("node.pem", "node.pem"), ("node.key", "node.key"), ("clients.pem", "ca.pem")] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(file);
        folder.write_secret(name, &std::fs::read_to_string(from).expect("it is there"));
    }
    folder.write_secret("hep.password", "a secret");
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("#   ") {
            Some(rest) => rest,
            None if line == "enabled = false" || line.starts_with("enabled = false ") => "enabled = true",
            None => line,
        })
        .collect();
    let shown = Config::parse("shown", &uncommented.join("\n"), base).expect("every example is valid");
    assert_eq!(shown.listeners.len(), 2);
    assert_eq!(shown.database.table.columns["destination"], "uri");
    let partition = &shown.partitions[0];
    assert_eq!((partition.name.as_str(), partition.set_offset), ("asr", 1000));
    let more = (partition.database.password_file.clone(), partition.database.listen.as_deref());
    assert_eq!(more, (Some(base.join("database.password")), Some("tandem")));
    let policy = &shown.sets[0];
    assert_eq!(policy.judgement.damping, Some(Damping::default()));
    assert_eq!(policy.judgement.slow_start, Some(SlowStart::default()));
    let classes: Vec<_> = policy.capacity.resources.iter().map(|class| &*class.name).collect();
    assert_eq!(classes, ["tts", "asr", "rec", "verify", "fast"]);
    let records = LinesConfig::of(base.join("records.jsonl"));
    assert_eq!(shown.records, Some(records));
    let url = Url::parse("http://10.0.0.9:8080/tandem").expect("a URL");
    let webhooks = vec![WebhookConfig::of("1", url)];
    assert_eq!(shown.events, EventsConfig { file: Some(LinesConfig::of(base.join("events.jsonl"))), webhooks });
    let hep = HepConfig {
        to: "10.0.0.9:9060".parse().expect("an address"),
        id: HepConfig::USUAL_ID,
        password: Some(Password::parse(b"a secret").expect("one")),
    };
    let otlp = Some("127.0.0.1:4318".parse().expect("an address"));
    let stories = StoriesConfig { hep: Some(hep), otlp, ..StoriesConfig::default() };
    let engine = trace::Config { sample: Sample(10_000), ..trace::Config::default() };
    assert_eq!(shown.trace, TraceConfig { engine, stories });
    let four_hours = Some(Duration::from_secs(4 * 3600));
    let session = SessionPolicy { max_duration: four_hours, ping: Some(Ping::default()), ..SessionPolicy::default() };
    assert_eq!(policy.session, session);
    let kinds = [
        CheckKind::Sip(SipProbe::default()),
        CheckKind::Tcp { port: None },
        CheckKind::Http { port: 8080, path: "/".to_owned() },
    ];
    let probing = Probing { checks: kinds.map(Check::new).into(), ..Probing::default() };
    assert_eq!(*policy.probing, probing);
    assert_eq!(policy.agent.as_deref(), Some(&Agent::new(9001)));
    let own = policy.agent_of("sip:127.0.0.1:7010").map(|agent| (agent.port, agent.fall));
    assert_eq!(own, Some((9010, 3)));
    let (uri, own) = &policy.probing_instead[0];
    assert_eq!((uri.as_str(), own.checks[1].fall), ("sip:127.0.0.1:7010", 3));
    let cluster = ClusterConfig {
        advertise: Some(ClusterConfig::default().bind),
        seeds: vec![Seed::parse("b.example.com:7946").expect("a name")],
        ..ClusterConfig::default()
    };
    assert_eq!(shown.cluster, Some(cluster));
    let http = &shown.http;
    assert_eq!((http.access.tokens[0].name.as_str(), http.access.tokens[0].role), ("alice", TokenRole::Operate));
    assert_eq!(http.tls.as_ref().and_then(|tls| tls.client_ca.clone()), Some(base.join("clients.pem")));
    assert_eq!(http.client.token_file, Some(base.join("ops.token")));
}

#[test]
fn the_documentation_names_every_ending() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/calls.md")).expect("it is there");
    let row = text.lines().find(|line| line.starts_with("| `ending` |")).expect("a row of the table");
    for (nth, ending) in Ending::ALL.into_iter().enumerate() {
        assert_eq!(nth, ending as usize);
        assert!(row.contains(&format!("`{}`", ending.name())), "{}", ending.name());
    }
}

#[test]
fn set_19_is_not_probed_nor_pinged_and_its_calls_are_watched() {
    let config = Config::load(Path::new(SHIPPED)).expect("valid");
    let policy = &config.sets[0];
    assert_eq!((policy.set.0, policy.probing.checks.len()), (19, 0));
    assert_eq!(policy.judgement, Judgement::default());
    assert!(policy.judgement.observe.enabled);
    assert_eq!(policy.session, SessionPolicy::default());
    assert_eq!(policy.agent, None);
}
