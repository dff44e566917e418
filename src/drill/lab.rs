//! A site of one's own, in network namespaces: a pair of nodes with keepalived and the very files that are shipped, three stand-in
//! servers, callers, and a bridge between them in a namespace too, so that nothing of it is in the host's network.

mod files;
mod site;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use thiserror::Error;

pub use self::files::SCRIPTS;
use self::site::Place;
use super::command::{self, CommandError};
use super::kind::{Kind, Sign};
use super::site::Site;
use super::state::State;
use crate::edge::key::KeyError;
use crate::edge::store::StoreError;

/// How long one step of making it may take.
const STEP: Duration = Duration::from_secs(30);
/// How long a database may take to be made or to start.
const DATABASE: Duration = Duration::from_secs(120);
/// How long the nodes may take until they hold their addresses and hear each other.
const TOGETHER: Duration = Duration::from_secs(20);
/// Programs that it is made of, and the Debian packages that hold them.
const TOOLS: [(&str, &str); 5] =
    [("ip", "iproute2"), ("nft", "nftables"), ("keepalived", "keepalived"), ("curl", "curl"), ("xargs", "findutils")];
/// Those of a database.
const DATABASE_TOOLS: [(&str, &str); 3] =
    [("mariadbd", "mariadb-server"), ("mariadb-install-db", "mariadb-server"), ("mariadb", "mariadb-client")];

/// The hosts, each a namespace; the bridge is in one of its own.
const HOSTS: [(&str, &[&str]); 5] = [
    ("a", &["10.0.0.11"]),
    ("b", &["10.0.0.12"]),
    ("callers", &["10.0.0.30"]),
    ("servers", &["10.0.0.21", "10.0.0.22", "10.0.0.23"]),
    ("database", &[DATABASE_IP]),
];
const DATABASE_IP: &str = "10.0.0.31";
const SWITCH: &str = "switch";

/// Why there is no lab.
#[derive(Debug, Error)]
pub enum LabError {
    /// The machine lacks something.
    #[error("the lab can't be made here: {}", .0.join("; "))]
    Missing(Vec<String>),
    /// A file can't be written.
    #[error("{}: can't write it: {source}: give the lab a disk with room", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its folder can't be made.
    #[error("{}: can't make this folder: {source}: give a new one with --keep", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A command of it fails.
    #[error("the lab: {0}")]
    Command(#[from] CommandError),
    /// The rows can't be written.
    #[error("the lab: {0}")]
    Store(#[from] StoreError),
    /// A key can't be made.
    #[error("the lab: {0}")]
    Key(#[from] KeyError),
    /// The nodes do not become a pair.
    #[error("the lab's nodes are no pair after {TOGETHER:?}: {0}; their logs: {1}")]
    Apart(String, String),
    /// keepalived would not do what its configuration says.
    #[error(
        "the lab's keepalived does without a check: {0}: let the lab write every script that its configuration names"
    )]
    Unchecked(String),
}

/// A lab; dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    place: Place,
    /// Whether the folder stays, with its logs.
    keep: bool,
    site: Site,
}

