//! `[http]`: where the surface listens, who may ask it, by which names, and who it is.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::reader::{A_FILE, Section};
use super::values;
use crate::edge::http::{Access, Role, Token};
use crate::edge::key;
use crate::edge::tls::TlsFiles;

/// The HTTP surface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens; none: it is off.
    pub listen: Option<SocketAddr>,
    /// Who may ask what.
    pub access: Access,
    /// Who it is; none: no TLS.
    pub tls: Option<TlsFiles>,
    /// What commands use that find the node by this file.
    pub client: ClientFiles,
}

/// What commands ask with. They look at these files, the node does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Holds a token.
    pub token_file: Option<PathBuf>,
    /// A certificate and its key, where the node asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// A token has so many characters at least.
const LEAST: usize = 32;
/// Hex digits of a hash.
const DIGITS: usize = 64;
const USUAL: ([u8; 4], u16) = ([127, 0, 0, 1], 9060);
/// Names that give orders already.
const TAKEN: [&str; 2] = ["table", "database"];

impl Default for HttpConfig {
    fn default() -> Self {
        let (tls, client) = (None, ClientFiles::default());
        HttpConfig { listen: Some(SocketAddr::from(USUAL)), access: Access::default(), tls, client }
    }
}

impl HttpConfig {
    /// Why others than who should may give orders; none: all is well.
    pub fn open(&self, address: SocketAddr) -> Option<&'static str> {
        match (address.ip().is_loopback(), self.access.tokens.is_empty(), &self.tls) {
            (true, ..) | (false, false, Some(_)) => None,
            (false, true, _) => Some(
                "whoever reaches the HTTP surface may give orders: give tokens ([[http.token]]), or let a firewall choose who does",
            ),
            (false, false, None) => Some(
                "tokens go over the network for all to read: give [http.tls], or let a firewall choose who listens",
            ),
        }
    }
}

pub(super) fn read(section: &Section<'_>, base: &Path) -> HttpConfig {
    let default = HttpConfig::default();
    let address = |text: &str| match text {
        "off" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| "give address:port, as 127.0.0.1:9060, or off".to_owned()),
    };
    let config = HttpConfig {
        listen: section.text("listen", r#"address:port, or "off""#, address).unwrap_or(default.listen),
        access: Access {
            tokens: read_tokens(section, base),
            open_metrics: section.flag("open_metrics").unwrap_or_default(),
            names: section.texts("names", "a host's name", host_name).unwrap_or_default(),
        },
        tls: read_tls(&section.section("tls"), base),
        client: read_client(&section.section("client"), base),
    };
    section.finish();
    config
}

/// The host of a URL, without a port.
fn host_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match !text.is_empty() && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("give a host's name without a port, as tandem-a.example.com".to_owned()),
    }
}

fn read_tokens(http: &Section<'_>, base: &Path) -> Vec<Token> {
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    let mut tokens = Vec::new();
    for mut section in http.sections("token") {
        let name = section.text("name", "a name", values::token).unwrap_or_default();
        if !name.is_empty() {
            section.rename(format!("http.token {name:?}"));
        }
        if !section.has("name") {
            section.fault("it has no name: give that of who has it, as name = \"alice\"");
        } else if TAKEN.contains(&name.as_str()) {
            section.fault_at("name", &format!("it is {name:?}, as which the table gives its orders: give another"));
        } else if !name.is_empty() && !names.insert(name.clone()) {
            section.fault_at("name", "another token has it too: give another, so that the log tells who it was");
        }
        let roles = Role::ALL.map(|role| (role.name(), role));
        let role = section.word("role", &roles);
        if !section.has("role") {
            section.fault("it has no role: give one of read, operate, admin");
        }
        let of_file = section.text("file", A_FILE, |text| match base.join(text).exists() || !is_secret(text) {
            true => hash_of(&base.join(text)).map(Some),
            false => Ok(None),
        });
        let of_hash = section.text("sha256", "64 hex digits", |text| Ok(hash(text.trim())));
        if of_file == Some(None) {
            section.fault_at(
                "file",
                "a token itself stands here, for all who see this file: make another, put it into a file of mode 0600 and give the \
                 file's name, or give sha256 of it",
            );
        }
        if of_hash == Some(None) {
            // What stands there may be the token.
            section.fault_at(
                "sha256",
                "it is no hash: give the 64 hex digits that `tr -d '\\n' < alice.token | sha256sum` prints; if it is the token \
                 itself, make another",
            );
        }
        match (section.has("file"), section.has("sha256")) {
            (true, true) => section.fault_at("sha256", "there is a file too: give one of both"),
            (false, false) => section.fault(
                "it has no token: give file = \"alice.token\", made by `openssl rand -hex 32`, mode 0600; or sha256 of it",
            ),
            (true, false) | (false, true) => {}
        }
        section.finish();
        let hash = of_file.flatten().or(of_hash.flatten());
        if let (Some(hash), Some(role)) = (hash, role) {
            if !hashes.insert(hash) {
                section.fault("another name has the same token: make one for each");
            }
            tokens.push(Token { name, role, hash });
        }
    }
    tokens
}

