//! Session descriptions as MRCPv2 clients and servers write them: RFC 6787 sections 4.2 and 7, as UniMRCP spells them.

use std::fmt::Write;
use std::net::IpAddr;

use thiserror::Error;

/// The resources that the stand-in server has.
pub(super) const RESOURCES: [&str; 2] = ["speechsynth", "speechrecog"];

/// Why an offer has no answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Unfit {
    /// There is no offer.
    #[error("Bad Request")]
    Missing,
    /// It is no session description.
    #[error("Bad Session Description")]
    Garbage,
    /// It asks for a resource that we do not have.
    #[error("Not Found")]
    Resource,
}

/// A client's offer for a channel of `resource`, with its audio on `port`.
pub(super) fn offer(ip: IpAddr, session: u64, resource: &str, port: u16) -> String {
    let mut sdp = head("tandem", ip, session);
    let line = "m=application 9 TCP/MRCPv2 1\r\na=setup:active\r\na=connection:new\r\n";
    let audio =
        "RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=recvonly\r\na=ptime:20\r\na=mid:1\r\n";
    write!(sdp, "{line}a=resource:{resource}\r\na=cmid:1\r\nm=audio {port} {audio}").expect("writing to memory");
    sdp
}

/// The server's answer: `channel` names the MRCP channel, `port` takes the audio; 0 for both media if `inactive`.
///
/// # Errors
/// [`Unfit`], with the reason phrase that the refusal has.
pub(super) fn answer(offer: &[u8], ip: IpAddr, session: u64, channel: u64, port: u16) -> Result<String, Unfit> {
    if offer.is_empty() {
        return Err(Unfit::Missing);
    }
    let offer = String::from_utf8_lossy(offer);
    if !offer.trim_start().starts_with("v=0") || !offer.lines().any(|line| line.starts_with("m=")) {
        return Err(Unfit::Garbage);
    }
    let mut sdp = head("stand-in", ip, session);
    for media in media(&offer) {
        let attribute = |name: &str| {
            media.iter().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let said = |word: &str| media.iter().any(|line| line.trim() == word);
        let kind = media.first().copied().unwrap_or_default();
        if kind.starts_with("m=application") {
            let resource = attribute("resource").unwrap_or_default();
            let resource = RESOURCES.into_iter().find(|ours| *ours == resource).ok_or(Unfit::Resource)?;
            // Port 9 is discard: the stand-in speaks SIP alone, and no MRCP port listens.
            sdp.push_str("m=application 9 TCP/MRCPv2 1\r\na=setup:passive\r\na=connection:new\r\n");
            write!(sdp, "a=channel:{channel:016x}@{resource}\r\n").expect("writing to memory");
            write!(sdp, "a=cmid:{}\r\n", attribute("cmid").unwrap_or("1")).expect("writing to memory");
        } else if kind.starts_with("m=audio") {
            let direction = match (said("a=recvonly"), said("a=sendonly")) {
                (true, _) => "a=sendonly\r\n",
                (false, true) => "a=recvonly\r\n",
                (false, false) => "",
            };
            write!(sdp, "m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n{direction}").expect("writing to memory");
            write!(sdp, "a=mid:{}\r\n", attribute("mid").unwrap_or("1")).expect("writing to memory");
        } else {
            // RFC 3264 section 6: what is not taken gets port 0 in its place.
            let mut words = kind.split_whitespace();
            let (name, formats) = (words.next().unwrap_or("m=unknown"), words.nth(1).unwrap_or("RTP/AVP"));
            write!(sdp, "{name} 0 {formats} 0\r\n").expect("writing to memory");
        }
    }
    Ok(sdp)
}

/// The answer to resource discovery (RFC 6787 section 7).
pub(super) fn resources(ip: IpAddr, session: u64) -> String {
    let mut sdp = head("stand-in", ip, session);
    sdp.push_str("m=application 0 TCP/MRCPv2 1\r\na=inactive\r\n");
    for resource in RESOURCES {
        write!(sdp, "a=resource:{resource}\r\n").expect("writing to memory");
    }
    sdp.push_str("m=audio 0 RTP/AVP 0 8\r\na=inactive\r\n");
    sdp
}

fn head(name: &str, ip: IpAddr, session: u64) -> String {
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    // RFC 8866 section 5.2: a number of 64 bits; some readers take 63.
    let session = session >> 1;
    format!("v=0\r\no={name} {session} 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n")
}

/// The media of a description, each as its lines.
fn media(sdp: &str) -> Vec<Vec<&str>> {
    let mut media: Vec<Vec<&str>> = Vec::new();
    for line in sdp.lines() {
        match media.last_mut() {
            _ if line.starts_with("m=") => media.push(vec![line]),
            Some(last) => last.push(line),
            None => {}
        }
    }
    media
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn an_answer_gives_the_channel_that_was_asked_for() {
        let text = answer(offer(HERE, 2, "speechsynth", 4000).as_bytes(), HERE, 4, 0xab, 20_000).expect("an answer");
        assert_eq!(
            text,
            "v=0\r\no=stand-in 2 1 IN IP6 ::1\r\ns=-\r\nc=IN IP6 ::1\r\nt=0 0\r\nm=application 9 TCP/MRCPv2 1\r\n\
             a=setup:passive\r\na=connection:new\r\na=channel:00000000000000ab@speechsynth\r\na=cmid:1\r\n\
             m=audio 20000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendonly\r\na=mid:1\r\n"
        );
    }

    #[test]
    fn unfit_offers_are_told_apart() {
        let refuse = |offer: &str| answer(offer.as_bytes(), HERE, 1, 1, 1).map(|_| ());
        assert_eq!(refuse(""), Err(Unfit::Missing));
        assert_eq!(refuse("hello"), Err(Unfit::Garbage));
        assert_eq!(refuse(&offer(HERE, 1, "teleporter", 1)), Err(Unfit::Resource));
        assert_eq!(refuse("v=0\r\nm=audio 4000 RTP/AVP 0\r\n"), Ok(()));
    }

    #[test]
    fn media_that_are_not_taken_keep_their_place() {
        let text =
            answer(b"v=0\nm=video 5 RTP/AVP 34\nm=audio 4 RTP/AVP 0\na=sendonly\n", HERE, 1, 1, 6).expect("an answer");
        assert!(
            text.contains("m=video 0 RTP/AVP 0\r\nm=audio 6 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=recvonly\r\n"),
            "{text}"
        );
    }

    #[test]
    fn discovery_lists_every_resource() {
        let text = resources(HERE, 1);
        assert!(RESOURCES.iter().all(|resource| text.contains(&format!("a=resource:{resource}\r\n"))), "{text}");
    }
}