impl Lab {
    /// Makes one in which that can go wrong, whose nodes begin with the program `from`, if not with this; with `keep` its folder, with
    /// all logs, is made there and stays.
    ///
    /// # Errors
    /// [`LabError`]; what has been made of it is gone then.
    pub async fn make(kind: Kind, from: Option<&Path>, keep: Option<&Path>) -> Result<Self, LabError> {
        let program = std::env::current_exe().and_then(fs::canonicalize);
        let has_database = kind.sign() == Sign::Stale;
        let mut missing = missing(&program, has_database);
        let former = from.map(|from| fs::canonicalize(from).map_err(|error| unusable(from, &error))).transpose();
        missing.extend(former.as_ref().err().cloned());
        let (Ok(program), Ok(former), true) = (program, former, missing.is_empty()) else {
            return Err(LabError::Missing(missing));
        };
        let former = former.unwrap_or_else(|| program.clone());
        let name = format!("tandem-drill-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let folder = keep.map_or_else(|| std::env::temp_dir().join(&name), Path::to_owned);
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        make_folder(&folder)?;
        let place = Place { name, folder, program, former, has_database };
        let lab = Lab { site: place.site(), place, keep: keep.is_some() };
        lab.build().await?;
        Ok(lab)
    }

    /// What a drill knows of it.
    pub fn site(&self) -> &Site {
        &self.site
    }

    async fn build(&self) -> Result<(), LabError> {
        let place = &self.place;
        files::write(place).await?;
        for command in place.network() {
            command::run(&command, STEP).await?;
        }
        for command in place.make_database() {
            command::run(&command, DATABASE).await?;
        }
        for command in place.servers().into_iter().chain(["a", "b"].map(|node| place.start_node(node, &place.former))) {
            command::run(&command, STEP).await?;
        }
        for node in ["a", "b"] {
            command::run(&place.start_keepalived(node), STEP).await?;
        }
        self.wait_until_together().await
    }

    /// Each node holds an address of its own and hears the other.
    async fn wait_until_together(&self) -> Result<(), LabError> {
        let until = tokio::time::Instant::now() + TOGETHER;
        loop {
            let mut told = Vec::new();
            for (node, address) in self.site.nodes.iter().zip(["10.0.0.101", "10.0.0.102"]) {
                let state = State::read(&command::run(&node.state, STEP).await?).unwrap_or_default();
                let holds = !state.held.is_empty() && state.held.iter().all(|one| one.contains(address));
                if !holds || state.heard.len() != 1 {
                    let State { held, heard, .. } = state;
                    told.push(format!("{} holds {held:?}, not {address} alone, and hears {heard:?}", node.name));
                }
            }
            if let Some(line) = self.place.unchecked() {
                return Err(LabError::Unchecked(line));
            }
            if told.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                return Err(LabError::Apart(told.join(", "), self.place.last_words()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Lab {
    /// Its namespaces hold nothing but what it has started, so what still runs there ends, and nothing else.
    fn drop(&mut self) {
        for space in self.place.spaces() {
            let command = format!("ip netns pids {space} | xargs -r kill -KILL; ip netns delete {space}");
            let _ = Command::new("sh").args(["-c", &command]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            let _ = fs::remove_dir_all(etc(&space));
        }
        if !self.keep {
            let _ = fs::remove_dir_all(&self.place.folder);
        }
    }
}

/// Makes a folder for nobody else: keys lie in it. One that is there may be somebody else's.
fn make_folder(path: &Path) -> Result<(), LabError> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(|source| LabError::Folder { path: path.to_owned(), source })
}

/// What a namespace sees as /etc.
fn etc(space: &str) -> PathBuf {
    Path::new("/etc/netns").join(space)
}

fn unusable(program: &Path, error: &io::Error) -> String {
    format!("{}: {error}: give a program with --from", program.display())
}

/// Everything that this machine lacks.
fn missing(program: &io::Result<PathBuf>, has_database: bool) -> Vec<String> {
    let mut all = Vec::new();
    if let Err(error) = program {
        all.push(format!("this program's own file is not found ({error})"));
    }
    if !fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0) {
        all.push("it needs root, for network namespaces: run it with sudo".to_owned());
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let database = DATABASE_TOOLS.into_iter().filter(|_| has_database);
    for (tool, package) in TOOLS.into_iter().chain(database) {
        if !std::env::split_paths(&paths).any(|folder| folder.join(tool).is_file()) {
            all.push(format!("it needs {tool}: install {package}"));
        }
    }
    if !Path::new("/etc/keepalived").is_dir() {
        all.push("it needs the folder /etc/keepalived, in whose place each node sees its own: make it".to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let none = || Err(io::Error::from(io::ErrorKind::NotFound));
        assert!(missing(&none(), true).iter().any(|one| one.starts_with("this program's own file")));
        let error = LabError::Missing(vec!["a".to_owned(), "b".to_owned()]).to_string();
        assert_eq!(error, "the lab can't be made here: a; b");
    }

    #[test]
    fn its_folder_is_new_and_nobody_else_s() {
        let folder = std::env::temp_dir().join(format!("tandem-lab-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        make_folder(&folder).expect("it is new");
        let mode = fs::metadata(&folder).expect("it is there").mode();
        let again = make_folder(&folder).expect_err("it is there").to_string();
        fs::remove_dir(&folder).expect("it is empty");
        assert_eq!(mode & 0o777, 0o700);
        assert!(again.contains("exists") && again.ends_with("give a new one with --keep"), "{again}");
    }
}
