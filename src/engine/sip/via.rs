//! Via values: RFC 3261 section 20.42, with `rport` of RFC 3581.

use std::net::{IpAddr, SocketAddr};

use super::lex::{self, Params};
use super::token::MAGIC;
use super::uri::{self, Host};
use crate::engine::flow::Transport;

/// One Via value looked at in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// The whole value, trimmed.
    pub raw: &'a [u8],
    /// The transport's name as it stands: `UDP`.
    pub transport: &'a [u8],
    /// The host of sent-by.
    pub host: Host<'a>,
    /// The port of sent-by, if given.
    pub port: Option<u16>,
    /// All parameters.
    pub params: Params<'a>,
    /// The `branch` parameter.
    pub branch: Option<&'a [u8]>,
    /// The `received` parameter as it stands.
    received: Option<&'a [u8]>,
    /// The `rport` parameter as it stands; "" without a value.
    rport: Option<&'a [u8]>,
}

impl<'a> Via<'a> {
    /// Looks at one value; none if it does not follow the grammar.
    pub fn parse(raw: &'a [u8]) -> Option<Self> {
        let (name, rest) = split_slash(raw)?;
        let (version, rest) = split_slash(rest)?;
        // A version of another SIP is for the start line to refuse.
        if !name.eq_ignore_ascii_case(b"SIP") || !lex::all_token(version) {
            return None;
        }
        let rest = lex::trim(rest);
        let end = rest.iter().position(|&b| lex::is_lws(b))?;
        let (transport, rest) = rest.split_at(end);
        let (sent_by, params) = rest.split_at(memchr::memchr(b';', rest).unwrap_or(rest.len()));
        let (host, port) = uri::host_port_parts(lex::trim(sent_by)).ok()?;
        let params = Params(params);
        let (mut branch, mut received, mut rport) = (None, None, None);
        for (name, value) in params {
            let place = match name.len() {
                5 if name.eq_ignore_ascii_case(b"rport") => &mut rport,
                6 if name.eq_ignore_ascii_case(b"branch") => &mut branch,
                8 if name.eq_ignore_ascii_case(b"received") => &mut received,
                _ => continue,
            };
            place.get_or_insert(value.unwrap_or_default());
        }
        lex::all_token(transport).then_some(Via { raw, transport, host, port, params, branch, received, rport })
    }

    /// The `received` address, if it is one (IPv6 with or without brackets).
    pub fn received(&self) -> Option<IpAddr> {
        let text = std::str::from_utf8(self.received?).ok()?;
        text.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// The `rport` parameter: none if absent, 0 if without a value.
    pub fn rport(&self) -> Option<u16> {
        Some(lex::number(self.rport?).and_then(|n| u16::try_from(n).ok()).unwrap_or(0))
    }

    /// Whether there is a `received` parameter, whatever it says.
    pub(crate) fn has_received(&self) -> bool {
        self.received.is_some()
    }

    /// The transport, if we know it.
    pub fn known_transport(&self) -> Option<Transport> {
        Transport::from_name(self.transport)
    }

    /// The sent-by port, else the transport's own (RFC 3261 section 18.2.2).
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.known_transport().unwrap_or(Transport::Udp).default_port())
    }

    /// What tells its sender's transactions from all others (RFC 3261 section 17.2.3): the branch, and all before the
    /// parameters; none if the branch is not unique, as RFC 2543's need not be.
    pub(crate) fn names_transaction(&self) -> Option<(&'a [u8], &'a [u8])> {
        // The cookie alone is no unique branch.
        let branch = self.branch.filter(|branch| branch.starts_with(MAGIC) && branch.len() > MAGIC.len())?;
        Some((branch, &self.raw[..self.raw.len() - self.params.as_bytes().len()]))
    }

    /// Where a response to this Via goes (RFC 3261 section 18.2.2, RFC 3581 section 4); none if only a name tells.
    pub fn response_address(&self) -> Option<SocketAddr> {
        let ip = match (self.received(), self.host) {
            (Some(received), _) => received,
            (None, Host::Ip(ip)) => ip,
            (None, Host::Name(_)) => return None,
        };
        let port = match self.rport() {
            Some(port) if port > 0 => port,
            Some(_) | None => self.port_or_default(),
        };
        Some(SocketAddr::new(ip, port))
    }
}

/// Splits at the first slash, both parts trimmed.
fn split_slash(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = memchr::memchr(b'/', text)?;
    Some((lex::trim(&text[..slash]), lex::trim(&text[slash + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_may_stand_nearly_everywhere() {
        let via = Via::parse(b"SIP  /    2.0   / UDP  192.168.255.111 : 5070  ; branch=\r\n z9hG4bK30239 ;rport")
            .expect("valid");
        assert_eq!(via.known_transport(), Some(Transport::Udp));
        assert_eq!(via.branch, Some(&b"z9hG4bK30239"[..]));
        assert_eq!(via.rport(), Some(0));
        assert_eq!(via.response_address(), Some("192.168.255.111:5070".parse().expect("an address")));
    }

    #[test]
    fn a_response_goes_to_received_and_rport() {
        let via = Via::parse(b"SIP/2.0/UDP host.example:5070;received=192.0.2.1;rport=9;branch=x").expect("valid");
        assert_eq!(via.response_address(), Some("192.0.2.1:9".parse().expect("an address")));
        let via = Via::parse(b"SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=x").expect("valid");
        assert_eq!(via.response_address(), Some("[2001:db8::9:255]:5060".parse().expect("an address")));
        assert_eq!(Via::parse(b"SIP/2.0/TLS h").expect("valid").response_address(), None);
    }

    #[test]
    fn what_is_no_via_is_refused() {
        for text in
            ["", "SIP/2.0/UDP", "SIP//UDP h", "HTTP/2.0/UDP h", "SIP/2.0/UDP h:x", "SIP/2.0/U@P h", "SIP/2.0/UDP ;b"]
        {
            assert_eq!(Via::parse(text.as_bytes()), None, "{text}");
        }
    }
}
