//! The URL that names a source of sets. All that is wrong with one is told at once, and never its password.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::Database;

/// What stands where a password or worse may.
const HIDDEN: &str = "...";

/// What kind of source it is, by the URL's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A SQLite file.
    Sqlite,
    /// MariaDB or MySQL.
    MySql,
    /// PostgreSQL.
    Postgres,
    /// A file of our own form.
    Toml,
    /// Kamailio's dispatcher.list.
    List,
}

impl Kind {
    /// By the scheme of the URL.
    pub fn of(url: &str) -> Option<Kind> {
        let (scheme, _) = url.split_once(':')?;
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => Some(Kind::Sqlite),
            "mysql" | "mariadb" => Some(Kind::MySql),
            "postgres" | "postgresql" => Some(Kind::Postgres),
            "toml" => Some(Kind::Toml),
            "list" => Some(Kind::List),
            _ => None,
        }
    }

    /// Whether it is a text file, which has a form of its own and is never written.
    pub fn is_file(self) -> bool {
        matches!(self, Kind::Toml | Kind::List)
    }

    /// Whether it is a database that other machines ask too, with a user and a password.
    pub fn is_server(self) -> bool {
        matches!(self, Kind::MySql | Kind::Postgres)
    }

    /// How often to look for changes, unless told otherwise.
    pub(super) fn poll_interval(self) -> std::time::Duration {
        std::time::Duration::from_secs(if self.is_file() { 1 } else { 5 })
    }
}

/// What a URL names. The options of a server hold its password, if the URL does.
#[derive(Clone)]
pub(super) enum Address {
    Sqlite(PathBuf),
    MySql(Box<MySqlConnectOptions>),
    Postgres(Box<PgConnectOptions>),
    Toml(PathBuf),
    List(PathBuf),
}

impl Address {
    /// Reads the URL; its relative paths count from `base`.
    ///
    /// # Errors
    /// Each fault with its remedy.
    pub(super) fn parse(url: &str, base: &Path) -> Result<Self, Vec<String>> {
        let rest = url.split_once(':').map_or("", |(_, rest)| rest);
        let path = |example| path(url, rest, base, example);
        match Kind::of(url) {
            Some(Kind::Sqlite) => sqlite(url, rest, base).map(Address::Sqlite),
            Some(Kind::Toml) => path("toml:sets.toml").map(Address::Toml),
            Some(Kind::List) => path("list:dispatcher.list").map(Address::List),
            Some(Kind::MySql) => mysql(url, base).map(|options| Address::MySql(Box::new(options))),
            Some(Kind::Postgres) => postgres(url, base).map(|options| Address::Postgres(Box::new(options))),
            None => {
                let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
                let scheme = if scheme.contains('@') { HIDDEN } else { scheme };
                Err(vec![format!(
                    "it begins with {scheme:?}: give sqlite:PATH, mysql://, mariadb://, postgres://, toml:PATH or list:PATH"
                )])
            }
        }
    }
}

/// Everything that is wrong with what names the source, for the configuration: the key and the problem with its remedy.
pub fn faults(database: &Database, base: &Path) -> Vec<(&'static str, String)> {
    let kind = Kind::of(&database.url);
    let mut faults = Vec::new();
    match Address::parse(&database.url, base) {
        Ok(_) => {}
        Err(problems) => faults.extend(problems.into_iter().map(|problem| ("url", problem))),
    }
    if database.password_file.is_some() {
        if kind.is_some_and(|kind| !kind.is_server()) {
            faults.push(("password_file", "the url names a file, which has no password: drop it".to_owned()));
        } else if has_password(&database.url) {
            faults.push(("password_file", "the url holds a password too: take it out of there".to_owned()));
        }
    }
    if let Some(channel) = &database.listen
        && kind.is_some_and(|kind| kind != Kind::Postgres)
    {
        faults.push(("listen", format!("it is {channel:?}, and PostgreSQL alone notifies: drop it")));
    }
    faults
}

/// The URL for people: what may be a password is left out.
pub(super) fn shown(url: &str) -> String {
    if !Kind::of(url).is_some_and(Kind::is_server) {
        return if url.contains('@') { HIDDEN.to_owned() } else { url.to_owned() };
    }
    match Address::parse(url, Path::new("")) {
        Ok(address) => address.to_string(),
        Err(_) => format!("{}:{HIDDEN}", url.split(':').next().unwrap_or_default()),
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Address::Toml(path) => write!(f, "toml:{}", path.display()),
            Address::List(path) => write!(f, "list:{}", path.display()),
            Address::MySql(o) => {
                write!(f, "mysql://{}@", o.get_username())?;
                match o.get_socket() {
                    Some(socket) => write!(f, "{}", socket.display())?,
                    None => write!(f, "{}", host_port(o.get_host(), o.get_port()))?,
                }
                write!(f, "/{}", o.get_database().unwrap_or_default())
            }
            Address::Postgres(o) => {
                write!(f, "postgres://{}@", o.get_username())?;
                match o.get_socket() {
                    Some(socket) => write!(f, "{}", socket.display())?,
                    None => write!(f, "{}", host_port(o.get_host(), o.get_port()))?,
                }
                write!(f, "/{}", o.get_database().unwrap_or_default())
            }
        }
    }
}

fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn sqlite(url: &str, rest: &str, base: &Path) -> Result<PathBuf, Vec<String>> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let problem = match path {
        "" => "without a path",
        ":memory:" => "a database that would be gone after the first load",
        _ if path.contains('?') => "with parameters, which are not read",
        _ => return Ok(base.join(path)),
    };
    Err(vec![format!("it is {url:?}, {problem}: give sqlite: and a file's path, e.g. sqlite:tandem.db")])
}

fn path(url: &str, rest: &str, base: &Path, example: &str) -> Result<PathBuf, Vec<String>> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.ends_with('/') {
        return Err(vec![format!("it is {url:?}, without a file: give its path, e.g. {example}")]);
    }
    Ok(base.join(path))
}

/// The parts of a server's URL: `scheme://user:password@host:port/database?name=value`.
struct Parts<'u> {
    user: &'u str,
    host: &'u str,
    database: &'u str,
    parameters: Vec<(String, String)>,
}

/// What a server's parameters may be called, and the modes of its TLS that look at the server's certificate.
struct Terms {
    /// The parameters, and what else they may be called.
    parameters: &'static [(&'static str, &'static [&'static str])],
    modes: &'static [&'static str],
    verifying: &'static [&'static str],
    example: &'static str,
}

const MYSQL: Terms = Terms {
    parameters: &[
        ("ssl-mode", &["sslmode"]),
        ("ssl-ca", &["sslca"]),
        ("ssl-cert", &["sslcert"]),
        ("ssl-key", &["sslkey"]),
        ("socket", &[]),
    ],
    modes: &["DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"],
    verifying: &["VERIFY_CA", "VERIFY_IDENTITY"],
    example: "mysql://tandem@db.example.com/opensips",
};

const POSTGRES: Terms = Terms {
    parameters: &[
        ("sslmode", &["ssl-mode"]),
        ("sslrootcert", &["ssl-root-cert", "ssl-ca"]),
        ("sslcert", &["ssl-cert"]),
        ("sslkey", &["ssl-key"]),
        ("host", &[]),
        ("application_name", &[]),
        ("options", &[]),
        ("options[search_path]", &[]),
    ],
    modes: &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
    verifying: &["verify-ca", "verify-full"],
    example: "postgres://tandem@db.example.com/opensips",
};