/// Whether a text that should name a file is a token: then no fault may show it.
fn is_secret(text: &str) -> bool {
    let is_of_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
    text.trim().len() >= LEAST && text.trim().bytes().all(is_of_token)
}

fn hash(text: &str) -> Option<[u8; 32]> {
    // The other form of a key is another length.
    (text.len() == DIGITS).then(|| key::parse(text.as_bytes()).ok()).flatten()
}

fn hash_of(file: &Path) -> Result<[u8; 32], String> {
    let remedy = "make it by `openssl rand -hex 32`, mode 0600";
    let secret = key::secret(file)
        .map_err(|fault| fault.to_string())?
        .ok_or_else(|| format!("there is no such file: {remedy}"))?;
    match secret.len() {
        length if length < LEAST => Err(format!("it holds {length} characters: give {LEAST} or more; {remedy}")),
        _ if secret.iter().any(|b| !b.is_ascii_graphic()) => {
            Err(format!("it holds more than one line of letters and digits: {remedy}"))
        }
        _ => Ok(Token::hash(&secret)),
    }
}

/// The table switches it on.
fn read_tls(section: &Section<'_>, base: &Path) -> Option<TlsFiles> {
    let path = |key| section.file(key, base, "node.pem");
    let (cert, key, client_ca) = (path("cert"), path("key"), path("client_ca"));
    section.finish();
    if !section.is_present() {
        return None;
    }
    for key in ["cert", "key"].into_iter().filter(|key| !section.has(key)) {
        section.fault(&format!("it has no {key}: give a file in PEM, as {key} = \"node.pem\""));
    }
    let files = TlsFiles { cert: cert?, key: key?, client_ca };
    if let Err(fault) = files.check() {
        section.fault(&fault.to_string());
    }
    Some(files)
}

