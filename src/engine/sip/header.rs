//! Header names: the ones that a proxy reads, and the compact forms (RFC 3261 sections 7.3.3 and 20).

/// A header that the proxy reads; everything else is `Other` and only passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// Via, v
    Via,
    /// From, f
    From,
    /// To, t
    To,
    /// Call-ID, i
    CallId,
    /// CSeq
    CSeq,
    /// Max-Forwards
    MaxForwards,
    /// Route
    Route,
    /// Record-Route
    RecordRoute,
    /// Content-Length, l
    ContentLength,
    /// Proxy-Require
    ProxyRequire,
    /// User-Agent
    UserAgent,
    /// Any other.
    Other,
}

impl Name {
    /// The header of that name, long or compact, in any case.
    pub(crate) fn parse(name: &[u8]) -> Name {
        // By length first: most headers of a message are none of ours, and this tells without comparing.
        match name.len() {
            1 => match name[0].to_ascii_lowercase() {
                b'v' => Name::Via,
                b'f' => Name::From,
                b't' => Name::To,
                b'i' => Name::CallId,
                b'l' => Name::ContentLength,
                _ => Name::Other,
            },
            2 if name.eq_ignore_ascii_case(b"to") => Name::To,
            3 if name.eq_ignore_ascii_case(b"via") => Name::Via,
            4 if name.eq_ignore_ascii_case(b"from") => Name::From,
            4 if name.eq_ignore_ascii_case(b"cseq") => Name::CSeq,
            5 if name.eq_ignore_ascii_case(b"route") => Name::Route,
            7 if name.eq_ignore_ascii_case(b"call-id") => Name::CallId,
            10 if name.eq_ignore_ascii_case(b"user-agent") => Name::UserAgent,
            12 if name.eq_ignore_ascii_case(b"max-forwards") => Name::MaxForwards,
            12 if name.eq_ignore_ascii_case(b"record-route") => Name::RecordRoute,
            13 if name.eq_ignore_ascii_case(b"proxy-require") => Name::ProxyRequire,
            14 if name.eq_ignore_ascii_case(b"content-length") => Name::ContentLength,
            _ => Name::Other,
        }
    }
}

/// The long form of a compact name; other names stay. The registry of compact forms is IANA's.
pub(crate) fn long_form(name: &[u8]) -> &[u8] {
    let &[letter] = name else { return name };
    match letter.to_ascii_lowercase() {
        b'a' => b"Accept-Contact",
        b'b' => b"Referred-By",
        b'c' => b"Content-Type",
        b'd' => b"Request-Disposition",
        b'e' => b"Content-Encoding",
        b'f' => b"From",
        b'i' => b"Call-ID",
        b'j' => b"Reject-Contact",
        b'k' => b"Supported",
        b'l' => b"Content-Length",
        b'm' => b"Contact",
        b'n' => b"Identity-Info",
        b'o' => b"Event",
        b'r' => b"Refer-To",
        b's' => b"Subject",
        b't' => b"To",
        b'u' => b"Allow-Events",
        b'v' => b"Via",
        b'x' => b"Session-Expires",
        b'y' => b"Identity",
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_and_long_names_are_the_same_in_any_case() {
        assert_eq!(Name::parse(b"V"), Name::Via);
        assert_eq!(Name::parse(b"vIA"), Name::Via);
        assert_eq!(Name::parse(b"RECORD-route"), Name::RecordRoute);
        assert_eq!(Name::parse(b"m"), Name::Other);
        assert_eq!(long_form(b"M"), b"Contact");
        assert_eq!(long_form(b"Event"), b"Event");
    }
}