impl Terms {
    /// The parameter's own name.
    fn known(&self, name: &str) -> Option<&'static str> {
        let found = self.parameters.iter().find(|(own, others)| *own == name || others.contains(&name));
        found.map(|(own, _)| *own)
    }

    /// What is wrong with these parts. A part that may hold a piece of a password is not shown.
    fn faults(&self, parts: &Parts<'_>) -> Vec<String> {
        let mut faults = Vec::new();
        let has = |name: &str| parts.parameters.iter().any(|(one, _)| self.known(one) == Some(name));
        if parts.user.is_empty() {
            faults.push(format!("it names no user: give one, as {}", self.example));
        }
        if parts.host.is_empty() {
            faults.push(format!("it names no host: give one, as {}", self.example));
        }
        if parts.database.is_empty() {
            faults.push(format!("it names no database: give one, as {}", self.example));
        }
        let names: Vec<_> = self.parameters.iter().map(|(name, _)| *name).collect();
        for (name, value) in &parts.parameters {
            match self.known(name) {
                None if name == "password" => {
                    faults.push("its parameter password is not read: give password_file".to_owned());
                }
                None => faults.push(format!("its parameter {name:?} is not known: give one of {}", names.join(", "))),
                Some("ssl-mode" | "sslmode") if !self.modes.iter().any(|mode| mode.eq_ignore_ascii_case(value)) => {
                    faults.push(format!("its {name} is {value:?}: give one of {}", self.modes.join(", ")));
                }
                Some(_) => {}
            }
        }
        let mode = parts.parameters.iter().find(|(name, _)| matches!(name.as_str(), "ssl-mode" | "sslmode"));
        let verifies = mode.is_some_and(|(_, mode)| self.verifying.iter().any(|one| one.eq_ignore_ascii_case(mode)));
        let authority = self.parameters[1].0;
        if has(authority) && !verifies {
            let own = self.parameters[0].0;
            faults.push(format!(
                "its {authority} is not looked at without {own}={} or {}: add it",
                self.verifying[0], self.verifying[1]
            ));
        }
        if has(self.parameters[2].0) != has(self.parameters[3].0) {
            faults.push(format!("{} and {} belong together: give both", self.parameters[2].0, self.parameters[3].0));
        }
        faults
    }

    /// The files that parameters name, from `base`.
    fn file(&self, parts: &Parts<'_>, name: &str, base: &Path) -> Option<PathBuf> {
        let found = parts.parameters.iter().find(|(one, _)| self.known(one) == Some(name));
        found.map(|(_, value)| base.join(value))
    }

    fn parts<'u>(&self, url: &'u str) -> Result<Parts<'u>, Vec<String>> {
        let Some(rest) = url.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//")) else {
            return Err(vec![format!("after its scheme comes no //: write it as {}", self.example)]);
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        // Such a password would be taken for host, database and parameters, and be shown as such.
        if after.contains(['@', '#']) {
            let remedy = "write such characters as % and two hex digits, or give password_file";
            return Err(vec![format!("its user or password holds one of / ? # @ as it is: {remedy}")]);
        }
        let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (database, query) = after.split_once('?').unwrap_or((after, ""));
        let parameters = form_urlencoded::parse(query.as_bytes());
        Ok(Parts {
            user: login.split(':').next().unwrap_or_default(),
            host: if host.starts_with(':') { "" } else { host },
            database: database.trim_matches('/'),
            parameters: parameters.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        })
    }

    /// The parts, and the driver's options of them.
    fn read<'u, O: FromStr<Err = sqlx::Error>>(&self, url: &'u str) -> Result<(Parts<'u>, O), Vec<String>> {
        let parts = self.parts(url)?;
        let mut faults = self.faults(&parts);
        if faults.is_empty() {
            match url.parse() {
                Ok(options) => return Ok((parts, options)),
                // The driver's word may show a part of what it could not read.
                Err(_) => faults.push(format!("it can't be read as host and port: write it as {}", self.example)),
            }
        }
        Err(faults)
    }
}

fn mysql(url: &str, base: &Path) -> Result<MySqlConnectOptions, Vec<String>> {
    let (parts, mut options): (_, MySqlConnectOptions) = MYSQL.read(url)?;
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    options = options.host(&host).disable_statement_logging();
    if let Some(path) = MYSQL.file(&parts, "ssl-ca", base) {
        options = options.ssl_ca(path);
    }
    if let Some(path) = MYSQL.file(&parts, "ssl-cert", base) {
        options = options.ssl_client_cert(path);
    }
    if let Some(path) = MYSQL.file(&parts, "ssl-key", base) {
        options = options.ssl_client_key(path);
    }
    // A socket needs no TLS, and its server may have none.
    if options.get_socket().is_some() && !parts.parameters.iter().any(|(name, _)| name.starts_with("ssl")) {
        options = options.ssl_mode(MySqlSslMode::Disabled);
    }
    Ok(options)
}

fn postgres(url: &str, base: &Path) -> Result<PgConnectOptions, Vec<String>> {
    let (parts, mut options): (_, PgConnectOptions) = POSTGRES.read(url)?;
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    options = options.host(&host).disable_statement_logging();
    if options.get_application_name().is_none() {
        options = options.application_name("tandem");
    }
    if let Some(path) = POSTGRES.file(&parts, "sslrootcert", base) {
        options = options.ssl_root_cert(path);
    }
    if let Some(path) = POSTGRES.file(&parts, "sslcert", base) {
        options = options.ssl_client_cert(path);
    }
    if let Some(path) = POSTGRES.file(&parts, "sslkey", base) {
        options = options.ssl_client_key(path);
    }
    if options.get_socket().is_some() && !parts.parameters.iter().any(|(name, _)| name.starts_with("ssl")) {
        options = options.ssl_mode(PgSslMode::Disable);
    }
    Ok(options)
}

