//! How commands speak to a running node: by its HTTP surface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Failure, usual};
use crate::config::{ClientFiles, Config, HttpConfig};
use crate::edge::client::{Answer, ClientError, Request, Server, Stream, ask, listen};
use crate::edge::http::{DestinationReport, Readiness, SetReport};
use crate::edge::tls::{Anchor, Trust};

/// Where a node is that was told nothing else.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9060);
/// How long an answer may take: longer than the surface itself waits for its node.
const PATIENCE: Duration = Duration::from_secs(15);

/// What orders are.
pub(super) const JSON: &str = "application/json";

/// Which node is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Where {
    /// The node's HTTP surface, as HOST:PORT, http://HOST:PORT or https://HOST:PORT [default: as the configuration says, else
    /// 127.0.0.1:9060].
    #[arg(long, value_name = "WHERE", value_parser = Place::parse)]
    http: Option<Place>,
    /// The node's configuration file [default: config/tandem.toml or else /etc/tandem/tandem.toml, if one is there].
    #[arg(long, value_name = "FILE", conflicts_with = "http")]
    config: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// What a node is asked with.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct How {
    /// A file with a token, where the node asks for one [default: TANDEM_TOKEN, else as the configuration says].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Whose certificates are believed, in PEM [default: those of this system's authorities; with a configuration its own].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our own certificate, where the node asks for one.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// Where a node's HTTP surface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    is_tls: bool,
    host: String,
    port: u16,
}

impl Place {
    /// # Errors
    /// What to give.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let remedy = || "give HOST:PORT, http://HOST:PORT or https://HOST:PORT".to_owned();
        let (is_tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(remedy()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !rest.ends_with(']') => (host, port.parse().map_err(|_| remedy())?),
            Some(_) | None if text.contains("://") => (rest, if is_tls { 443 } else { 80 }),
            Some(_) | None => return Err(remedy()),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let fits = match bare {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
        };
        match fits && port != 0 {
            true => Ok(Place { is_tls, host: bare.unwrap_or(host).to_owned(), port }),
            false => Err(remedy()),
        }
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Place { is_tls: false, host: address.ip().to_string(), port: address.port() }
    }
}

/// A node's HTTP surface.
#[derive(Clone, Debug)]
pub(super) struct Surface(Server);

/// An answer: as it came, and what it says.
pub(super) struct Told<T> {
    pub(super) json: String,
    pub(super) said: T,
}

/// What the surface says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    faults: Vec<String>,
}

impl Where {
    /// There; none: as the usual configuration says, if it is there.
    pub(super) fn at(http: Option<Place>, how: How) -> Self {
        Where { http, config: None, how }
    }

    pub(super) fn surface(&self) -> Result<Surface, Failure> {
        let (place, of_node, files) = match (&self.http, &self.config) {
            (Some(place), _) => (place.clone(), None, ClientFiles::default()),
            (None, Some(file)) => configured(file)?,
            (None, None) => match usual::file() {
                Some(file) => configured(file)?,
                None => (USUAL.into(), None, ClientFiles::default()),
            },
        };
        let How { token_file, ca, cert, key } = &self.how;
        let anchor = match (ca, of_node) {
            (Some(ca), _) => Anchor::Authorities(ca.clone()),
            (None, Some(cert)) => Anchor::Exactly(cert),
            (None, None) => Anchor::System,
        };
        let own = cert.clone().zip(key.clone()).or(files.own);
        let trust = place.is_tls.then_some(Trust::new(anchor, own));
        let variable = std::env::var("TANDEM_TOKEN").ok().filter(|token| !token.is_empty());
        let token = match (token_file, variable, &files.token_file) {
            (Some(file), ..) => Some(token_of(file)?),
            (None, Some(token), _) => Some(token.trim().to_owned()),
            (None, None, Some(file)) => Some(token_of(file)?),
            (None, None, None) => None,
        };
        Ok(Surface(Server { host: place.host, port: place.port, trust, token }))
    }
}

