//! `[cluster]`: the gossip between nodes; without the table there is none.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::reader::{A_FILE, Section};
use super::values;
use crate::edge::cluster::{ClusterConfig, Seed};
use crate::edge::key;
use crate::edge::seal::Key;
use crate::engine::dispatch::Policy;

/// What the gossip's times may be: faster is a load, slower is no news.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));
const DEAD_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(600));
const CLOCK_LIMIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// So many letters and digits in a row, and no file of that name, are a key: 32 octets are 44 of them in base64.
const LIKE_A_KEY: usize = 40;

/// Reads `[cluster]`, for the node of that id and these sets; the files of keys stand in `base`.
pub(super) fn read(section: &Section<'_>, node: &str, base: &Path, sets: &[Policy]) -> Option<ClusterConfig> {
    if !section.is_present() {
        return None;
    }
    let default = ClusterConfig::default();
    let of_one_node = |text: &str| match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 && !address.ip().is_multicast() => Ok(address),
        _ => Err("give address:port, as 10.0.0.1:7946".to_owned()),
    };
    let within = |key, (least, most), otherwise| section.duration_within(key, least..=most).unwrap_or(otherwise);
    let seeds = section.texts("seeds", "address:port or name:port", Seed::parse);
    let keys = section.texts("keys", A_FILE, |text| match is_secret(text, base) {
        true => Ok(None),
        false => key_of(text, base).map(Some),
    });
    if keys.iter().flatten().any(Option::is_none) {
        section.fault_at(
            "keys",
            "a key itself stands here, for all who see this file: put it into a file of mode 0600 and give the file's name; make a \
             new one if somebody has seen it",
        );
    }
    let keys: Option<Vec<_>> = keys.map(|all| all.into_iter().flatten().collect());
    // A key with a fault of its own is no key that is missing.
    let lacks_keys = section.has("keys") && keys.as_ref().is_none_or(Vec::is_empty);
    let cluster = ClusterConfig {
        name: section.text("name", "a name", values::token).unwrap_or(default.name),
        bind: section.text("bind", "address:port", of_one_node).unwrap_or(default.bind),
        advertise: section.text("advertise", "address:port", of_one_node),
        seeds: seeds.unwrap_or_default(),
        keys: keys.unwrap_or_default(),
        interval: within("interval", INTERVALS, default.interval),
        dead_after: within("dead_after", DEAD_AFTER, default.dead_after),
        clock_limit: within("clock_limit", CLOCK_LIMIT, default.clock_limit),
    };
    for (key, fault) in cluster.faults(node) {
        match key {
            "node_id" => section.fault(&format!("node_id: {fault}")),
            _ if lacks_keys && fault.ends_with("give keys") => {}
            _ => section.fault_at(key, &fault),
        }
    }
    for (set, least) in sets.iter().map(|set| (set, least_view_ttl(cluster.interval))) {
        if set.view_ttl < least {
            let fault = format!(
                "it is {:?}, and view_ttl of set {} is {:?}, so that nodes which are well would be held for hanging: give a shorter \
                 interval, or a view_ttl of {least:?} or more",
                cluster.interval, set.set.0, set.view_ttl
            );
            section.fault_at("interval", &fault);
        }
    }
    section.finish();
    Some(cluster)
}

/// A node says once a second that it lives; three rounds later all have heard it, and three quarters of the time are not over.
fn least_view_ttl(interval: Duration) -> Duration {
    (Duration::from_secs(1) + 3 * interval) * 4 / 3
}

/// Whether a text that should name a file is a key, whole or with a slip: then no fault may show it.
fn is_secret(text: &str, base: &Path) -> bool {
    let is_of_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let text = text.trim();
    text.len() >= LIKE_A_KEY && text.bytes().all(is_of_key) && !base.join(text).exists()
}

