//! URIs: RFC 3261 section 19.1 for SIP and SIPS, opaque text for the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use super::lex::{self, Class, Params};
use crate::engine::flow::Transport;

/// A URI looked at in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// Which kind it is.
    pub scheme: Scheme<'a>,
    /// The user part as it stands, with escapes and password; none for other schemes.
    pub user: Option<&'a [u8]>,
    /// The host; for other schemes all that follows the colon.
    pub host: Host<'a>,
    /// The port, if one is given.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'a>,
    /// What follows the question mark; "" if nothing does.
    pub headers: &'a [u8],
}

/// A URI's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// Any other.
    Other(&'a [u8]),
}

/// A host: an address or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// IPv4, or IPv6 in brackets.
    Ip(IpAddr),
    /// A name as it stands.
    Name(&'a [u8]),
}

/// What makes a text no URI.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadUri {
    /// No `scheme:` at its start.
    #[error("no scheme: begin with sip:")]
    Scheme,
    /// White space, a control character or a delimiter that a URI can't hold.
    #[error("a character that a URI can't hold")]
    Character,
    /// The host is empty or no address and no name.
    #[error("no valid host")]
    Host,
    /// The port is no number up to 65535.
    #[error("no valid port: give 1 to 65535")]
    Port,
}

static HOST: Class = Class::alphanumeric_and(b"-._");

/// What a URI can hold: no white space, control character or delimiter. Bytes beyond ASCII are for others to judge.
static URI: Class = Class::all_but(b"<>\"\x7f", b' ');

impl<'a> Uri<'a> {
    /// Looks at a URI without angle brackets.
    ///
    /// # Errors
    /// [`BadUri`] when a proxy could not tell where it leads.
    pub fn parse(text: &'a [u8]) -> Result<Self, BadUri> {
        if !URI.has_all(text) {
            return Err(BadUri::Character);
        }
        let colon = memchr::memchr(b':', text).ok_or(BadUri::Scheme)?;
        let scheme = Scheme::parse(&text[..colon]).ok_or(BadUri::Scheme)?;
        let rest = &text[colon + 1..];
        match scheme {
            Scheme::Sip | Scheme::Sips => Self::parse_sip(scheme, rest),
            Scheme::Tel | Scheme::Other(_) if rest.is_empty() => Err(BadUri::Host),
            Scheme::Tel | Scheme::Other(_) => Ok(Uri {
                scheme,
                user: None,
                host: Host::Name(rest),
                port: None,
                params: Params::default(),
                headers: b"",
            }),
        }
    }

    fn parse_sip(scheme: Scheme<'a>, rest: &'a [u8]) -> Result<Self, BadUri> {
        let (user, rest) = match memchr::memchr(b'@', rest) {
            Some(0) => return Err(BadUri::Character),
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let (rest, headers) = match memchr::memchr(b'?', rest) {
            Some(mark) => (&rest[..mark], &rest[mark + 1..]),
            None => (rest, &b""[..]),
        };
        let (host_port, params) = rest.split_at(memchr::memchr(b';', rest).unwrap_or(rest.len()));
        let (host, port) = host_port_parts(host_port)?;
        if memchr::memchr(b'@', params).is_some() {
            return Err(BadUri::Character);
        }
        Ok(Uri { scheme, user, host, port, params: Params(params), headers })
    }

    /// The transport that the URI asks for: its parameter, else TLS for SIPS and UDP for SIP (RFC 3263 section 4.1
    /// without NAPTR); none for a transport that we do not know.
    pub fn transport(&self) -> Option<Transport> {
        match self.params.get(b"transport") {
            Some(name) => match Transport::from_name(name)? {
                Transport::Tcp if self.scheme == Scheme::Sips => Some(Transport::Tls),
                transport => Some(transport),
            },
            None if self.scheme == Scheme::Sips => Some(Transport::Tls),
            None => Some(Transport::Udp),
        }
    }

    /// The port, else its transport's own.
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.transport().unwrap_or(Transport::Udp).default_port())
    }

    /// Host and port as an address; none if the host is a name.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port_or_default())),
            Host::Name(_) => None,
        }
    }

    /// Whether it is a loose router's (RFC 3261 section 19.1.1).
    pub fn is_loose(&self) -> bool {
        self.params.get(b"lr").is_some()
    }
}