fn token_of(file: &Path) -> Result<String, Failure> {
    let remedy = "give a file with a token, by --token-file";
    let fault = |fault| Failure::new(format!("{}: can't read it: {fault}: {remedy}", file.display()));
    let token = std::fs::read_to_string(file).map_err(fault)?;
    match token.trim() {
        token if !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic()) => Ok(token.to_owned()),
        _ => Err(Failure::new(format!("{}: it holds no token: {remedy}", file.display()))),
    }
}

/// Where it is, its certificate, and what it is asked with.
fn configured(file: &Path) -> Result<(Place, Option<PathBuf>, ClientFiles), Failure> {
    let remedy = "give the node's address with --http";
    let config = Config::load(file).map_err(|fault| Failure::new(format!("{fault}\nor {remedy}")))?;
    let HttpConfig { listen, tls, client, .. } = config.http;
    match listen {
        Some(address) if address.port() != 0 => {
            let place = Place { is_tls: tls.is_some(), ..reachable(address).into() };
            Ok((place, tls.map(|files| files.cert), client))
        }
        Some(_) => Err(Failure::new(format!("{}: http.listen has no port of its own: {remedy}", file.display()))),
        None => Err(Failure::new(format!("{}: http.listen is \"off\": turn it on, or {remedy}", file.display()))),
    }
}

/// Who listens on all addresses is reached at this machine's own.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

impl Surface {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Told<T>, Failure> {
        self.ask(Request { method: "GET", path, kind: JSON, body: Vec::new() }).await
    }

    /// Whether the node can take calls, and what is wrong: a no is an answer too.
    pub(super) async fn ready(&self) -> Result<Told<Readiness>, Failure> {
        let answer = self.answer(Request { method: "GET", path: "/ready", kind: JSON, body: Vec::new() }).await?;
        match answer.status {
            // A surface that is too slow says so in other words.
            503 if serde_json::from_slice::<Readiness>(&answer.body).is_ok() => {
                self.read(&Answer { status: 200, ..answer })
            }
            _ => self.read(&answer),
        }
    }

    /// That the node answers at all.
    pub(super) async fn live(&self) -> Result<(), Failure> {
        let answer = self.answer(Request { method: "GET", path: "/live", kind: JSON, body: Vec::new() }).await?;
        match answer.status {
            200 => Ok(()),
            status => Err(self.refused(status, &String::from_utf8_lossy(&answer.body))),
        }
    }

    /// What may not be there.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<Told<T>>, Failure> {
        let answer = self.answer(Request { method: "GET", path, kind: JSON, body: Vec::new() }).await?;
        if answer.status == 404 { Ok(None) } else { self.read(&answer).map(Some) }
    }

    /// `hint` knows what to do about a refusal with that status.
    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        json: Vec<u8>,
        hint: impl Fn(u16) -> Option<&'static str>,
    ) -> Result<Told<T>, Failure> {
        let answer = self.answer(Request { method: "PUT", path, kind: JSON, body: json }).await?;
        self.read(&answer).map_err(|Failure { status, text }| match hint(answer.status) {
            Some(hint) => Failure { status, text: format!("{text}: {hint}") },
            None => Failure { status, text },
        })
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<Told<T>, Failure> {
        self.ask(Request { method: "POST", path, kind, body }).await
    }

    /// What the node tells live, from after the event with that id on.
    pub(super) async fn listen(&self, last: Option<&str>) -> Result<Stream, Failure> {
        match listen(&self.0, "/stream", last, PATIENCE).await {
            Ok(stream) => Ok(stream),
            Err(ClientError::Refused { status, text, .. }) => Err(self.refused(status, &text)),
            Err(fault) => Err(no_answer(&fault)),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<Told<T>, Failure> {
        self.read(&self.answer(request).await?)
    }

    async fn answer(&self, request: Request<'_>) -> Result<Answer, Failure> {
        ask(&self.0, request, PATIENCE).await.map_err(|fault| no_answer(&fault))
    }

    fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<Told<T>, Failure> {
        let json = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status == 200 {
            return match serde_json::from_str(&json) {
                Ok(said) => Ok(Told { json, said }),
                Err(fault) => Err(self.is_no_node(&fault.to_string())),
            };
        }
        Err(self.refused(answer.status, &json))
    }

    fn refused(&self, status: u16, json: &str) -> Failure {
        match serde_json::from_str::<Refusal>(json) {
            Ok(Refusal { error, .. }) if status == 401 => {
                let remedy = "give a token with --token-file or TANDEM_TOKEN";
                Failure::new(format!("{} does not know who asks: {error}\n  {remedy}", self.0))
            }
            Ok(Refusal { error, faults }) => {
                Failure::new(std::iter::once(error).chain(faults).collect::<Vec<_>>().join("\n  "))
            }
            Err(_) => self.is_no_node(&format!("status {status}")),
        }
    }

    fn is_no_node(&self, fault: &str) -> Failure {
        Failure::new(format!("{} answers, but not as this version's node ({fault}): check --http", self.0))
    }
}

fn no_answer(fault: &ClientError) -> Failure {
    Failure::new(match fault {
        ClientError::Tls { .. } => format!("{fault}: is this the node? Its authority is given with --ca"),
        fault => format!("{fault}: is `tandem run` there? Else give its address with --http"),
    })
}

/// The set of that number or name.
pub(super) fn find_set<'s>(sets: &'s [SetReport], wanted: &str) -> Result<&'s SetReport, Failure> {
    let number = sets.iter().find(|set| set.set.to_string() == wanted);
    let mut named = sets.iter().filter(|set| set.name == wanted && !wanted.is_empty());
    match (number, named.next(), named.next()) {
        (Some(set), ..) | (None, Some(set), None) => Ok(set),
        (None, Some(_), Some(_)) => Err(Failure::new(format!("several sets are named {wanted}: give the number"))),
        (None, None, _) => {
            let there: Vec<_> = sets.iter().map(set_title).collect();
            Err(Failure::new(format!("no set {wanted}: there are {}", some_of(&there))))
        }
    }
}

