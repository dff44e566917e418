//! What we look at in a session description (RFC 8866): its m= lines, no other.

/// The m= lines, without their line ends.
pub fn media_lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| line.starts_with(b"m="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_media_lines_are_seen() {
        let body = b"v=0\r\nm=application 9 TCP/MRCPv2 1\r\na=resource:speechsynth\r\nm=audio 4000 RTP/AVP 0\n";
        let lines: Vec<_> = media_lines(body).collect();
        assert_eq!(lines, [&b"m=application 9 TCP/MRCPv2 1"[..], b"m=audio 4000 RTP/AVP 0"]);
    }
}
