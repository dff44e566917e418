//! A folder of a test's own, a node in it, and a plain HTTP client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tandem::config::Config;
use tandem::edge::http::ReloadOrder;

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tandem-server-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("the test's folder");
        path
    }

    /// A file that nobody but its owner may read, in a folder that need not be there yet.
    pub(crate) fn write_secret(&self, name: &str, text: &str) -> PathBuf {
        if let Some(folder) = self.0.join(name).parent() {
            std::fs::create_dir_all(folder).expect("the test's folder");
        }
        let path = self.write(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        path
    }

    /// A node's configuration: free ports, set 19, the article's rule; `more` is added.
    /// Nobody reads the rows but who is told to.
    pub(crate) fn config(&self, more: &str) -> Config {
        let mut config = Config::parse("test.toml", &config_text(more), &self.0).expect("valid");
        config.database.poll_interval = None;
        config
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Longer than anything takes on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer, for what nobody tells of by itself: a page, a counter, a snapshot.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn config_text(more: &str) -> String {
    format!(
        r#"
        state_dir = "state"
        [[listener]]
        bind = "udp:127.0.0.1:0"
        [http]
        listen = "127.0.0.1:0"
        [[set]]
        id = 19
        [[rule]]
        name = "tts"
        method = ["INVITE", "OPTIONS"]
        user_agent = "OPENSIPS_TTS_MRCP_CLIENT"
        set = 19
        {more}"#
    )
}

/// An address of this machine that nobody else is given, with any free port: a port of it that is closed stays closed.
pub(crate) fn own_address() -> SocketAddr {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let [.., high, low] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    SocketAddr::from(([127, 19, high, low], 0))
}

/// An order to read the rows, of nobody in particular.
pub(crate) fn anew() -> ReloadOrder {
    ReloadOrder::of("test")
}

/// The article's statement, with these destinations.
pub(crate) fn insert(addresses: &[SocketAddr]) -> String {
    let rows: Vec<_> =
        addresses.iter().map(|address| format!("(19, 'sip:{address}', 0, 1, 100, 'pstn=100', 'TTS')")).collect();
    format!(
        "INSERT INTO `dispatcher` (`setid`, `destination`, `state`, `weight`, `priority`, `attrs`, `description`) VALUES {}",
        rows.join(", ")
    )
}

/// One HTTP request without a body: the status and the body of the answer.
pub(crate) fn http(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    http_with(address, method, path, "")
}

/// One HTTP request with a body of JSON.
pub(crate) fn http_with(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    http_as(address, "none", method, path, body)
}

/// The same with a token.
pub(crate) fn http_as(address: SocketAddr, token: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the surface listens");
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}
