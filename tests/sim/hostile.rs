//! Strangers: garbage, requests that try to use us as a relay, forged responses.

use std::net::SocketAddr;

use fastrand::Rng;

/// Where a stranger would like us to send something.
const VICTIM: &str = "198.51.100.9:5060";

/// A stranger, who hears what we send but knows no key.
#[derive(Debug)]
pub(crate) struct Stranger {
    ours: [SocketAddr; 2],
    own: [SocketAddr; 2],
    /// Some datagrams that we sent.
    seen: Vec<Vec<u8>>,
    number: u64,
}

impl Stranger {
    /// A stranger who knows our addresses.
    pub(crate) fn new(ours: [SocketAddr; 2]) -> Self {
        let own = ["127.0.0.1:6666", "203.0.113.66:5060"].map(|text| text.parse().expect("an address"));
        Stranger { ours, own, seen: Vec::new(), number: 0 }
    }

    /// Where he is: one address for each of ours.
    pub(crate) fn addresses(&self) -> [SocketAddr; 2] {
        self.own
    }

    /// He sees a datagram of ours.
    pub(crate) fn sees(&mut self, bytes: &[u8]) {
        match self.seen.len() {
            ..32 => self.seen.push(bytes.to_vec()),
            length => self.seen[bytes.len() % length] = bytes.to_vec(),
        }
    }

    /// What he sends next: source, target, datagram.
    pub(crate) fn next(
        &mut self,
        rng: &mut Rng,
        destinations: &[SocketAddr],
    ) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        self.number += 1;
        let place = rng.usize(..2);
        let (from, to) = (self.own[place], self.ours[place]);
        let destination = rng.choice(destinations).map(SocketAddr::to_string).unwrap_or_default();
        let methods = ["INVITE", "BYE", "INFO", "OPTIONS", "ACK", "CANCEL", "REGISTER", "FOO", "UPDATE"];
        let method = methods[rng.usize(..methods.len())];
        let bytes = match rng.u8(..9) {
            0 => (0..rng.usize(..200)).map(|_| rng.u8(..)).collect(),
            1 => [&b"\r\n\r\n"[..], b"\r\n", b"TEST", b"", b"\0\0\0\0"][rng.usize(..5)].to_vec(),
            2 => self.request(method, &format!("sip:{to}"), from, "", ""),
            3 => self.request(method, &format!("sip:{VICTIM}"), from, ";tag=foreign", ""),
            4 => self.request(
                method,
                &format!("sip:{to}"),
                from,
                ";tag=foreign",
                &format!("Route: <sip:{VICTIM};lr>\r\n"),
            ),
            // The Record-Route of a call of others, in a dialog of his own.
            5 => {
                let route = self.stolen_route()?;
                let routes = format!("Route: {route}\r\nRoute: <sip:{VICTIM};lr>\r\n");
                self.request(method, &format!("sip:{VICTIM}"), from, ";tag=foreign", &routes)
            }
            6 => self.request(method, &format!("sip:{destination}"), from, ";tag=foreign", ""),
            7 => self.forged_response(rng)?,
            _ => {
                let mut bytes = self.request(method, &format!("sip:{VICTIM}"), from, ";tag=foreign", "");
                for _ in 0..rng.usize(1..6) {
                    let at = rng.usize(..bytes.len());
                    bytes[at] = rng.u8(..);
                }
                bytes
            }
        };
        Some((from, to, bytes))
    }

    fn request(&self, method: &str, uri: &str, from: SocketAddr, to_tag: &str, extra: &str) -> Vec<u8> {
        let number = self.number;
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bK-evil-{number}\r\nMax-Forwards: 9\r\n\
             {extra}From: <sip:evil@{from}>;tag=evil\r\nTo: <{uri}>{to_tag}\r\nCall-ID: evil-{number}\r\n\
             CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        );
        text.into_bytes()
    }

    fn stolen_route(&self) -> Option<String> {
        let text = self.seen.iter().find_map(|bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.contains("Record-Route: ").then_some(text)
        })?;
        text.split("\r\n").find_map(|line| line.strip_prefix("Record-Route: ").map(str::to_owned))
    }

    /// A response to a request of ours whose branch he did not quite hear.
    fn forged_response(&self, rng: &mut Rng) -> Option<Vec<u8>> {
        let request = self.seen.iter().find(|bytes| !bytes.starts_with(b"SIP/2.0") && bytes.len() > 2)?;
        let text = String::from_utf8_lossy(request);
        let (_, rest) = text.split_once("branch=")?;
        let branch = rest.split(['\r', ';', ',']).next()?;
        // Among the last characters, which are the MAC's.
        let at = branch.len().checked_sub(rng.usize(2..8))?;
        let other = if branch.as_bytes()[at] == b'A' { "B" } else { "A" };
        let forged = format!("{}{other}{}", &branch[..at], &branch[at + 1..]);
        let head = text.split_once("\r\n")?.1.replacen(branch, &forged, 1);
        Some(format!("SIP/2.0 {} Forged\r\n{head}", [100, 180, 200, 486, 603][rng.usize(..5)]).into_bytes())
    }
}
