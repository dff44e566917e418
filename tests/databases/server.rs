//! A MariaDB and a PostgreSQL of this process's own: on 127.0.0.1, with a folder of their own, gone when the process is.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tandem::edge::store::{Database, Store};

/// Of whom servers run that refuse to run as root: Debian's `nobody`.
const NOBODY: u32 = 65_534;
/// How long a server may take to start on a machine with much to do.
const START: Duration = Duration::from_secs(120);
/// The password of every user.
pub(crate) const PASSWORD: &str = "geh/eim@%";
/// The same within a URL.
pub(crate) const IN_URL: &str = "geh%2Feim%40%25";

/// Starts what its further arguments say, tells its process's number, and sends it the signal of the first when nobody holds
/// the input any more.
const WATCH: &str = r#"exec 2>/dev/null; end=$1; shift
"$@" </dev/null >>log 2>&1 & child=$!; echo $child; read -r _; kill -"$end" $child; wait $child"#;
/// Waits for the end of this process and removes the folder.
const SWEEP: &str = r#"read -r _; sleep 0.2; rm -rf "$1""#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    MariaDb,
    Postgres,
}

impl Kind {
    pub(crate) const BOTH: [Kind; 2] = [Kind::MariaDb, Kind::Postgres];

    /// The one that all tests share.
    pub(crate) fn shared(self) -> &'static Server {
        static SERVERS: [OnceLock<Server>; 2] = [OnceLock::new(), OnceLock::new()];
        SERVERS[self as usize].get_or_init(|| Server::new(self, "shared"))
    }
}

pub(crate) struct Server {
    kind: Kind,
    folder: PathBuf,
    port: u16,
    /// What holds the server, and the server's process.
    watched: std::sync::Mutex<Option<(Child, String)>>,
    // Removes the folder once this process is gone.
    _sweeper: Child,
}

impl Server {
    pub(crate) fn new(kind: Kind, name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tandem-databases-{}-{kind:?}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder for the server");
        let mut sweep = Command::new("sh");
        let sweep = sweep.args(["-c", SWEEP, "sh"]).arg(&folder).stdin(Stdio::piped());
        let _sweeper = sweep.spawn().expect("sh");
        certificates(&folder);
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("an address").port();
        let server = Server { kind, folder, port, watched: Default::default(), _sweeper };
        server.prepare();
        server.start();
        server
    }

    /// Where `ca.pem`, which has signed the server's certificate, and `other.pem`, which has not, are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has been asked, as it has written it down.
    pub(crate) fn log(&self) -> String {
        let name = if self.kind == Kind::MariaDb { "queries" } else { "log" };
        String::from_utf8_lossy(&fs::read(self.folder.join(name)).expect("a log")).into_owned()
    }

    /// The URL of a database by that user.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        let scheme = if self.kind == Kind::MariaDb { "mysql" } else { "postgres" };
        format!("{scheme}://{user}:{IN_URL}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes a database with a user `writer_NAME` who may do everything in it, and a `reader_NAME` who may read it.
    pub(crate) async fn database(&self, name: &str, how: &str) -> Store {
        let (writer, reader) = (format!("writer_{name}"), format!("reader_{name}"));
        let all = match self.kind {
            Kind::MariaDb => format!(
                "CREATE DATABASE {name} {how};
                 CREATE USER {writer} IDENTIFIED BY '{PASSWORD}', {reader} IDENTIFIED BY '{PASSWORD}';
                 GRANT ALL ON {name}.* TO {writer}; GRANT SELECT ON {name}.* TO {reader};"
            ),
            Kind::Postgres => format!(
                "CREATE USER {writer} PASSWORD '{PASSWORD}'; CREATE USER {reader} PASSWORD '{PASSWORD}'; \n
                 CREATE DATABASE {name} OWNER {writer} {how};"
            ),
        };
        let admin = store(&self.url("admin", if self.kind == Kind::MariaDb { "mysql" } else { "postgres" }));
        match self.kind {
            Kind::MariaDb => admin.execute(&all).await.expect("a database"),
            // PostgreSQL makes databases only outside of a transaction, which several statements at once are.
            Kind::Postgres => {
                for statement in all.split(';').filter(|one| !one.trim().is_empty()) {
                    admin.execute(statement).await.expect("a database");
                }
            }
        }
        let writing = store(&self.url(&writer, name));
        if self.kind == Kind::Postgres {
            let grant = format!("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {reader}");
            writing.execute(&grant).await.expect("a grant");
            let create = format!("GRANT CREATE ON SCHEMA public TO {writer}");
            store(&self.url("admin", name)).execute(&create).await.expect("a grant");
        }
        writing
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&self) {
        let mut watched = self.watched.lock().expect("no test panics in here");
        let (mut child, _) = watched.take().expect("it runs");
        drop(child.stdin.take());
        child.wait().expect("it has ended");
    }

    /// Stops it in the midst of what it does, or lets it go on: its connections stay open.
    pub(crate) fn signal(&self, name: &str) {
        let watched = self.watched.lock().expect("no test panics in here");
        let (_, pid) = watched.as_ref().expect("it runs");
        let sent = Command::new("sh").args(["-c", "kill -\"$1\" \"$2\"", "sh", name, pid]).status().expect("sh");
        assert!(sent.success());
    }

    /// Starts it (again) and waits until it answers.
    pub(crate) fn start(&self) {
        let mut command = self.user(Command::new("sh"));
        // Neither writes down what it has in memory; PostgreSQL takes its children along.
        let end = if self.kind == Kind::MariaDb { "KILL" } else { "QUIT" };
        command.args(["-c", WATCH, "sh", end]).args(self.command()).current_dir(&self.folder);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh");
        let mut pid = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut pid).expect("its number");
        let began = Instant::now();
        while let Err(problem) = self.answers() {
            let runs = Path::new("/proc").join(pid.trim()).exists();
            let late = began.elapsed() > START;
            assert!(runs && !late, "{:?} does not start: {problem}\n{}", self.kind, self.log_of_start());
            std::thread::sleep(Duration::from_millis(50));
        }
        *self.watched.lock().expect("no test panics in here") = Some((child, pid.trim().to_owned()));
    }