/// Whether the URL of a server holds a password.
pub fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = &authority[..authority.find(['/', '?', '#']).unwrap_or(authority.len())];
    authority.rsplit_once('@').is_some_and(|(login, _)| login.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/base";

    fn parse(url: &str) -> Result<String, Vec<String>> {
        Address::parse(url, Path::new(BASE)).map(|address| address.to_string())
    }

    #[test]
    fn urls_name_files_and_servers() {
        for (url, shown) in [
            ("sqlite:a.db", "sqlite:/base/a.db"),
            ("SQLITE:///var/a.db", "sqlite:/var/a.db"),
            ("toml:sets.toml", "toml:/base/sets.toml"),
            ("list:/etc/kamailio/dispatcher.list", "list:/etc/kamailio/dispatcher.list"),
            ("mysql://u:secret@db/opensips", "mysql://u@db:3306/opensips"),
            ("mariadb://u:se%2Fcret@db:3307/opensips?ssl-mode=required", "mysql://u@db:3307/opensips"),
            ("mysql://u:p@secret@[::1]:3307/o", "mysql://u@[::1]:3307/o"),
            ("mysql://u@localhost/o?socket=/run/mysqld.sock", "mysql://u@/run/mysqld.sock/o"),
            ("postgres://u:secret@db/opensips?sslmode=verify-full", "postgres://u@db:5432/opensips"),
            ("postgresql://u@localhost/o?host=/run/postgresql", "postgres://u@/run/postgresql/o"),
        ] {
            assert_eq!(parse(url), Ok(shown.to_owned()), "{url}");
        }
    }

    #[test]
    fn files_of_tls_count_from_the_base() {
        let Ok(Address::MySql(options)) =
            Address::parse("mysql://u@h/d?ssl-mode=VERIFY_CA&ssl-ca=ca.pem", Path::new(BASE))
        else {
            panic!("a good URL")
        };
        assert!(format!("{options:?}").contains("/base/ca.pem"));
        let Ok(Address::Postgres(options)) =
            Address::parse("postgres://u@h/d?sslmode=verify-ca&sslrootcert=ca.pem", Path::new(BASE))
        else {
            panic!("a good URL")
        };
        assert!(format!("{options:?}").contains("/base/ca.pem"));
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_remedy() {
        let faults = parse("mysql://?ssl-mode=on&ssl-ca=ca.pem&charset=latin1&ssl-key=k").expect_err("faults");
        let words = [
            "no user: give one",
            "no host: give one",
            "no database: give one",
            "ssl-mode is \"on\": give one of DISABLED",
            "\"charset\" is not known: give one of ssl-mode",
            "ssl-ca is not looked at without ssl-mode=VERIFY_CA or VERIFY_IDENTITY",
            "ssl-cert and ssl-key belong together",
        ];
        assert_eq!(faults.len(), words.len(), "{faults:?}");
        for (fault, words) in faults.iter().zip(words) {
            assert!(fault.contains(words), "{fault}");
        }
        let faults = parse("postgres://u@h:port/d").expect_err("no port");
        assert!(faults[0].contains("host and port"), "{faults:?}");
        assert!(parse("mysql:u@h/d").expect_err("no //")[0].contains("//"));
        for (url, words) in [
            ("oracle://h/d", "begins with \"oracle\": give sqlite:PATH"),
            ("tandem.db", "begins with \"tandem.db\""),
            ("", "begins with \"\""),
            ("sqlite:", "without a path"),
            ("sqlite::memory:", "gone after the first load"),
            ("sqlite:a.db?mode=ro", "with parameters"),
            ("toml:", "without a file: give its path, e.g. toml:sets.toml"),
            ("list:etc/", "without a file"),
        ] {
            let faults = parse(url).expect_err(url);
            assert!(faults.len() == 1 && faults[0].contains(words), "{faults:?}");
        }
    }

    #[test]
    fn no_part_of_a_password_is_ever_shown() {
        for url in [
            "mysql://u:se/cret@h/d",
            "mysql://u:12/cret@h/d",
            "postgres://u:12?cret@h/d",
            "postgres://u:12#cret@h/d",
            "postgres://u:12#cret",
            "mysql://u:cret",
            "mysql://u:cret@h:x/d?ssl-mode=bad",
            "mysql:u:cret@h/d",
            "u:cret@h/d",
            "u cret@h:3306",
            "postgres://u@h/d?password=cret",
            "mysql://u:cret@h/d",
            "postgres://u:cr%zzcret@h/d",
        ] {
            let told = parse(url).unwrap_or_else(|faults| faults.join("; "));
            for told in [told, shown(url), format!("{:?}", Database::of(url))] {
                assert!(!told.contains("cret"), "{url}: {told}");
            }
        }
    }

    #[test]
    fn a_password_stands_in_one_place_and_only_where_there_is_one() {
        let with = |url: &str| {
            let database = Database { password_file: Some("p".into()), listen: Some("c".into()), ..Database::of(url) };
            faults(&database, Path::new(BASE)).into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(with("postgres://u@h/d"), [""; 0]);
        assert_eq!(with("postgres://u:p@h/d"), ["password_file"]);
        assert_eq!(with("mysql://u@h/d"), ["listen"]);
        assert_eq!(with("sqlite:a.db"), ["password_file", "listen"]);
        assert_eq!(with("what:a.db"), ["url"]);
    }
}
