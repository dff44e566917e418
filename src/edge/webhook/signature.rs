//! What shows that a webhook's request is ours: Standard Webhooks' signature. The one door of crates `hmac` and `sha2`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What stands before a secret in base64.
const PREFIX: &str = "whsec_";
/// Bytes of a secret that nobody guesses: so many the specification wants at least.
const LEAST: usize = 24;

/// What both sides know.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// `whsec_` and the secret in base64, or the secret itself; white space around it is no part of it.
    ///
    /// # Errors
    /// What is wrong with it, without showing it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let text = text.trim_ascii();
        let secret = match text.strip_prefix(PREFIX.as_bytes()) {
            Some(base64) => STANDARD.decode(base64).map_err(|_| format!("what follows {PREFIX} is no base64"))?,
            None => text.to_vec(),
        };
        match secret.len() {
            LEAST.. => Ok(Secret(secret)),
            short => Err(format!("the secret has {short} bytes, and needs {LEAST} or more")),
        }
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification_s_example() {
        let secret = Secret::parse(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("a secret");
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_text_or_base64_and_is_never_shown() {
        let text = "0123456789abcdef01234567";
        let plain = Secret::parse(format!(" {text}\n").as_bytes()).expect("a secret");
        let base64 = Secret::parse(format!("whsec_{}", STANDARD.encode(text)).as_bytes()).expect("a secret");
        assert_eq!((&plain, format!("{plain:?}").as_str()), (&base64, "Secret(..)"));
        let fault = |text: &str| Secret::parse(text.as_bytes()).expect_err("no secret");
        assert_eq!(fault("short"), "the secret has 5 bytes, and needs 24 or more");
        assert_eq!(fault("whsec_?"), "what follows whsec_ is no base64");
        assert_eq!(fault(""), "the secret has 0 bytes, and needs 24 or more");
    }
}
