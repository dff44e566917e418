//! What is shipped fits the code: configurations load, and what they show of defaults is true.

use std::path::Path;

use tandem::config::Config;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/tandem.toml");

#[test]
fn the_shipped_configuration_loads() {
    let config = Config::load(Path::new(SHIPPED)).expect("valid");
    assert_eq!(config.listeners[0].bind.to_string(), "127.0.0.1:8060");
    assert_eq!((config.route.rules.len(), config.sets[0].set.0), (1, 19));
}

#[test]
fn its_commented_keys_are_known_and_stand_there_with_their_defaults() {
    let text = std::fs::read_to_string(SHIPPED).expect("it is there");
    // A key behind `# ` is uncommented where it shows a default; the conditions and addresses are examples.
    let examples = [
        "node_id",
        "advertise",
        "allow",
        "source",
        "listener",
        "request_uri",
        "from",
        "to",
        "header",
        "record_route_params",
    ];
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') => rest,
            Some(rest) => match rest.split_once(" = ") {
                Some((key, _))
                    if key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !examples.contains(&key) =>
                {
                    rest
                }
                Some(_) | None => line,
            },
            None => line,
        })
        .collect();
    let base = Path::new(SHIPPED).parent().expect("a folder");
    let shown = Config::parse("shown", &uncommented.join("\n"), base).expect("every key is known");
    assert_eq!(shown, Config::load(Path::new(SHIPPED)).expect("valid"));
}

#[test]
fn its_examples_of_conditions_are_read() {
    let text = std::fs::read_to_string(SHIPPED).expect("it is there");
    let base = Path::new(SHIPPED).parent().expect("a folder");
    let examples =
        ["advertise", "allow", "source", "listener", "request_uri", "from", "to", "header", "record_route_params"];
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if examples.iter().any(|key| rest.starts_with(&format!("{key} = "))) => rest,
            Some(_) | None => line,
        })
        .collect();
    let shown = Config::parse("shown", &uncommented.join("\n"), base).expect("every example is valid");
    assert_eq!(shown.route.rules[0].when.len(), 11);
}