impl<'a> Scheme<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let valid = text.first()?.is_ascii_alphabetic()
            && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !valid {
            return None;
        }
        Some(if text.eq_ignore_ascii_case(b"sip") {
            Scheme::Sip
        } else if text.eq_ignore_ascii_case(b"sips") {
            Scheme::Sips
        } else if text.eq_ignore_ascii_case(b"tel") {
            Scheme::Tel
        } else {
            Scheme::Other(text)
        })
    }
}

impl<'a> Host<'a> {
    /// Looks at a host without port; IPv6 stands in brackets.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        if let [b'[', inner @ .., b']'] = text {
            let ip: Ipv6Addr = std::str::from_utf8(inner).ok()?.parse().ok()?;
            return Some(Host::Ip(ip.into()));
        }
        // A top label never begins with a digit (section 25.1), so digits and dots can only be an IPv4 address.
        if text.iter().all(|b| b.is_ascii_digit() || *b == b'.') {
            let ip: Ipv4Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
            return Some(Host::Ip(ip.into()));
        }
        HOST.has_all(text).then_some(Host::Name(text))
    }

    /// Whether both name the same host: addresses by value, names in any case.
    pub fn is(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Ip(a), Host::Ip(b)) => a == b,
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Host::Ip(_), Host::Name(_)) | (Host::Name(_), Host::Ip(_)) => false,
        }
    }
}

/// Splits `host[:port]`, white space around the colon allowed (as in a Via).
pub(crate) fn host_port_parts(text: &[u8]) -> Result<(Host<'_>, Option<u16>), BadUri> {
    let after_bracket = memchr::memchr(b']', text).map_or(0, |bracket| bracket + 1);
    let (host, port) = match memchr::memchr(b':', &text[after_bracket..]) {
        Some(colon) => (&text[..after_bracket + colon], Some(&text[after_bracket + colon + 1..])),
        None => (text, None),
    };
    let host = Host::parse(lex::trim(host)).ok_or(BadUri::Host)?;
    let port = match port {
        Some(digits) => Some(lex::number(lex::trim(digits)).and_then(|n| u16::try_from(n).ok()).ok_or(BadUri::Port)?),
        None => None,
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Uri<'_>, BadUri> {
        Uri::parse(text.as_bytes())
    }

    #[test]
    fn a_user_may_hold_what_looks_like_parameters() {
        let uri = parse("sip:user;par=u%40example.net@example.com:5070;lr;transport=TCP?a=b").expect("valid");
        assert_eq!(uri.user, Some(&b"user;par=u%40example.net"[..]));
        assert_eq!(uri.host, Host::Name(b"example.com"));
        assert_eq!((uri.port, uri.transport(), uri.is_loose()), (Some(5070), Some(Transport::Tcp), true));
        assert_eq!(uri.headers, b"a=b");
    }

    #[test]
    fn an_mrcp_uri_has_no_user() {
        let uri = parse("sip:10.129.39.88:7010").expect("valid");
        assert_eq!((uri.user, uri.address()), (None, Some("10.129.39.88:7010".parse().expect("an address"))));
    }

    #[test]
    fn ipv6_stands_in_brackets() {
        let uri = parse("sip:a@[2001:db8::1];lr").expect("valid");
        assert_eq!(uri.address(), Some("[2001:db8::1]:5060".parse().expect("an address")));
        assert_eq!(parse("sip:2001:db8::1"), Err(BadUri::Host));
    }

    #[test]
    fn other_schemes_are_kept_whole() {
        assert_eq!(parse("tel:+1-201-555-0123").expect("valid").scheme, Scheme::Tel);
        assert_eq!(parse("soap.beep://192.0.2.103:3002").expect("valid").scheme, Scheme::Other(b"soap.beep"));
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for (text, fault) in [
            ("", BadUri::Scheme),
            ("127.0.0.1", BadUri::Scheme),
            ("sip:", BadUri::Host),
            ("sip:a@", BadUri::Host),
            ("sip:@h", BadUri::Character),
            ("sip:a@b@c", BadUri::Host),
            ("sip:a b@h", BadUri::Character),
            ("sip:h:", BadUri::Port),
            ("sip:h:65536", BadUri::Port),
            ("sip:1.2.3", BadUri::Host),
            ("sip:[::1", BadUri::Host),
            ("<sip:h>", BadUri::Character),
        ] {
            assert_eq!(parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn sips_means_tls() {
        assert_eq!(parse("sips:h").map(|u| (u.transport(), u.port_or_default())), Ok((Some(Transport::Tls), 5061)));
        assert_eq!(parse("sip:h;transport=sctp").map(|u| u.transport()), Ok(None));
    }
}
