//! Methods: RFC 3261 section 7.1 and those of later RFCs.

/// A method (RFC 3261 section 7.1: names are case-sensitive).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method<'a> {
    /// INVITE
    Invite,
    /// ACK
    Ack,
    /// BYE
    Bye,
    /// CANCEL
    Cancel,
    /// OPTIONS
    Options,
    /// Any other.
    Other(&'a [u8]),
}

impl<'a> Method<'a> {
    /// The method of that name.
    pub(crate) fn parse(text: &'a [u8]) -> Self {
        match text {
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"OPTIONS" => Method::Options,
            other => Method::Other(other),
        }
    }

    /// Whether an RFC defines it (IANA's registry of SIP methods).
    pub fn is_defined(self) -> bool {
        match self {
            Method::Invite | Method::Ack | Method::Bye | Method::Cancel | Method::Options => true,
            Method::Other(name) => [
                &b"INFO"[..],
                b"MESSAGE",
                b"NOTIFY",
                b"PRACK",
                b"PUBLISH",
                b"REFER",
                b"REGISTER",
                b"SUBSCRIBE",
                b"UPDATE",
            ]
            .contains(&name),
        }
    }

    /// The method as it stands in a start line.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Method::Invite => b"INVITE",
            Method::Ack => b"ACK",
            Method::Bye => b"BYE",
            Method::Cancel => b"CANCEL",
            Method::Options => b"OPTIONS",
            Method::Other(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_case_sensitive() {
        assert_eq!(Method::parse(b"INVITE"), Method::Invite);
        assert_eq!(Method::parse(b"Invite"), Method::Other(b"Invite"));
        assert!(Method::parse(b"REGISTER").is_defined() && !Method::parse(b"register").is_defined());
    }
}