fn read_client(section: &Section<'_>, base: &Path) -> ClientFiles {
    let path = |key| section.file(key, base, "node.pem");
    let (token_file, cert, key) = (path("token_file"), path("cert"), path("key"));
    if section.has("cert") != section.has("key") {
        section.fault("cert and key belong together: give both, or neither");
    }
    section.finish();
    ClientFiles { token_file, own: cert.zip(key) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{faults, in_folder, parse, put};
    use super::*;
    use crate::edge::scratch::Folder;

    const LISTENER: &str = "[[listener]]\nbind = \"udp:127.0.0.1:8060\"\n";

    #[test]
    fn without_tokens_it_is_local_and_anybody_s() {
        assert_eq!(parse(LISTENER).expect("valid").http, HttpConfig::default());
        let http = HttpConfig::default();
        let open = |address: &str| http.open(address.parse().expect("an address"));
        assert_eq!((open("127.0.0.1:1"), open("[::1]:1")), (None, None));
        assert!(open("10.0.0.1:1").expect("open").contains("may give orders"));
    }

    #[test]
    fn tokens_are_read_as_hashes_of_files_or_as_they_are() {
        let folder = Folder::new();
        let secret = "5a".repeat(32);
        put(&folder, "alice.token", &format!("{secret}\n"), 0o600);
        let text = "[http]\nlisten = \"10.0.0.1:9060\"\nopen_metrics = true\nnames = [\"tandem-a.example.com\"]\n\
                    [[http.token]]\nname = \"alice\"\nrole = \"admin\"\nfile = \"alice.token\"\n\
                    [[http.token]]\nname = \"noc\"\nrole = \"read\"\n\
                    sha256 = \"BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n\
                    [http.client]\ntoken_file = \"noc.token\"\n";
        let http = in_folder(&folder, text).expect("valid").http;
        let (alice, noc) = (Token::hash(secret.as_bytes()), Token::hash(b"abc"));
        let token = |name: &str, role, hash| Token { name: name.to_owned(), role, hash };
        assert_eq!(http.access.tokens, [token("alice", Role::Admin, alice), token("noc", Role::Read, noc)]);
        assert_eq!(
            (http.access.open_metrics, &http.access.names[..]),
            (true, &["tandem-a.example.com".to_owned()][..])
        );
        assert_eq!(http.client.token_file, Some(folder.path().join("noc.token")));
        assert!(http.open(http.listen.expect("on")).expect("no TLS").contains("[http.tls]"));
        assert!(!format!("{http:?}").contains(&secret));
    }

    #[test]
    fn a_token_that_is_none_is_told_with_what_to_do_and_never_shown() {
        let folder = Folder::new();
        let secret = "q7".repeat(24);
        put(&folder, "open", &secret, 0o644);
        put(&folder, "short", "secret", 0o600);
        put(&folder, "two", &format!("{secret}\n{secret}\n"), 0o600);
        for (key, words) in [
            (format!("file = \"{secret}\""), "a token itself stands here"),
            (format!("sha256 = \"{secret}\""), "it is no hash"),
            ("file = \"open\"".to_owned(), "chmod 600"),
            ("file = \"short\"".to_owned(), "6 characters: give 32 or more"),
            ("file = \"two\"".to_owned(), "more than one line"),
            ("file = \"none\"".to_owned(), "openssl rand -hex 32"),
            (String::new(), "it has no token"),
            ("file = \"none\"\nsha256 = \"x\"".to_owned(), "there is a file too"),
            (format!("token = \"{secret}\""), "token is no known key"),
        ] {
            let text = format!("[[http.token]]\nname = \"alice\"\nrole = \"read\"\n{key}\n");
            let error = in_folder(&folder, &text).expect_err("no token").to_string();
            assert!(error.contains(words) && !error.contains(&secret), "{key}: {error}");
        }
    }

    #[test]
    fn all_faults_come_at_once() {
        let hash = "ab".repeat(32);
        let told = faults(&format!(
            "[http]\nlisten = \"here\"\nopen_metrics = 1\nnames = [\"a b\", \"a:1\"]\n[[http.token]]\nname = \"a\"\n\
             sha256 = \"{hash}\"\n[[http.token]]\nname = \"a\"\nrole = \"root\"\nsha256 = \"{hash}\"\n[[http.token]]\n\
             name = \"table\"\nrole = \"read\"\nsha256 = \"{hash}\"\n[[http.token]]\nname = \"b\"\nrole = \"read\"\n\
             sha256 = \"{hash}\"\n[http.tls]\ncert = \"c\"\n[http.client]\nkey = \"k\"\n"
        ));
        let words = [
            "2: http.listen is \"here\"",
            "3: http.open_metrics is 1",
            "4: http.names is \"a b\"",
            "4: http.names is \"a:1\"",
            "5: http.token \"a\": it has no role",
            "9: http.token \"a\".name: another token has it too",
            "10: http.token \"a\".role is \"root\": give one of read, operate, admin",
            "13: http.token \"table\".name: it is \"table\"",
            "16: http.token \"b\": another name has the same token",
            "20: http.tls: it has no key",
            "22: http.client: cert and key belong together",
        ];
        assert_eq!(told.len(), words.len(), "{told:#?}");
        for (told, words) in told.iter().zip(words) {
            assert!(told.starts_with(words), "{told}");
        }
    }

    #[test]
    fn files_that_are_no_identity_are_told() {
        let folder = Folder::new();
        put(&folder, "node.pem", "nothing", 0o644);
        put(&folder, "node.key", "nothing", 0o600);
        let told = |text: &str| in_folder(&folder, text).expect_err("no identity").to_string();
        let text = "[http.tls]\ncert = \"node.pem\"\nkey = \"node.key\"\n";
        assert!(told(text).contains("node.pem: it holds no certificate in PEM"), "{}", told(text));
        let text = "[http.tls]\ncert = \"none.pem\"\nkey = \"node.key\"\n";
        assert!(told(text).starts_with("t.toml:3: http.tls: ") && told(text).contains("none.pem: can't read it"));
    }
}
