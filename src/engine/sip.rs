//! SIP messages: received bytes are kept and looked at in place, what changes is spliced in.

/// A status code and reason phrase that the configuration or the proxy chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 300 to 699.
    pub status: u16,
    /// The reason phrase, without CR or LF.
    pub reason: String,
}
