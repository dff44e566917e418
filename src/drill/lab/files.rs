//! The lab's files: those that are shipped as they are, the nodes' keys and the rows.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::site::{Place, SERVERS};
use super::{LabError, etc};
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

/// Writes them all.
pub(super) async fn write(place: &Place) -> Result<(), LabError> {
    let keys = ["cluster.key", "gossip.key"];
    file(&place.folder.join("tandem-vip.nft"), RULES, 0o644)?;
    for name in keys {
        key::load_or_make(&place.folder.join(name))?;
    }
    let rows: Vec<_> = SERVERS.iter().map(|(ip, _)| format!("(19, 'sip:{ip}:7010', 0, 1, 100, '', '')")).collect();
    let rows = format!(
        "INSERT INTO dispatcher (setid, destination, state, weight, priority, attrs, description) VALUES {}",
        rows.join(", ")
    );
    for (node, config, keepalived) in NODES {
        let (folder, keepalived_folder) = (place.folder.join(node), etc(&place.space(node)).join("keepalived"));
        file(&folder.join("tandem.toml"), config, 0o644)?;
        file(&keepalived_folder.join("keepalived.conf"), keepalived, 0o644)?;
        for (name, script) in SCRIPTS {
            file(&keepalived_folder.join(name), script, 0o755)?;
        }
        for name in keys {
            let to = folder.join("state").join(name);
            let text = fs::read_to_string(place.folder.join(name)).unwrap_or_default();
            file(&to, &text, 0o600)?;
        }
        let store = Store::new(&Database::of("sqlite:tandem.db"), &folder)?;
        store.make().await?;
        store.execute(&rows).await?;
    }
    Ok(())
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
