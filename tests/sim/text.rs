//! Messages as the simulated ends see them: plain text, read without the engine's own parser, so that a fault there does
//! not hide itself.

/// A message; bytes that are no UTF-8 are shown as marks.
#[derive(Clone, Debug)]
pub(crate) struct Text(String);

impl Text {
    /// What came.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Text(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The first line.
    pub(crate) fn line(&self) -> &str {
        self.0.split("\r\n").next().unwrap_or_default()
    }

    /// The status code of a response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.0.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> &str {
        self.line().split(' ').next().unwrap_or_default()
    }

    /// Every value line of a header.
    pub(crate) fn headers<'t>(&'t self, name: &'t str) -> impl Iterator<Item = &'t str> + 't {
        let head = self.0.split("\r\n\r\n").next().unwrap_or_default();
        head.split("\r\n").skip(1).filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The first value line of a header, "" if there is none.
    pub(crate) fn header<'t>(&'t self, name: &'t str) -> &'t str {
        self.headers(name).next().unwrap_or_default()
    }

    /// Call-ID.
    pub(crate) fn call_id(&self) -> &str {
        self.header("Call-ID")
    }

    /// The branch of the top Via.
    pub(crate) fn branch(&self) -> &str {
        param(self.header("Via"), "branch")
    }

    /// The tag in To.
    pub(crate) fn to_tag(&self) -> &str {
        param(self.header("To"), "tag")
    }

    /// CSeq's number and method.
    pub(crate) fn cseq(&self) -> (u32, &str) {
        let (number, method) = self.header("CSeq").split_once(' ').unwrap_or_default();
        (number.parse().unwrap_or_default(), method)
    }

    /// An answer to this request.
    pub(crate) fn answer(&self, status: u16, tag: &str, extra: &str) -> String {
        let mut text = format!("SIP/2.0 {status} Simulated\r\n");
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for value in self.headers(name) {
                text.push_str(name);
                text.push_str(": ");
                text.push_str(value);
                if name == "To" && status > 100 && self.to_tag().is_empty() {
                    text.push_str(";tag=");
                    text.push_str(tag);
                }
                text.push_str("\r\n");
            }
        }
        text + extra + "Content-Length: 0\r\n\r\n"
    }
}

fn param<'t>(value: &'t str, name: &str) -> &'t str {
    let found = value.split(';').skip(1).find_map(|param| {
        let (found, value) = param.split_once('=')?;
        found.trim().eq_ignore_ascii_case(name).then_some(value)
    });
    found.unwrap_or_default()
}