    fn log_of_start(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn answers(&self) -> Result<(), String> {
        let database = if self.kind == Kind::MariaDb { "mysql" } else { "postgres" };
        let url = self.url("admin", database);
        // A test's own runtime can't be waited in.
        let asked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let limit = Duration::from_secs(10);
                tokio::time::timeout(limit, async { store(&url).execute("SELECT 1").await }).await
            })
        });
        match asked.join().expect("no panic") {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(late) => Err(late.to_string()),
        }
    }

    /// The program and its arguments.
    fn command(&self) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let port = self.port;
        match self.kind {
            Kind::MariaDb => vec![
                tool("mariadbd", "mariadb-server").display().to_string(),
                "--no-defaults".into(),
                format!("--datadir={}", path("data")),
                format!("--socket={}", path("s")),
                format!("--pid-file={}", path("pid")),
                format!("--init-file={}", path("init.sql")),
                format!("--general-log-file={}", path("queries")),
                "--general-log".into(),
                format!("--port={port}"),
                "--bind-address=127.0.0.1".into(),
                "--skip-name-resolve".into(),
                "--innodb-buffer-pool-size=16M".into(),
                // Written at each commit, not synced: a killed process loses nothing.
                "--innodb-flush-log-at-trx-commit=2".into(),
                format!("--ssl-ca={}", path("ca.pem")),
                format!("--ssl-cert={}", path("server.pem")),
                format!("--ssl-key={}", path("server.key")),
            ],
            Kind::Postgres => {
                let mut command = vec![tool("postgres", "postgresql").display().to_string(), "-D".into(), path("data")];
                for setting in [
                    format!("port={port}"),
                    "listen_addresses=127.0.0.1".into(),
                    format!("unix_socket_directories={}", self.folder.display()),
                    "ssl=on".into(),
                    format!("ssl_cert_file={}", path("server.pem")),
                    format!("ssl_key_file={}", path("server.key")),
                    format!("hba_file={}", path("hba")),
                    "log_statement=all".into(),
                    "log_line_prefix=%u ".into(),
                    "fsync=off".into(),
                    "shared_buffers=16MB".into(),
                ] {
                    command.extend(["-c".to_owned(), setting]);
                }
                command
            }
        }
    }

    /// Makes its first data.
    fn prepare(&self) {
        let path = |name: &str| self.folder.join(name);
        let write = |name: &str, text: String| fs::write(path(name), text).expect("a file");
        let mut command = match self.kind {
            Kind::MariaDb => {
                write(
                    "init.sql",
                    format!(
                        "CREATE OR REPLACE USER admin@'%' IDENTIFIED BY '{PASSWORD}';\n\
                         GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION;\n"
                    ),
                );
                let mut command = Command::new(tool("mariadb-install-db", "mariadb-server"));
                command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
                command.arg(format!("--datadir={}", path("data").display()));
                command
            }
            Kind::Postgres => {
                write("password", PASSWORD.to_owned());
                let mut hba = String::new();
                for line in ["hostnossl all secure all reject", "host all all 127.0.0.1/32 scram-sha-256"] {
                    writeln!(hba, "{line}").expect("a string");
                }
                write("hba", hba);
                let mut command = Command::new(tool("initdb", "postgresql"));
                command.args(["-U", "admin", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
                command.arg(format!("--pwfile={}", path("password").display())).arg("-D").arg(path("data"));
                command
            }
        };
        if is_root() {
            for name in fs::read_dir(&self.folder).expect("the folder").map(|entry| entry.expect("an entry").path()) {
                chown(name, Some(NOBODY), Some(NOBODY)).expect("nobody's");
            }
            chown(&self.folder, Some(NOBODY), Some(NOBODY)).expect("nobody's");
        }
        command.current_dir(&self.folder);
        let made = self.user(command).output().expect("it runs");
        let told = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{:?}: {told}{}", self.kind, String::from_utf8_lossy(&made.stdout));
    }

    fn user(&self, mut command: Command) -> Command {
        if is_root() {
            command.uid(NOBODY).gid(NOBODY).env("HOME", &self.folder);
        }
        command
    }
}

pub(crate) fn store(url: &str) -> Store {
    Store::new(&Database::of(url), Path::new("/")).expect("a good URL")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc").uid() == 0
}

/// Where a program is; PostgreSQL's are in a folder of each version.
fn tool(name: &str, package: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("there is no {name}: install Debian's package {package}"))
}

/// A certificate of the server by an authority, and another authority that has signed nothing.
fn certificates(folder: &Path) {
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .expect("a file");
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for arguments in [
        format!("req -x509 {new_key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"),
        format!("req -x509 {new_key} -days 2 -subj /CN=other -keyout other.key -out other.pem"),
        format!("req {new_key} -subj /CN=server -keyout server.key -out server.csr"),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem"
            .into(),
    ] {
        let mut command = Command::new(tool("openssl", "openssl"));
        let made = command.args(arguments.split(' ')).current_dir(folder).output().expect("openssl");
        assert!(made.status.success(), "{arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }
}
