//! Where a webhook is: `http://host:port/path`.

use std::fmt;
use std::net::IpAddr;

/// A URL that can be posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port.
    authority: String,
    /// From its slash, with the query.
    path: String,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        const REMEDY: &str = "give http://host:port/path, as http://10.0.0.9:8080/tandem";
        let (scheme, rest) = text.split_once("://").ok_or(REMEDY)?;
        match scheme {
            "http" => {}
            "https" => {
                return Err("https is not spoken by this version: give http://..., as to a proxy beside it".into());
            }
            _ => return Err(REMEDY.into()),
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| REMEDY)?),
            _ => (authority, 80),
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
        Ok(Url { authority: format!("{host}:{port}"), path: format!("{slash}{path}") })
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path, from its slash, with the query.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Url {
    /// Without the query, which may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path.split('?').next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_and_path_are_taken_apart() {
        for (text, authority, path) in [
            ("http://10.0.0.9:8080/tandem?x=y", "10.0.0.9:8080", "/tandem?x=y"),
            ("http://noc.example.com", "noc.example.com:80", "/"),
            ("http://[::1]:8080/a/b", "[::1]:8080", "/a/b"),
            ("http://[::1]/", "[::1]:80", "/"),
            ("http://h?x", "h:80", "/?x"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!((url.authority(), url.path()), (authority, path));
        }
        assert_eq!(Url::parse("http://h/x?secret=1").expect("a URL").to_string(), "http://h:80/x");
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
        assert!(Url::parse("https://h/x").expect_err("no TLS").starts_with("https is not spoken"));
    }
}