/// A set for people.
pub(super) fn set_title(set: &SetReport) -> String {
    title(set.set, &set.name)
}

pub(super) fn title(set: u32, name: &str) -> String {
    if name.is_empty() { set.to_string() } else { format!("{set} ({name})") }
}

/// The URI of the set's destination that is meant: by its URI, else by its host and port, else by any part that only one
/// has.
pub(super) fn find_uri(set: &SetReport, wanted: &str) -> Result<String, Failure> {
    let host_port = |one: &DestinationReport| {
        let uri = one.uri.split_once(':').map_or(one.uri.as_str(), |(_, rest)| rest);
        let uri = uri.split_once('@').map_or(uri, |(_, host)| host);
        uri.split([';', '?']).next() == Some(wanted)
    };
    let address = |one: &DestinationReport| one.address.is_some_and(|address| address.to_string() == wanted);
    let part = |one: &DestinationReport| {
        one.uri.contains(wanted) || one.address.is_some_and(|address| address.to_string().contains(wanted))
    };
    let uris = |is_meant: &dyn Fn(&DestinationReport) -> bool| {
        let mut uris: Vec<_> = set.destinations.iter().filter(|one| is_meant(one)).map(|one| one.uri.clone()).collect();
        uris.dedup();
        uris
    };
    let exact = |one: &DestinationReport| host_port(one) || address(one);
    let tries = [uris(&|one| one.uri == wanted), uris(&exact), uris(&part)];
    match tries.iter().find(|uris| !uris.is_empty()).map(Vec::as_slice) {
        Some([uri]) => Ok(uri.clone()),
        Some(several) => {
            let several = some_of(several);
            Err(Failure::new(format!("{wanted} may be each of {several}: give more of it")))
        }
        None => {
            let there = some_of(&uris(&|_| true));
            Err(Failure::new(format!("set {} has no destination {wanted}: it has {there}", set_title(set))))
        }
    }
}

fn some_of(all: &[String]) -> String {
    const NAMED: usize = 10;
    match all {
        [] => "none".to_owned(),
        all if all.len() > NAMED => format!("{} and {} more", all[..NAMED].join(", "), all.len() - NAMED),
        all => all.join(", "),
    }
}

