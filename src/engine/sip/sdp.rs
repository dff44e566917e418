//! What we look at in a session description (RFC 8866): its m= lines, no other.

/// The m= lines, without their line ends.
pub fn media_lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| line.starts_with(b"m="))
}

/// The port where a server takes MRCPv2: of its first `m=application PORT TCP/MRCPv2` that is not refused (RFC 6787 section
/// 4.2; port 0 refuses).
pub fn mrcp_port(body: &[u8]) -> Option<u16> {
    media_lines(body).find_map(|line| {
        let mut words = line.strip_prefix(b"m=application ")?.split(|&b| b == b' ').filter(|word| !word.is_empty());
        let port: u16 = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let mrcp = words.next().is_some_and(|word| {
            word.eq_ignore_ascii_case(b"TCP/MRCPv2") || word.eq_ignore_ascii_case(b"TCP/TLS/MRCPv2")
        });
        (mrcp && port > 0).then_some(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mrcp_port_is_that_of_the_first_channel_which_is_not_refused() {
        assert_eq!(mrcp_port(b"m=application 0 TCP/MRCPv2 1\r\nm=application 1544 TCP/MRCPv2 1\r\n"), Some(1544));
        assert_eq!(mrcp_port(b"m=audio 4000 RTP/AVP 0\r\nm=application 9 UDP/BFCP *\r\n"), None);
        assert_eq!(mrcp_port(b"m=application x TCP/MRCPv2 1"), None);
    }

    #[test]
    fn only_media_lines_are_seen() {
        let body = b"v=0\r\nm=application 9 TCP/MRCPv2 1\r\na=resource:speechsynth\r\nm=audio 4000 RTP/AVP 0\n";
        let lines: Vec<_> = media_lines(body).collect();
        assert_eq!(lines, [&b"m=application 9 TCP/MRCPv2 1"[..], b"m=audio 4000 RTP/AVP 0"]);
    }
}
