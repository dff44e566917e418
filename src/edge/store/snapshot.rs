//! The last good load on disk: what a start falls back to when the database can't be read or holds bad rows.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Digest;
use super::file::{self, ReadFault};
use super::row::socket_name;
use crate::edge::resolve::{Address, Question};
use crate::engine::dispatch::{Row, RowState, Set, SetId, Sets};
use crate::engine::flow::{Listener, Transport};

/// The form that this version writes and reads.
const FORMAT: u32 = 1;

/// Why there is no snapshot to read, or none could be written.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The file can't be written; the former one, if any, is whole.
    #[error("snapshot {}: can't write it: {source}: give a folder that exists and can be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file can't be read; there may be none yet.
    #[error("snapshot {}: {}", path.display(), unread(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is cut or something else.
    #[error("snapshot {}: not one of ours: {source}: remove it; the next good load writes it anew", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// Another version wrote it.
    #[error(
        "snapshot {}: format is {found}, this version reads {FORMAT}: remove it; the next good load writes it anew",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// A row leaves from a listener that is configured no more.
    #[error(
        "snapshot {}: row {row} leaves from {socket:?}, which is no listener now: configure it, or remove the file",
        path.display()
    )]
    Socket {
        /// The file.
        path: PathBuf,
        /// The row's `id` column.
        row: i64,
        /// The listener that it names.
        socket: String,
    },
}

fn unread(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is none yet".to_owned(),
        _ => format!("can't read it: {error}: give it to the user that runs this"),
    }
}

impl SnapshotError {
    pub(super) fn of(path: &Path, fault: ReadFault) -> Self {
        let path = path.to_owned();
        match fault {
            ReadFault::Read(source) => SnapshotError::Read { path, source },
            ReadFault::Content(source) => SnapshotError::Content { path, source },
            ReadFault::Format(found) => SnapshotError::Format { path, found },
        }
    }
}

/// What a start falls back to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastGood {
    /// The sets as the table had them: rows with names are not resolved.
    pub sets: Sets,
    /// What their rows say; none of what a former version of Tandem has kept.
    pub digest: Option<Digest>,
    /// They are a version that is served instead of those rows.
    pub instead_of: Option<Digest>,
    /// Where they are from: another source is no change of this one.
    pub source: Option<String>,
    /// The names in them, and where they led last.
    pub names: Vec<(Question, Vec<Address>)>,
}

/// Writes all sets and the addresses of their names to `path`: whole or not at all, whatever happens meanwhile.
///
/// # Errors
/// [`SnapshotError::Write`]; a former file is then as it was.
pub fn save(path: &Path, last_good: &LastGood, listeners: &[Listener]) -> Result<(), SnapshotError> {
    let LastGood { sets, digest, instead_of, source, names } = last_good;
    let stored = StoredSets {
        format: FORMAT,
        digest: *digest,
        instead_of: *instead_of,
        source: source.clone(),
        sets: sets.0.iter().map(|set| StoredSet::of(set, listeners)).collect(),
        names: names.iter().map(StoredName::of).collect(),
    };
    file::save(path, &stored).map_err(|source| SnapshotError::Write { path: path.to_owned(), source })
}

/// Reads what [`save`] wrote. Listeners are found again by transport and address, so their order may have changed.
///
/// # Errors
/// [`SnapshotError`] if the file is not there, is cut, is something else, or names a listener that is gone.
pub fn read(path: &Path, listeners: &[Listener]) -> Result<LastGood, SnapshotError> {
    let stored: StoredSets = file::read(path, FORMAT).map_err(|fault| SnapshotError::of(path, fault))?;
    let sets = stored.sets.into_iter().map(|set| set.into_set(path, listeners)).collect::<Result<_, _>>()?;
    let (digest, instead_of, source) = (stored.digest, stored.instead_of, stored.source);
    Ok(LastGood {
        sets: Sets(sets),
        digest,
        instead_of,
        source,
        names: stored.names.into_iter().map(StoredName::into_name).collect(),
    })
}

#[derive(Serialize, Deserialize)]
struct StoredSets {
    format: u32,
    #[serde(default)]
    digest: Option<Digest>,
    #[serde(default)]
    instead_of: Option<Digest>,
    #[serde(default)]
    source: Option<String>,
    sets: Vec<StoredSet>,
    #[serde(default)]
    names: Vec<StoredName>,
}

#[derive(Serialize, Deserialize)]
struct StoredName {
    host: String,
    port: Option<u16>,
    transport: StoredTransport,
    addresses: Vec<StoredAddress>,
}

