//! How single values are written: durations, listeners, replies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::engine::flow::{Cidr, HostPort, Transport};
use crate::engine::sip::Host;

/// Reads a length of time: a number and one of `ms`, `s`, `m`, `h`.
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let remedy = || "give a number and a unit: 500ms, 5s, 3m or 12h".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| remedy())?;
    let milliseconds = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(remedy()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(remedy)
}

/// A length of time of at least `least`.
pub(super) fn duration_from(least: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| match duration(text)? {
        length if length >= least => Ok(length),
        _ => Err(format!("give {least:?} or more")),
    }
}

/// A length of time within bounds.
pub(super) fn duration_within(bounds: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| match duration(text)? {
        length if bounds.contains(&length) => Ok(length),
        _ => Err(format!("give {:?} to {:?}", bounds.start(), bounds.end())),
    }
}

/// One of some words.
pub(super) fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => Err(format!("give one of {}", words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "))),
    }
}

/// A listener's address: `udp:10.0.0.1:5060`, `tcp:[2001:db8::1]:5060`, `udp:*:5060` for every address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    /// The transport.
    pub(super) transport: Transport,
    /// The address; unspecified is a wildcard.
    pub(super) address: SocketAddr,
}

/// Reads a [`Bind`].
pub(super) fn bind(text: &str) -> Result<Bind, String> {
    let remedy = "give transport:address:port, as udp:10.0.0.1:5060 or udp:[2001:db8::1]:5060";
    let (transport, address) = text.split_once(':').ok_or(remedy)?;
    let transport = match Transport::from_name(transport.as_bytes()) {
        Some(spoken @ (Transport::Udp | Transport::Tcp)) => spoken,
        Some(Transport::Tls) => return Err("tls is not spoken by this version: give udp:... or tcp:...".into()),
        None => return Err(remedy.into()),
    };
    let address = address.strip_prefix("*:").map_or_else(|| address.to_owned(), |port| format!("0.0.0.0:{port}"));
    let address: SocketAddr = address.parse().map_err(|_| remedy)?;
    if address.ip().is_multicast() || address.ip() == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err("give an address of one machine, as udp:10.0.0.1:5060".into());
    }
    Ok(Bind { transport, address })
}

/// What [`network`] reads.
pub(super) const NETWORK: &str = "a network or address";

/// A network, or one address.
pub(super) fn network(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|_| "give an address or a network, as 10.0.0.0/8 or 2001:db8::/32".to_owned())
}

/// What stands in Via and Record-Route: a host or address, with or without a port.
pub(super) fn advertise(text: &str, port: u16) -> Result<HostPort, String> {
    let remedy = "give a host or address, with or without port, as sip.example.com or 203.0.113.5:5060";
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port).into());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address.into());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, digits)) if !text.ends_with(']') => (host, digits.parse().map_err(|_| remedy)?),
        _ => (text, port),
    };
    match Host::parse(host.as_bytes()) {
        Some(_) => Ok(HostPort { host: host.to_owned(), port }),
        None => Err(remedy.into()),
    }
}

/// A reason phrase: one line of text.
pub(super) fn reason(text: &str) -> Result<String, String> {
    match text.chars().any(char::is_control) {
        true => Err("give one line without control characters".into()),
        false => Ok(text.to_owned()),
    }
}

/// A name: one line of text that is not empty.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("give a name of one or more letters".into()) } else { reason(text) }
}

/// A `token` of RFC 3261, as methods and header names are.
pub(super) fn token(text: &str) -> Result<String, String> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
    match !text.is_empty() && text.chars().all(is_token) {
        true => Ok(text.to_owned()),
        false => Err("give letters, digits and -.!%*_+`'~ only".into()),
    }
}

/// URI parameters for Record-Route: `nat=yes;x`.
pub(super) fn uri_params(text: &str) -> Result<String, String> {
    let text = text.trim_matches(';');
    let fine = text.split(';').all(|param| match param.split_once('=') {
        Some((name, value)) => token(name).is_ok() && token(value).is_ok(),
        None => token(param).is_ok(),
    });
    let taken = text.split(';').any(|param| {
        let name = param.split('=').next().unwrap_or_default();
        ["lr", "tdm", "transport", "maddr"].iter().any(|own| own.eq_ignore_ascii_case(name))
    });
    match (text.is_empty() || fine, taken) {
        (true, false) => Ok(text.to_owned()),
        (true, true) => Err("lr, tdm, transport and maddr are not for you to set: leave them out".into()),
        (false, _) => Err("give parameters as nat=yes or a=1;b=2".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("12h"), Ok(Duration::from_secs(43_200)));
        for text in ["", "5", "s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn listeners_name_transport_address_and_port() {
        assert_eq!(bind("udp:[::1]:5060").map(|bind| bind.address), Ok("[::1]:5060".parse().expect("an address")));
        assert_eq!(bind("UDP:*:5060").map(|bind| bind.address.ip().is_unspecified()), Ok(true));
        assert_eq!(bind("tcp:10.0.0.1:5060").map(|bind| bind.transport), Ok(Transport::Tcp));
        for text in ["", "udp", "tls:1.2.3.4:5061", "udp:1.2.3.4", "1.2.3.4:5060", "sctp:1.2.3.4:5060", "udp:host:5060"]
        {
            assert!(bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_advertised_name_may_leave_its_port_out() {
        let shown = |text| advertise(text, 8060).map(|one| one.to_string());
        assert_eq!(shown("sip.example.com"), Ok("sip.example.com:8060".into()));
        assert_eq!(shown("sip.example.com:5060"), Ok("sip.example.com:5060".into()));
        assert_eq!(shown("2001:db8::1"), Ok("[2001:db8::1]:8060".into()));
        assert_eq!(shown("[2001:db8::1]:1"), Ok("[2001:db8::1]:1".into()));
        assert!(advertise("sip example", 1).is_err());
    }

    #[test]
    fn record_route_parameters_are_checked() {
        assert_eq!(uri_params(";nat=yes"), Ok("nat=yes".into()));
        assert_eq!(uri_params(""), Ok(String::new()));
        for text in ["nat=y es", "a;;b", "lr", "x>", "a=b\r\n"] {
            assert!(uri_params(text).is_err(), "{text}");
        }
    }
}
