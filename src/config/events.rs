//! `[events]`: where the journal goes beside `GET /events` and the stream: a file and webhooks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lines;
use super::reader::{A_FILE, Section};
use super::values::token;
use crate::edge::journal::Kind;
use crate::edge::key;
use crate::edge::lines::LinesConfig;
use crate::edge::tls::{Anchor, Trust};
use crate::edge::webhook::{Format, Secret, Url, WebhookConfig};

/// How long an answer may take.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// How old an event may become that nobody takes.
const RETRIES: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(24 * 3600));

/// Where the journal goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsConfig {
    /// The file; none: it is written nowhere.
    pub file: Option<LinesConfig>,
    /// Who is told, each with a name of his own.
    pub webhooks: Vec<WebhookConfig>,
}

/// Reads `[events]`; relative paths start from `base`.
pub(super) fn read(section: &Section<'_>, base: &Path) -> EventsConfig {
    let file = lines::read(section, base, "events.jsonl");
    if file.is_none() && ["max_bytes", "keep"].iter().any(|key| section.has(key)) {
        section.fault_of(&["max_bytes", "keep"], "it has no file: give one, as file = \"events.jsonl\"");
    }
    let mut webhooks: Vec<WebhookConfig> = Vec::new();
    for (nth, section) in section.sections("webhook").iter().enumerate() {
        let hook = read_webhook(section, base, nth + 1);
        if webhooks.iter().any(|other| other.name == hook.name) {
            section.fault_at("name", &format!("another webhook is called {:?} too: give each its own", hook.name));
        }
        webhooks.push(hook);
    }
    section.finish();
    EventsConfig { file, webhooks }
}

fn read_webhook(section: &Section<'_>, base: &Path, nth: usize) -> WebhookConfig {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    let kind = |text: &str| Kind::from_name(text).ok_or_else(|| format!("give some of {}", names()));
    let within = |key, (least, most)| section.duration_within(key, least..=most);
    let name = section.text("name", "a name", token).unwrap_or_else(|| nth.to_string());
    let url = match section.text("url", "a URL", |text| Ok(Url::parse(text))) {
        Some(Ok(url)) => Some(url),
        // Not shown: a password may stand there.
        Some(Err(remedy)) => {
            section.fault_at("url", &format!("it is no URL to post to: {remedy}"));
            None
        }
        None => None,
    };
    if !section.has("url") {
        section.fault("it has no url: give one, as url = \"http://10.0.0.9:8080/tandem\"");
    }
    let default = WebhookConfig::of(name, url.unwrap_or_else(|| Url::parse("http://localhost/").expect("a URL")));
    let secret = section.text("secret_file", A_FILE, |text| match is_secret(text, base) {
        true => Ok(None),
        false => secret_of(text, base).map(Some),
    });
    if secret == Some(None) {
        section.fault_at(
            "secret_file",
            "a secret itself stands here, for all who see this file: put it into a file of mode 0600 and give the file's name; \
             make a new one if somebody has seen it",
        );
    }
    let formats = [("tandem", Format::Tandem), ("opensips", Format::OpenSips)];
    let webhook = WebhookConfig {
        trust: section.text("ca", A_FILE, |text| authorities(base.join(text))).unwrap_or_default(),
        secret: secret.flatten(),
        kinds: section.texts("kinds", "a kind of event", kind).unwrap_or_default(),
        sets: section
            .numbers("sets", 0..=i64::from(u32::MAX))
            .unwrap_or_default()
            .into_iter()
            .map(|set| set as u32)
            .collect(),
        format: section.word("format", &formats).unwrap_or_default(),
        timeout: within("timeout", TIMEOUTS).unwrap_or(default.timeout),
        retry_for: within("retry_for", RETRIES).unwrap_or(default.retry_for),
        ..default
    };
    section.finish();
    webhook
}

fn authorities(file: PathBuf) -> Result<Trust, String> {
    let trust = Trust::new(Anchor::Authorities(file), None);
    trust.check().map(|()| trust).map_err(|fault| fault.to_string())
}

/// Whether a text that should name a file is a secret: then no fault may show it.
fn is_secret(text: &str, base: &Path) -> bool {
    text.trim().starts_with("whsec_") && !base.join(text).exists()
}

