//! What peers write, as people may read it.

/// A peer's text for people: what is no printable ASCII is escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    // What `escape_ascii` leaves alone, copied at once: that is nearly all there is.
    let plain = |&byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\');
    let length = bytes.iter().position(|byte| !plain(byte)).unwrap_or(bytes.len());
    let (head, tail) = bytes.split_at(length);
    let mut text = String::with_capacity(bytes.len());
    text.push_str(std::str::from_utf8(head).expect("ASCII"));
    text.extend(tail.escape_ascii().map(char::from));
    text
}

/// The same of so many bytes at most: a peer may write as much as it likes, and what is told must not grow with it.
pub(crate) fn printable_start(bytes: &[u8], most: usize) -> String {
    match bytes.get(..most) {
        Some(start) if bytes.len() > most => printable(start) + "...",
        _ => printable(bytes),
    }
}
