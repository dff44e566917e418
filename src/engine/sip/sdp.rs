//! What we look at in a session description (RFC 8866): its m= lines, and what its MRCPv2 channels are for (RFC 6787 section
//! 4.2). No other line.

/// The m= lines, without their line ends.
pub fn media_lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines(body).filter(|line| line.starts_with(b"m=")).map(<[u8]>::trim_ascii_end)
}

/// The port where a server takes MRCPv2: of its first channel that is not refused.
pub fn mrcp_port(body: &[u8]) -> Option<u16> {
    media_lines(body).find_map(channel_port)
}

/// MRCP resources: a set of the types of RFC 6787 section 3.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources(u8);

impl Resources {
    /// No resource.
    pub const NONE: Resources = Resources(0);

    /// Their names, in the order of their bits. Cookies hold the bits: new names go to the end.
    pub const NAMES: [&'static str; 6] =
        ["speechsynth", "basicsynth", "speechrecog", "dtmfrecog", "recorder", "speakverify"];

    /// The resource of that name; letters of either case are the same.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|one| one.eq_ignore_ascii_case(name)).map(|nth| Resources(1 << nth))
    }

    /// What an offer asks for: the resources of its channels that are not refused. What is no resource that we know is left
    /// out.
    pub fn offered(body: &[u8]) -> Self {
        let (mut all, mut in_channel) = (Resources::NONE, false);
        for line in lines(body) {
            if line.starts_with(b"m=") {
                in_channel = channel_port(line.trim_ascii_end()).is_some();
            } else if in_channel && let Some(resource) = resource(line) {
                all = all.and(resource);
            }
        }
        all
    }

    /// These and those.
    pub fn and(self, others: Resources) -> Self {
        Resources(self.0 | others.0)
    }

    /// Whether one of these is one of those.
    pub fn meets(self, others: Resources) -> bool {
        self.0 & others.0 != 0
    }

    /// Six bits.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// What [`Resources::bits`] gave; other bits mean nothing.
    pub(crate) fn of_bits(bits: u8) -> Self {
        Resources(bits & 0x3f)
    }
}

/// Each line, with what is left of its end.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
    ends.scan(0, |start, end| Some(&body[std::mem::replace(start, end + 1)..end]))
}

/// The port of `m=application PORT TCP/MRCPv2`; none if it is refused, which is port 0.
fn channel_port(line: &[u8]) -> Option<u16> {
    let mut words = line.strip_prefix(b"m=application ")?.split(|&b| b == b' ').filter(|word| !word.is_empty());
    let port: u16 = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let mrcp = words
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case(b"TCP/MRCPv2") || word.eq_ignore_ascii_case(b"TCP/TLS/MRCPv2"));
    (mrcp && port > 0).then_some(port)
}

/// The resource of `a=resource:NAME`; the servers that we know take the attribute's name in letters of either case.
fn resource(line: &[u8]) -> Option<Resources> {
    const ATTRIBUTE: &[u8] = b"a=resource:";
    let (attribute, name) = line.split_at_checked(ATTRIBUTE.len())?;
    if !attribute.eq_ignore_ascii_case(ATTRIBUTE) {
        return None;
    }
    Resources::named(std::str::from_utf8(name.trim_ascii()).ok()?)
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

    fn named(names: &[&str]) -> Resources {
        names.iter().map(|name| Resources::named(name).expect("a resource")).fold(Resources::NONE, Resources::and)
    }

    #[test]
    fn the_offers_of_a_real_client_ask_for_what_they_are_named_by() {
        for (call, resource) in
            [("synth-1-01", "speechsynth"), ("synth-tcp-01", "speechsynth"), ("recog-01", "speechrecog")]
        {
            let file = format!("{}/tests/captures/{call}-client-INVITE.sip", env!("CARGO_MANIFEST_DIR"));
            let bytes = std::fs::read(file).expect("a captured message");
            let message = crate::engine::sip::Message::parse(&bytes).expect("SIP");
            assert_eq!(Resources::offered(message.body()), named(&[resource]), "{call}");
        }
    }

    #[test]
    fn every_channel_is_asked_for_but_those_that_are_refused_unknown_or_of_other_media() {
        let offered = |body: &str| Resources::offered(body.as_bytes());
        let channel = "m=application 9 TCP/MRCPv2 1\r\na=setup:active\r\n";
        for name in Resources::NAMES {
            assert_eq!(offered(&format!("{channel}a=resource:{name}\r\n")), named(&[name]));
        }
        let both = format!(
            "v=0\r\n{channel}a=resource:speechsynth\r\nm=audio 4000 RTP/AVP 0\r\na=mid:1\r\n\
             m=application 9 TCP/TLS/MRCPv2 1\r\na=Resource:SpeechRecog \r\n"
        );
        assert_eq!(offered(&both), named(&["speechsynth", "speechrecog"]));
        for nothing in [
            "",
            "a=resource:speechsynth\r\n",
            "m=application 0 TCP/MRCPv2 1\r\na=resource:speechsynth\r\n",
            "m=application 9 UDP/BFCP *\r\na=resource:speechsynth\r\n",
            "m=audio 4000 RTP/AVP 0\r\na=resource:speechsynth\r\n",
            "m=application 9 TCP/MRCPv2 1\r\na=resource:telepathy\r\na=resource:\r\na=resource\r\na=resource:\u{ff}",
            "m=application 9 TCP/MRCPv2 1\r\na=channel:32AECB@speechsynth\r\n",
        ] {
            assert_eq!(offered(nothing), Resources::NONE, "{nothing}");
        }
    }

    #[test]
    fn six_bits_hold_every_resource() {
        let all = named(&Resources::NAMES);
        assert_eq!((all.bits(), Resources::of_bits(0x3f), Resources::of_bits(0xc0)), (0x3f, all, Resources::NONE));
        assert!(all.meets(named(&["recorder"])) && !named(&["recorder"]).meets(named(&["dtmfrecog"])));
        assert!(!Resources::NONE.meets(all));
    }
}
