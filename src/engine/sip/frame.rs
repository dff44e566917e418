//! What stands between messages: keep-alives (RFC 5626 section 4.4.1).

/// A datagram, or the rest of a stream, that holds nothing but line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// CR LF CR LF: to be answered by [`PONG`].
    Ping,
    /// An answer to one, or less: to be ignored, so that two of us never ping each other for ever.
    Quiet,
}

/// The answer to a ping.
pub const PONG: &[u8] = b"\r\n";

/// The keep-alive that the bytes are, if they hold nothing but line ends.
pub fn keep_alive(bytes: &[u8]) -> Option<KeepAlive> {
    if !bytes.iter().all(|b| matches!(b, b'\r' | b'\n')) {
        return None;
    }
    Some(if bytes.starts_with(b"\r\n\r\n") { KeepAlive::Ping } else { KeepAlive::Quiet })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_double_line_end_asks_for_an_answer() {
        assert_eq!(keep_alive(b"\r\n\r\n"), Some(KeepAlive::Ping));
        assert_eq!(keep_alive(PONG), Some(KeepAlive::Quiet));
        assert_eq!(keep_alive(b""), Some(KeepAlive::Quiet));
        assert_eq!(keep_alive(b"TEST"), None);
    }
}