fn key_of(file: &str, base: &Path) -> Result<Key, String> {
    let bytes = key::find(&base.join(file))
        .map_err(|error| error.to_string())?
        .ok_or("there is no such file: make it with openssl rand -hex 32, mode 0600, and copy it to the other nodes")?;
    Key::new(bytes)
        .ok_or_else(|| "it holds zeros, which are no secret: make a key with openssl rand -hex 32".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{faults, in_folder, parse, put};
    use crate::edge::scratch::Folder;

    const LISTENER: &str = "[[listener]]\nbind = \"udp:127.0.0.1:8060\"\n";

    fn key_file(folder: &Folder, name: &str, text: &str) {
        put(folder, name, text, 0o600);
    }

    #[test]
    fn without_the_table_there_is_no_cluster_and_an_empty_one_has_defaults() {
        assert_eq!(parse(LISTENER).expect("valid").cluster, None);
        assert_eq!(parse(&format!("{LISTENER}[cluster]\n")).expect("valid").cluster, Some(ClusterConfig::default()));
    }

    #[test]
    fn every_key_is_read() {
        let folder = Folder::new();
        key_file(&folder, "new", &"ab".repeat(32));
        key_file(&folder, "old", &format!("{}=\n", "q".repeat(42) + "s"));
        let text = r#"
            [cluster]
            name = "speech"
            bind = "0.0.0.0:7946"
            advertise = "10.0.0.1:7000"
            seeds = ["10.0.0.2:7946", "b.example.com:7946"]
            keys = ["new", "old"]
            interval = "200ms"
            dead_after = "2s"
            clock_limit = "10s"
            "#;
        let cluster = in_folder(&folder, text).expect("valid").cluster.expect("it is there");
        let expected = ClusterConfig {
            name: "speech".into(),
            bind: "0.0.0.0:7946".parse().expect("an address"),
            advertise: "10.0.0.1:7000".parse().ok(),
            seeds: ["10.0.0.2:7946", "b.example.com:7946"].map(|seed| Seed::parse(seed).expect("a seed")).into(),
            keys: cluster.keys.clone(),
            interval: Duration::from_millis(200),
            dead_after: Duration::from_secs(2),
            clock_limit: Duration::from_secs(10),
        };
        assert_eq!((cluster.keys.len(), &cluster), (2, &expected));
        assert_eq!(cluster.keys[0], Key::new([0xab; 32]).expect("a secret"));
    }

    #[test]
    fn off_loopback_a_key_is_needed() {
        let told = faults("[cluster]\nbind = \"10.0.0.1:7946\"\nseeds = [\"10.0.0.2:7946\", \"b.example.com:7946\"]");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("2: cluster.bind") && told[0].contains("give keys"), "{told:?}");
        assert!(told[1].starts_with("3: cluster.seeds") && told[1].contains("10.0.0.2:7946"), "{told:?}");
    }

    #[test]
    fn every_fault_is_told() {
        let told = faults(
            r#"[cluster]
name = "a b"
bind = "10.0.0.1"
advertise = "10.0.0.1:0"
seeds = ["10.0.0.2"]
keys = ["/nowhere/key"]
interval = "1ms"
dead_after = "2h"
clock_limit = "0s"
peers = 1"#,
        );
        let keys =
            ["name", "bind", "advertise", "seeds", "keys", "interval", "dead_after", "clock_limit", "peers"].iter();
        for (line, key) in keys.enumerate() {
            let start = format!("{}: cluster.{key}", line + 2);
            assert!(told.iter().any(|fault| fault.starts_with(&start)), "{start}: {told:?}");
        }
        assert_eq!(told.len(), 9, "{told:?}");
    }

    #[test]
    fn times_that_do_not_fit_are_told() {
        let told = faults("[cluster]\ninterval = \"1s\"\ndead_after = \"4s\"");
        assert!(told[0].starts_with("3: cluster.dead_after") && told[0].contains("5s or more"), "{told:?}");
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn a_view_lasts_until_the_next_can_have_come() {
        let with = |interval, ttl| {
            format!(
                "[cluster]\ninterval = \"{interval}\"\ndead_after = \"10s\"\n[[set]]\nid = 19\nview_ttl = \"{ttl}\""
            )
        };
        let told = faults(&with("1s", "5s"));
        assert_eq!(told.len(), 1, "{told:?}");
        for part in ["2: cluster.interval: it is 1s", "view_ttl of set 19 is 5s", "view_ttl of 5.333"] {
            assert!(told[0].contains(part), "{told:?}");
        }
        for (interval, ttl) in [("1s", "6s"), ("900ms", "5s"), ("100ms", "2s")] {
            assert!(parse(&format!("{LISTENER}{}", with(interval, ttl))).is_ok(), "{interval}, {ttl}");
        }
        // Without [cluster], or without a set, nothing hangs on it.
        assert!(parse(&format!("{LISTENER}[[set]]\nid = 19\nview_ttl = \"2s\"")).is_ok());
        assert!(parse(&format!("{LISTENER}[cluster]\ninterval = \"1s\"\ndead_after = \"5s\"")).is_ok());
    }

    #[test]
    fn a_key_that_is_none_is_told_and_never_shown() {
        let folder = Folder::new();
        key_file(&folder, "zeros", &"00".repeat(32));
        key_file(&folder, "short", "secret");
        let text = "[cluster]\nbind = \"10.0.0.1:7946\"\nkeys = [\"zeros\", \"short\"]";
        let error = in_folder(&folder, text).expect_err("no keys").to_string();
        assert_eq!(error.lines().count(), 2, "{error}");
        assert!(
            error.contains("no secret") && error.contains("6 characters") && !error.contains("secret\n"),
            "{error}"
        );
    }

    #[test]
    fn a_key_that_stands_in_the_file_itself_is_refused_and_never_shown() {
        let (hex, base64) = ("5a".repeat(32), format!("{}8=", "q".repeat(42)));
        let slips = [&hex[1..], &format!("{hex}5"), &format!(" {hex}\\n"), &base64[1..]];
        for secret in [hex.as_str(), &base64].into_iter().chain(slips) {
            let told = faults(&format!("[cluster]\nbind = \"10.0.0.1:7946\"\nkeys = [\n\"{secret}\",\n]"));
            assert_eq!(told.len(), 1, "{secret}: {told:?}");
            assert!(told[0].starts_with("3: cluster.keys: a key itself stands here"), "{told:?}");
            assert!(!told[0].contains(&secret.trim()[..30]), "{told:?}");
        }
        // Without quotes it is no TOML, and is not shown either.
        let told = faults(&format!("[cluster]\nkeys = [{hex}]"));
        assert!(!told.iter().any(|fault| fault.contains(&hex[..30])), "{told:?}");
        // A file may have such a name.
        let folder = Folder::new();
        key_file(&folder, &hex, &"ab".repeat(32));
        let cluster = in_folder(&folder, &format!("[cluster]\nkeys = [\"{hex}\"]")).expect("a file").cluster;
        assert_eq!(cluster.expect("it is there").keys, [Key::new([0xab; 32]).expect("a secret")]);
    }

    #[test]
    fn a_key_file_that_is_not_there_is_told_with_what_makes_it() {
        let told = faults("[cluster]\nkeys = \"state/gossip.key\"");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("2: cluster.keys is \"state/gossip.key\": there is no such file: make it"),
            "{told:?}"
        );
    }
}
