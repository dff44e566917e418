//! Where a webhook is: `http://host:port/path`, or `https://`.

use std::fmt;
use std::net::IpAddr;

/// A URL that can be posted to. Its path and its query, where many keep a secret, are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether by TLS.
    pub(super) tls: bool,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// From its slash, with the query.
    path: String,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        const REMEDY: &str = "give http://host:port/path or https://..., as http://10.0.0.9:8080/tandem";
        let (scheme, rest) = text.split_once("://").ok_or(REMEDY)?;
        let (tls, usual) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(REMEDY.into()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| REMEDY)?),
            _ => (authority, usual),
        };
        let is_of_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let is_host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(Some(host)) => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()),
            Some(None) => false,
            None => !host.is_empty() && host.bytes().all(is_of_name),
        };
        let is_of_path = |b: u8| b.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&b);
        if !is_host || port == 0 || !path.bytes().all(is_of_path) {
            return Err(REMEDY.into());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Url { tls, host, port, path: format!("{slash}{path}") })
    }

    /// The path, from its slash, with the query.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Url {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (if self.tls { "https" } else { "http" }, &self.host);
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{host}{close}:{}", self.port)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_and_path_are_taken_apart() {
        for (text, whole, path) in [
            ("http://10.0.0.9:8080/tandem?x=y", "http://10.0.0.9:8080", "/tandem?x=y"),
            ("http://noc.example.com", "http://noc.example.com:80", "/"),
            ("https://noc.example.com", "https://noc.example.com:443", "/"),
            ("http://[::1]:8080/a/b", "http://[::1]:8080", "/a/b"),
            ("http://[::1]/", "http://[::1]:80", "/"),
            ("http://h?x", "http://h:80", "/?x"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), url.path()), (whole, path));
            assert_eq!(format!("{url:?}"), format!("Url({whole})"));
        }
    }

    #[test]
    fn what_is_no_url_is_told_with_what_to_write() {
        for text in [
            "",
            "10.0.0.9:8080",
            "ftp://h/",
            "http://",
            "http:///x",
            "http://h:0/",
            "http://h:x/",
            "http://u@h/",
            "http://[::1/",
        ] {
            assert!(Url::parse(text).expect_err(text).starts_with("give http://host"), "{text}");
        }
        assert!(Url::parse("http://h/a b").is_err() && Url::parse("http://h/#x").is_err());
    }
}