#[derive(Serialize, Deserialize)]
struct StoredAddress {
    address: SocketAddr,
    priority: u16,
    weight: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredSet {
    id: u32,
    rows: Vec<StoredRow>,
}

#[derive(Serialize, Deserialize)]
struct StoredRow {
    row: i64,
    uri: String,
    /// None for a name, whose addresses stand apart: they change without the row.
    address: Option<SocketAddr>,
    transport: StoredTransport,
    socket: Option<String>,
    weight: u32,
    priority: i32,
    state: StoredState,
    attrs: String,
    description: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredTransport {
    Udp,
    Tcp,
    Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StoredState {
    Active,
    Inactive,
    Probing,
}

impl StoredTransport {
    fn of(transport: Transport) -> Self {
        match transport {
            Transport::Udp => StoredTransport::Udp,
            Transport::Tcp => StoredTransport::Tcp,
            Transport::Tls => StoredTransport::Tls,
        }
    }

    fn into_transport(self) -> Transport {
        match self {
            StoredTransport::Udp => Transport::Udp,
            StoredTransport::Tcp => Transport::Tcp,
            StoredTransport::Tls => Transport::Tls,
        }
    }
}

impl StoredState {
    pub(super) fn of(state: RowState) -> Self {
        match state {
            RowState::Active => StoredState::Active,
            RowState::Inactive => StoredState::Inactive,
            RowState::Probing => StoredState::Probing,
        }
    }

    pub(super) fn into_state(self) -> RowState {
        match self {
            StoredState::Active => RowState::Active,
            StoredState::Inactive => RowState::Inactive,
            StoredState::Probing => RowState::Probing,
        }
    }
}

impl StoredName {
    fn of((question, addresses): &(Question, Vec<Address>)) -> Self {
        let Question { host, port, transport } = question;
        let stored = |&Address { address, priority, weight }| StoredAddress { address, priority, weight };
        StoredName {
            host: host.clone(),
            port: *port,
            transport: StoredTransport::of(*transport),
            addresses: addresses.iter().map(stored).collect(),
        }
    }

    fn into_name(self) -> (Question, Vec<Address>) {
        let StoredName { host, port, transport, addresses } = self;
        let address = |StoredAddress { address, priority, weight }| Address { address, priority, weight };
        let question = Question { host, port, transport: transport.into_transport() };
        (question, addresses.into_iter().map(address).collect())
    }
}

impl StoredSet {
    pub(super) fn of(set: &Set, listeners: &[Listener]) -> Self {
        StoredSet { id: set.id.0, rows: set.rows.iter().map(|row| StoredRow::of(row, listeners)).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn into_set(self, path: &Path, listeners: &[Listener]) -> Result<Set, SnapshotError> {
        let rows = self.rows.into_iter().map(|row| row.into_row(path, listeners)).collect::<Result<_, _>>()?;
        Ok(Set { id: SetId(self.id), rows })
    }
}

impl StoredRow {
    fn of(row: &Row, listeners: &[Listener]) -> Self {
        let socket = row.socket.and_then(|id| listeners.iter().find(|listener| listener.id == id)).map(socket_name);
        StoredRow {
            row: row.row,
            uri: row.uri.clone(),
            address: row.is_resolved().then_some(row.address),
            transport: StoredTransport::of(row.transport),
            socket,
            weight: row.weight,
            priority: row.priority,
            state: StoredState::of(row.state),
            attrs: row.attrs.clone(),
            description: row.description.clone(),
        }
    }

    fn into_row(self, path: &Path, listeners: &[Listener]) -> Result<Row, SnapshotError> {
        let socket = match self.socket {
            None => None,
            Some(socket) => match listeners.iter().find(|listener| socket_name(listener) == socket) {
                Some(listener) => Some(listener.id),
                None => return Err(SnapshotError::Socket { path: path.to_owned(), row: self.row, socket }),
            },
        };
        Ok(Row {
            row: self.row,
            uri: self.uri,
            address: self.address.unwrap_or(Row::UNRESOLVED),
            transport: self.transport.into_transport(),
            socket,
            weight: self.weight,
            priority: self.priority,
            state: self.state.into_state(),
            attrs: self.attrs,
            description: self.description,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::edge::scratch::Folder;
    use crate::engine::flow::{ListenerId, Role};

    fn listener(id: u16, transport: Transport, bind: &str) -> Listener {
        let bind: SocketAddr = bind.parse().expect("an address");
        Listener {
            id: ListenerId(id),
            transport,
            bind,
            advertise: bind.into(),
            role: Role::Node,
            sources: Default::default(),
        }
    }

    fn listeners() -> Vec<Listener> {
        vec![listener(0, Transport::Udp, "127.0.0.1:8060"), listener(1, Transport::Tcp, "127.0.0.1:8060")]
    }

    fn last_good() -> LastGood {
        let row = Row {
            row: 1,
            uri: "sip:10.129.39.88:7010".to_owned(),
            address: "10.129.39.88:7010".parse().expect("an address"),
            transport: Transport::Udp,
            socket: None,
            weight: 1,
            priority: 100,
            state: RowState::Active,
            attrs: "pstn=100".to_owned(),
            description: "a \"quoted\" ü \n".to_owned(),
        };
        let other = Row {
            row: 2,
            uri: "sip:[::1];transport=tcp".to_owned(),
            address: "[::1]:5060".parse().expect("an address"),
            transport: Transport::Tcp,
            socket: Some(ListenerId(1)),
            priority: -1,
            state: RowState::Probing,
            ..row.clone()
        };
        let off = Row { row: 3, state: RowState::Inactive, transport: Transport::Tls, ..row.clone() };
        let name = "tts.example.test";
        let named = Row { row: 4, uri: format!("sip:{name}"), address: Row::UNRESOLVED, ..row.clone() };
        let sets =
            vec![Set { id: SetId(2), rows: Vec::new() }, Set { id: SetId(19), rows: vec![row, other, off, named] }];
        let address = Address { address: "[::2]:5060".parse().expect("an address"), priority: 3, weight: 7 };
        let question = |port| Question { host: name.to_owned(), port, transport: Transport::Udp };
        let digest = Some(Digest([7; 16]));
        LastGood {
            sets: Sets(sets),
            digest,
            instead_of: Some(Digest([8; 16])),
            source: Some("sqlite:t.db".to_owned()),
            names: vec![(question(None), vec![address]), (question(Some(1)), Vec::new())],
        }
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let folder = Folder::new();
        let path = folder.path().join("sets.json");
        save(&path, &LastGood::default(), &listeners()).expect("saved");
        save(&path, &last_good(), &listeners()).expect("saved over the former");
        assert_eq!(read(&path, &listeners()).expect("read"), last_good());
        assert_eq!(folder.files(), ["sets.json"]);
    }

    #[test]
    fn listeners_in_another_order_are_found_again() {
        let folder = Folder::new();
        let path = folder.path().join("sets.json");
        save(&path, &last_good(), &listeners()).expect("saved");
        let turned = [listener(0, Transport::Tcp, "127.0.0.1:8060"), listener(1, Transport::Udp, "127.0.0.1:8060")];
        assert_eq!(read(&path, &turned).expect("read").sets.0[1].rows[1].socket, Some(ListenerId(0)));
        let fault = read(&path, &turned[1..]).expect_err("a listener is gone").to_string();
        assert!(fault.contains("row 2 leaves from \"tcp:127.0.0.1:8060\""), "{fault}");
    }

    #[test]
    fn a_cut_file_is_an_error_wherever_it_is_cut() {
        let folder = Folder::new();
        let path = folder.path().join("sets.json");
        save(&path, &last_good(), &listeners()).expect("saved");
        let whole = fs::read(&path).expect("a file");
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).expect("a cut file");
            let fault = read(&path, &listeners()).expect_err("cut").to_string();
            assert!(fault.contains("not one of ours") && fault.contains("remove it"), "{fault}");
        }
    }

    #[test]
    fn garbage_is_an_error() {
        let folder = Folder::new();
        let path = folder.path().join("sets.json");
        let garbage: [&[u8]; 7] = [
            b"\xff\x00\x01",
            b"[]",
            b"{\"format\":1}",
            b"{\"format\":1,\"sets\":[{\"id\":-1,\"rows\":[]}]}",
            b"{\"format\":1,\"sets\":[]}{}",
            b"null",
            &[b'['; 100_000],
        ];
        for text in garbage {
            fs::write(&path, text).expect("a file");
            let fault = read(&path, &listeners()).expect_err("garbage");
            assert!(matches!(fault, SnapshotError::Content { .. }), "{fault}");
        }
    }

    #[test]
    fn another_format_is_named() {
        let folder = Folder::new();
        let path = folder.path().join("sets.json");
        fs::write(&path, "{\"format\":2,\"tables\":[]}").expect("a file");
        let fault = read(&path, &listeners()).expect_err("another format").to_string();
        assert!(fault.contains("format is 2, this version reads 1"), "{fault}");
    }

    #[test]
    fn a_missing_file_or_folder_is_an_error() {
        let folder = Folder::new();
        let path = folder.path().join("none/sets.json");
        assert!(matches!(read(&path, &[]), Err(SnapshotError::Read { .. })));
        assert!(matches!(save(&path, &last_good(), &[]), Err(SnapshotError::Write { .. })));
    }

    #[test]
    fn a_draft_left_by_a_crash_does_no_harm() {
        let folder = Folder::new();
        let path = folder.path().join("sets.json");
        save(&path, &last_good(), &listeners()).expect("saved");
        fs::write(folder.path().join("sets.json.new"), "{\"for").expect("half a draft");
        assert_eq!(read(&path, &listeners()).expect("the former"), last_good());
        save(&path, &LastGood::default(), &listeners()).expect("saved");
        assert_eq!(read(&path, &listeners()).expect("the new one"), LastGood::default());
    }
}
