//! The lab's files: those that are shipped as they are, the nodes' keys and the rows.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::site::{Place, SERVERS};
use super::{DATABASE_IP, LabError, etc};
use crate::edge::key;
use crate::edge::store::{Database, Store};

/// Each node's configuration, and that of its keepalived.
const NODES: [(&str, &str, &str); 2] = [
    ("a", include_str!("../../../config/tandem-a.toml"), include_str!("../../../config/keepalived/keepalived-a.conf")),
    ("b", include_str!("../../../config/tandem-b.toml"), include_str!("../../../config/keepalived/keepalived-b.conf")),
];
/// The scripts that keepalived runs, which a node sees in /etc/keepalived.
pub const SCRIPTS: [(&str, &str); 3] = [
    ("check.sh", include_str!("../../../config/keepalived/check.sh")),
    ("fit.sh", include_str!("../../../config/keepalived/fit.sh")),
    ("notify.sh", include_str!("../../../config/keepalived/notify.sh")),
];
const RULES: &str = include_str!("../../../config/nftables/tandem-vip.nft");

/// Where the shipped files say that the rows are.
const URL: &str = "url = \"sqlite:tandem.db\"";
/// What the lab's database begins with, and finds again at each start: the tables of OpenSIPS 3.4, a user of the nodes, who may only
/// read, and one who changes rows. A statement is a line.
const DATABASE: [&str; 7] = [
    "CREATE DATABASE IF NOT EXISTS opensips",
    "CREATE TABLE IF NOT EXISTS opensips.version (table_name CHAR(32) NOT NULL UNIQUE, table_version INT UNSIGNED DEFAULT 0 NOT NULL)",
    "INSERT IGNORE INTO opensips.version VALUES ('dispatcher', 9)",
    "CREATE TABLE IF NOT EXISTS opensips.dispatcher (id INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL, \
     setid INT DEFAULT 0 NOT NULL, destination CHAR(192) DEFAULT '' NOT NULL, socket CHAR(128) DEFAULT NULL, \
     state INT DEFAULT 0 NOT NULL, probe_mode INT(11) UNSIGNED DEFAULT 0 NOT NULL, weight CHAR(64) DEFAULT 1 NOT NULL, \
     priority INT DEFAULT 0 NOT NULL, attrs CHAR(128) DEFAULT '' NOT NULL, description CHAR(64) DEFAULT '' NOT NULL)",
    "CREATE OR REPLACE USER tandem@'%', operator@'%'",
    "GRANT SELECT ON opensips.* TO tandem@'%'",
    "GRANT ALL ON opensips.* TO operator@'%'",
];

/// The statement that makes the servers' rows, which are there once however often it is run.
pub(super) fn rows(insert: &str) -> String {
    let row = |(id, (ip, _)): (usize, &(&str, &str))| format!("({id}, 19, 'sip:{ip}:7010', 0, 1, 100, '', '')");
    let rows: Vec<_> = SERVERS.iter().enumerate().map(|(nth, server)| row((nth + 1, server))).collect();
    let columns = "id, setid, destination, state, weight, priority, attrs, description";
    format!("{insert} ({columns}) VALUES {}", rows.join(", "))
}

/// How that is said to the lab's database.
pub(super) const IN_DATABASE: &str = "INSERT IGNORE INTO opensips.dispatcher";

/// Writes them all.
pub(super) async fn write(place: &Place) -> Result<(), LabError> {
    let keys = ["cluster.key", "gossip.key"];
    file(&place.folder.join("tandem-vip.nft"), RULES, 0o644)?;
    for name in keys {
        key::load_or_make(&place.folder.join(name))?;
    }
    if place.has_database {
        let statements = DATABASE.map(str::to_owned).into_iter().chain([rows(IN_DATABASE)]);
        let text: String = statements.map(|statement| format!("{statement};\n")).collect();
        file(&place.folder.join("database.sql"), &text, 0o600)?;
    }
    for (node, config, keepalived) in NODES {
        let (folder, keepalived_folder) = (place.folder.join(node), etc(&place.space(node)).join("keepalived"));
        file(&folder.join("tandem.toml"), &of_lab(config, place.has_database), 0o644)?;
        file(&keepalived_folder.join("keepalived.conf"), keepalived, 0o644)?;
        for (name, script) in SCRIPTS {
            file(&keepalived_folder.join(name), script, 0o755)?;
        }
        for name in keys {
            let to = folder.join("state").join(name);
            let text = fs::read_to_string(place.folder.join(name)).unwrap_or_default();
            file(&to, &text, 0o600)?;
        }
        if !place.has_database {
            let store = Store::new(&Database::of("sqlite:tandem.db"), &folder)?;
            store.make().await?;
            store.execute(&rows("INSERT INTO dispatcher")).await?;
        }
    }
    Ok(())
}

/// A node's configuration: the shipped one, which reads the rows from the lab's database if it has one.
fn of_lab(config: &str, has_database: bool) -> String {
    match has_database {
        true => config.replace(URL, &format!("url = \"mysql://tandem@{DATABASE_IP}/opensips\"")),
        false => config.to_owned(),
    }
}

/// Writes a file, in a folder that is made for it.
fn file(path: &Path, text: &str, mode: u32) -> Result<(), LabError> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    write().map_err(|source| LabError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_url_differs_from_what_is_shipped() {
        for (_, config, _) in NODES {
            assert_eq!(of_lab(config, false), config);
            let of_database = of_lab(config, true);
            let differing: Vec<_> =
                of_database.lines().zip(config.lines()).filter(|(ours, shipped)| ours != shipped).collect();
            assert_eq!(differing, [("url = \"mysql://tandem@10.0.0.31/opensips\"", URL)]);
        }
        assert!(DATABASE.iter().all(|statement| !statement.contains('\n')), "mariadbd reads a line at a time");
    }
}