/// The path of a destination.
pub(super) fn path_of(set: u32, uri: &str, what: &str) -> String {
    let uri: String = form_urlencoded::byte_serialize(uri.as_bytes()).collect();
    format!("/sets/{set}/destination{what}?uri={uri}")
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::{destination, set};
    use super::*;

    fn two() -> SetReport {
        set(vec![
            destination("sip:10.0.0.1:701;transport=tcp", "10.0.0.1:701"),
            destination("sip:10.0.0.1:7010", "10.0.0.1:7010"),
            destination("sip:tts.example.net", "10.0.0.9:5060"),
            destination("sip:tts.example.net", "10.0.0.8:5060"),
        ])
    }

    #[test]
    fn a_destination_is_found_by_uri_address_or_any_part_that_only_one_has() {
        for (wanted, uri) in [
            ("sip:10.0.0.1:7010", "sip:10.0.0.1:7010"),
            ("10.0.0.1:7010", "sip:10.0.0.1:7010"),
            // The other has it as a part only.
            ("10.0.0.1:701", "sip:10.0.0.1:701;transport=tcp"),
            ("7010", "sip:10.0.0.1:7010"),
            ("tcp", "sip:10.0.0.1:701;transport=tcp"),
            ("tts", "sip:tts.example.net"),
            ("10.0.0.8:5060", "sip:tts.example.net"),
        ] {
            assert_eq!(find_uri(&two(), wanted).map_err(|failure| failure.text), Ok(uri.to_owned()), "{wanted}");
        }
    }

    #[test]
    fn an_unknown_or_ambiguous_destination_is_told_what_is_there() {
        let failure = |wanted| find_uri(&two(), wanted).expect_err(wanted);
        let all = "sip:10.0.0.1:701;transport=tcp, sip:10.0.0.1:7010";
        assert_eq!(failure("10.0.0.1").text, format!("10.0.0.1 may be each of {all}: give more of it"));
        let none = failure("10.9");
        let expected = format!("set 19 (tts) has no destination 10.9: it has {all}, sip:tts.example.net");
        assert_eq!((none.status, none.text), (1, expected));
    }

    #[test]
    fn a_set_is_found_by_number_or_name() {
        let sets = [set(Vec::new()), SetReport { set: 20, name: String::new(), ..set(Vec::new()) }];
        let found = |wanted| find_set(&sets, wanted).map(|set| set.set).map_err(|failure| failure.text);
        assert_eq!((found("19"), found("tts"), found("20")), (Ok(19), Ok(19), Ok(20)));
        assert_eq!(found("21"), Err("no set 21: there are 19 (tts), 20".to_owned()));
        assert_eq!(found(""), Err("no set : there are 19 (tts), 20".to_owned()));
    }

    #[test]
    fn a_place_is_an_address_or_a_url_and_a_host_may_be_a_name() {
        let place = |is_tls, host: &str, port| Ok(Place { is_tls, host: host.to_owned(), port });
        for (text, expected) in [
            ("127.0.0.1:9060", place(false, "127.0.0.1", 9060)),
            ("[::1]:9060", place(false, "::1", 9060)),
            ("tandem-a:9060", place(false, "tandem-a", 9060)),
            ("http://10.0.0.1:9060/", place(false, "10.0.0.1", 9060)),
            ("https://tandem-a.example.com", place(true, "tandem-a.example.com", 443)),
            ("https://[2001:db8::1]", place(true, "2001:db8::1", 443)),
        ] {
            assert_eq!(Place::parse(text), expected, "{text}");
        }
        for text in ["", "9060", "10.0.0.1", ":9060", "a:0", "a:65536", "::1:9060", "ftp://a:1", "https://a/b", "[a]:1"]
        {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (listen, asked) in [("0.0.0.0:9060", "127.0.0.1:9060"), ("[::]:1", "[::1]:1"), ("10.0.0.1:2", "10.0.0.1:2")]
        {
            let listen = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), asked);
        }
    }

    #[test]
    fn a_uri_is_encoded_for_its_path() {
        let path = path_of(19, "sip:+49@10.0.0.1:7010;transport=tcp", "/order");
        assert_eq!(path, "/sets/19/destination/order?uri=sip%3A%2B49%4010.0.0.1%3A7010%3Btransport%3Dtcp");
    }
}