fn secret_of(file: &str, base: &Path) -> Result<Secret, String> {
    const REMEDY: &str = "make one with (printf whsec_; openssl rand -base64 32), mode 0600, and give it to who hears";
    let text = key::read(&base.join(file)).map_err(|fault| fault.to_string())?;
    Secret::parse(&text).map_err(|problem| format!("{problem}: {REMEDY}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::tests::{faults, in_folder, parse, put};
    use crate::edge::scratch::Folder;

    const LISTENER: &str = "[[listener]]\nbind = \"udp:127.0.0.1:8060\"\n";
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn every_key_is_read_and_a_url_is_enough() {
        assert_eq!(parse(LISTENER).expect("valid").events, EventsConfig::default());
        let folder = Folder::new();
        put(&folder, "noc.secret", SECRET, 0o600);
        fs::write(folder.path().join("ca.pem"), include_str!("../../tests/tls/ca.pem")).expect("a file");
        let text = r#"
            [events]
            file = "log/events.jsonl"
            max_bytes = 5000
            keep = 3
            [[events.webhook]]
            url = "http://10.0.0.9:8080/tandem"
            [[events.webhook]]
            name = "noc"
            url = "https://noc.example.com/x"
            ca = "ca.pem"
            secret_file = "noc.secret"
            kinds = ["health", "order"]
            sets = [19, 20]
            format = "opensips"
            timeout = "1s"
            retry_for = "1h"
            "#;
        let events = in_folder(&folder, text).expect("valid").events;
        let file = folder.path().join("log/events.jsonl");
        assert_eq!(events.file, Some(LinesConfig { file, max_bytes: Some(5000), keep: 3 }));
        let url = |text| Url::parse(text).expect("a URL");
        let noc = WebhookConfig {
            trust: Trust::new(Anchor::Authorities(folder.path().join("ca.pem")), None),
            secret: Secret::parse(SECRET.as_bytes()).ok(),
            kinds: vec![Kind::Health, Kind::Order],
            sets: vec![19, 20],
            format: Format::OpenSips,
            timeout: Duration::from_secs(1),
            retry_for: Duration::from_secs(3600),
            ..WebhookConfig::of("noc", url("https://noc.example.com/x"))
        };
        assert_eq!(events.webhooks, [WebhookConfig::of("1", url("http://10.0.0.9:8080/tandem")), noc]);
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let told = faults(
            r#"[events]
max_bytes = 5000
[[events.webhook]]
[[events.webhook]]
name = "1"
url = "http://u:hidden@10.0.0.9:8080"
secret_file = "/nowhere/secret"
kinds = ["health", "weather"]
sets = ["tts"]
format = "xml"
timeout = "0s"
retry_for = "7d"
method = "PUT"
[[events.webhook]]
url = "https://h/"
ca = "/nowhere/ca.pem""#,
        );
        let starts = [
            "2: events: it has no file: give one",
            "3: events.webhook: it has no url: give one",
            "5: events.webhook.name: another webhook is called \"1\" too",
            "6: events.webhook.url: it is no URL to post to: give http://",
            "7: events.webhook.secret_file is \"/nowhere/secret\": key file /nowhere/secret: can't read it",
            "8: events.webhook.kinds is \"weather\": give some of start, health",
            "9: events.webhook.sets",
            "10: events.webhook.format is \"xml\": give one of tandem, opensips",
            "11: events.webhook.timeout is \"0s\"",
            "12: events.webhook.retry_for is \"7d\"",
            "13: events.webhook.method is no known key",
            "16: events.webhook.ca is \"/nowhere/ca.pem\": ",
        ];
        assert_eq!(told.len(), starts.len(), "{told:#?}");
        for (told, start) in told.iter().zip(starts) {
            assert!(told.starts_with(start) && !told.contains("hidden"), "{told}\n{start}");
        }
    }

    #[test]
    fn a_secret_that_others_may_read_or_that_is_none_is_told_and_never_shown() {
        let folder = Folder::new();
        put(&folder, "open", SECRET, 0o644);
        put(&folder, "short", "tiny-secret", 0o600);
        for (file, part) in
            [("open", "mode is 0644"), ("short", "has 11 bytes"), (SECRET, "a secret itself stands here")]
        {
            let text = format!("[[events.webhook]]\nurl = \"http://h/\"\nsecret_file = \"{file}\"");
            let told = in_folder(&folder, &text).expect_err("a fault").to_string();
            assert!(told.starts_with("t.toml:5: events.webhook.secret_file") && told.contains(part), "{told}");
            assert!(!told.contains("tiny-secret") && !told.contains(SECRET), "{told}");
        }
    }
}
