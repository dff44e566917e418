//! Webhooks: each entry of the journal that somebody wants to hear is posted to him, in order, at least once, signed as Standard
//! Webhooks say. A task for each, and the journal itself is the queue: who is slow or gone holds nobody up.

mod signature;
mod url;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::edge::client::{Answer, Request, Server, tell_with};
use crate::edge::journal::{Entry, Journal, KEPT, Kind, Page, status_event};
use crate::edge::partitions::Partitions;
use crate::edge::retry::Retry;
use crate::edge::tls::Trust;

pub use self::signature::Secret;
pub use self::url::Url;

/// Entries that are taken from the journal at once.
const PAGE: usize = 64;
/// The pauses between tries while nobody takes them.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The longest pause that who hears may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// What is posted.
const JSON: &str = "application/json";

/// What is posted, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// As it is called in the log and in metrics.
    pub name: String,
    /// Where to.
    pub url: Url,
    /// Whose certificates are believed, of an https URL.
    pub trust: Trust,
    /// What signs; none: nothing is signed.
    pub secret: Option<Secret>,
    /// Only entries of these kinds; none: of all.
    pub kinds: Vec<Kind>,
    /// Only entries of these sets; none: all, and those that are of no set too.
    pub sets: Vec<u32>,
    /// How an entry is written.
    pub format: Format,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How old an entry may become while nobody takes it.
    pub retry_for: Duration,
}

/// How an entry is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As in `GET /events`.
    #[default]
    Tandem,
    /// As OpenSIPS's `E_DISPATCHER_STATUS`, and only those that are one.
    OpenSips,
}

impl WebhookConfig {
    /// What holds unless something else is said.
    pub fn of(name: impl Into<String>, url: Url) -> Self {
        WebhookConfig {
            name: name.into(),
            url,
            trust: Trust::default(),
            secret: None,
            kinds: Vec::new(),
            sets: Vec::new(),
            format: Format::default(),
            timeout: Duration::from_secs(5),
            retry_for: Duration::from_secs(600),
        }
    }

    /// What is posted of an entry; nothing if it is none of those that are wanted.
    fn body(&self, entry: &Entry, partitions: &Partitions) -> Option<Vec<u8>> {
        let of_kind = self.kinds.is_empty() || self.kinds.contains(&entry.kind);
        let of_set = self.sets.is_empty() || entry.set.is_some_and(|set| self.sets.contains(&set));
        if !of_kind || !of_set {
            return None;
        }
        match self.format {
            Format::Tandem => Some(json(entry)),
            Format::OpenSips => status_event(entry, partitions).as_ref().map(json),
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain values go into memory")
}

/// What has become of the entries.
#[derive(Debug, Default)]
pub struct Deliveries {
    ok: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    /// The journal's last entry that is done with.
    place: AtomicU64,
    /// He who heard wants no more.
    is_over: AtomicBool,
}

/// The same at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookStatus {
    /// Which webhook.
    pub hook: String,
    /// Entries that were taken.
    pub ok: u64,
    /// Tries that failed and were to be made again.
    pub failed: u64,
    /// Entries that nobody took: refused, too old, or forgotten before it was their turn.
    pub dropped: u64,
    /// Entries of the journal that are not done with.
    pub queue: u64,
}

/// One webhook, which [`Webhook::run`] serves.
#[derive(Clone, Debug)]
pub struct Webhook {
    config: Arc<WebhookConfig>,
    journal: Arc<Journal>,
    partitions: Arc<Partitions>,
    deliveries: Arc<Deliveries>,
}

impl Webhook {
    /// One that hears that journal from its first entry on.
    pub fn new(config: WebhookConfig, journal: Arc<Journal>, partitions: Arc<Partitions>) -> Self {
        Webhook { config: Arc::new(config), journal, partitions, deliveries: Arc::default() }
    }

    /// What has become of the entries.
    pub fn status(&self) -> WebhookStatus {
        let Deliveries { ok, failed, dropped, place, is_over } = &*self.deliveries;
        let waiting = self.journal.newest(0).last.saturating_sub(place.load(Relaxed)).min(KEPT as u64);
        WebhookStatus {
            hook: self.config.name.clone(),
            ok: ok.load(Relaxed),
            failed: failed.load(Relaxed),
            dropped: dropped.load(Relaxed),
            queue: if is_over.load(Relaxed) { 0 } else { waiting },
        }
    }

    /// Posts what the journal tells. When `ending` says so it goes on until nothing is left, and whoever waits for that decides
    /// for how long.
    pub async fn run(self, ending: watch::Receiver<bool>) {
        let mut news = self.journal.news();
        let mut tries = Tries { hook: &self, ending, retry: None, next: None, is_hurried: false, lost_before: None };
        let place = &self.deliveries.place;
        loop {
            news.mark_unchanged();
            let page = self.journal.since(place.load(Relaxed), PAGE);
            self.skip_lost(&page);
            if page.entries.is_empty() {
                if *tries.ending.borrow() {
                    return;
                }
                tokio::select! {
                    _ = news.changed() => {}
                    ended = tries.ending.wait_for(|ending| *ending) => if ended.is_err() { return },
                }
            }
            for entry in page.entries {
                if let Some(body) = self.config.body(&entry, &self.partitions)
                    && tries.deliver(&entry, &body).await == Done::Gone
                {
                    self.deliveries.is_over.store(true, Relaxed);
                    return;
                }
                place.store(entry.sequence, Relaxed);
            }
        }
    }

    /// What the journal has forgotten before it was its turn is lost.
    fn skip_lost(&self, page: &Page) {
        let Deliveries { place, dropped, .. } = &*self.deliveries;
        let lost = page.first.saturating_sub(place.load(Relaxed) + 1);
        if lost > 0 {
            place.fetch_add(lost, Relaxed);
            dropped.fetch_add(lost, Relaxed);
            warn!(webhook = self.config.name, lost, "the webhook is too slow or gone: events are lost");
        }
    }

    /// The same for each try, so that who hears can tell doubles: node, start and place.
    fn id(&self, entry: &Entry) -> String {
        format!("{}-{}-{}", entry.node, since_1970(self.journal.started()).as_millis(), entry.sequence)
    }

    async fn post(&self, entry: &Entry, body: &[u8]) -> Result<Answer, String> {
        let WebhookConfig { url, trust, secret, timeout, .. } = &*self.config;
        let (id, timestamp) = (self.id(entry), since_1970(SystemTime::now()).as_secs());
        let mut headers = vec![("webhook-timestamp", timestamp.to_string())];
        headers.extend(secret.iter().map(|secret| ("webhook-signature", secret.sign(&id, timestamp, body))));
        headers.push(("webhook-id", id));
        let request = Request { method: "POST", path: url.path(), kind: JSON, body: body.to_vec() };
        let Url { tls, host, port, .. } = url.clone();
        let server = Server { host, port, trust: tls.then(|| trust.clone()), token: None };
        tell_with(&server, request, &headers, *timeout).await.map_err(|fault| fault.to_string())
    }
}

fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The entry was taken.
    Taken,
    /// Nothing is to be sent there any more.
    Gone,
    /// This entry will never be taken.
    Refused,
    /// Another try may do better, not before that time.
    Again(Duration),
}

impl Verdict {
    fn of(answer: &Answer) -> Self {
        match answer.status {
            200..300 => Verdict::Taken,
            410 => Verdict::Gone,
            408 | 425 | 429 => Verdict::Again(pause_of(answer)),
            400..500 => Verdict::Refused,
            _ => Verdict::Again(pause_of(answer)),
        }
    }
}

/// What `Retry-After` asks for: seconds or a date.
fn pause_of(answer: &Answer) -> Duration {
    let Some(text) = answer.retry_after.as_deref().map(str::trim) else { return Duration::ZERO };
    let seconds = text.parse().ok().map(Duration::from_secs);
    let until = || httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok();
    seconds.or_else(until).unwrap_or_default().min(LONGEST_PAUSE)
}

/// What has become of one entry.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    /// It is over, this way or that.
    Over,
    /// He who heard wants no more.
    Gone,
}

/// How it goes at the moment.
struct Tries<'h> {
    hook: &'h Webhook,
    ending: watch::Receiver<bool>,
    /// The pauses while no try succeeds, whichever entry it is of.
    retry: Option<Retry>,
    /// When the next try may be made.
    next: Option<Instant>,
    /// The node ends, and one pause was cut short for that.
    is_hurried: bool,
    /// How many entries were dropped before a fault that was told; none: there is no such fault.
    lost_before: Option<u64>,
}

impl Tries<'_> {
    async fn deliver(&mut self, entry: &Entry, body: &[u8]) -> Done {
        let Webhook { config, deliveries, .. } = self.hook;
        let (webhook, began) = (&config.name, Instant::now());
        loop {
            self.pause().await;
            let answer = self.hook.post(entry, body).await;
            let (verdict, cause) = match answer {
                Ok(answer) => (Verdict::of(&answer), format!("status {}", answer.status)),
                Err(cause) => (Verdict::Again(Duration::ZERO), cause),
            };
            match verdict {
                Verdict::Taken => {
                    deliveries.ok.fetch_add(1, Relaxed);
                    self.works();
                    return Done::Over;
                }
                Verdict::Gone => {
                    error!(
                        webhook,
                        "the webhook says that it is gone (410): nothing is sent there until the next start"
                    );
                    return Done::Gone;
                }
                Verdict::Refused => {
                    deliveries.dropped.fetch_add(1, Relaxed);
                    warn!(webhook, sequence = entry.sequence, cause, "the webhook refuses an event");
                    return Done::Over;
                }
                Verdict::Again(least) => {
                    deliveries.failed.fetch_add(1, Relaxed);
                    self.fails(&cause);
                    let retry = self.retry.get_or_insert_with(|| Retry::new(PAUSES.0, PAUSES.1));
                    let pause = retry.next_pause().max(least);
                    self.next = Some(Instant::now() + pause);
                    // By either clock: the wall's may have been set, and this one counts from the first try.
                    let age = SystemTime::now().duration_since(entry.at.0).unwrap_or_default().max(began.elapsed());
                    if age + pause >= config.retry_for {
                        deliveries.dropped.fetch_add(1, Relaxed);
                        return Done::Over;
                    }
                }
            }
        }
    }

    /// Waits until the next try may be made.
    async fn pause(&mut self) {
        let Some(next) = self.next.take() else { return };
        let mut pause = pin!(sleep_until(next));
        if !self.is_hurried {
            tokio::select! {
                () = &mut pause => return,
                _ = self.ending.wait_for(|ending| *ending) => self.is_hurried = true,
            }
            // One try at once: he may be there again.
            return;
        }
        pause.await;
    }

    fn fails(&mut self, cause: &str) {
        if self.lost_before.is_none() {
            self.lost_before = Some(self.hook.deliveries.dropped.load(Relaxed));
            let WebhookConfig { name: webhook, url, .. } = &*self.hook.config;
            warn!(webhook, %url, cause, "the webhook takes no events: tried again");
        }
    }

    fn works(&mut self) {
        self.retry = None;
        if let Some(lost_before) = self.lost_before.take() {
            let lost = self.hook.deliveries.dropped.load(Relaxed) - lost_before;
            info!(webhook = self.hook.config.name, lost, "the webhook takes events again");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::engine::dispatch::SetId;

    fn answer(status: u16, retry_after: Option<&str>) -> Answer {
        Answer { status, retry_after: retry_after.map(str::to_owned), body: Bytes::new() }
    }

    fn config() -> WebhookConfig {
        WebhookConfig::of("1", Url::parse("http://127.0.0.1:9/x").expect("a URL"))
    }

    fn entry(kind: Kind) -> Entry {
        Entry::new(kind, SystemTime::now(), "x")
    }

    #[test]
    fn a_status_says_whether_another_try_may_do_better() {
        let verdict = |status| Verdict::of(&answer(status, None));
        assert_eq!([200, 204, 410].map(verdict), [Verdict::Taken, Verdict::Taken, Verdict::Gone]);
        for status in [400, 401, 404, 422] {
            assert_eq!(verdict(status), Verdict::Refused, "{status}");
        }
        for status in [302, 408, 425, 429, 500, 503] {
            assert_eq!(verdict(status), Verdict::Again(Duration::ZERO), "{status}");
        }
    }

    #[test]
    fn a_pause_that_is_asked_for_is_made_up_to_an_hour() {
        let pause = |text: &str| pause_of(&answer(503, Some(text)));
        assert_eq!(pause(" 7"), Duration::from_secs(7));
        assert_eq!(pause("999999999"), LONGEST_PAUSE);
        for text in ["soon", "-1", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(pause(text), Duration::ZERO, "{text}");
        }
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((Duration::from_secs(60)..=Duration::from_secs(100)).contains(&pause(&date)), "{date}");
    }

    #[test]
    fn only_what_is_wanted_is_posted() {
        let partitions = Partitions::default();
        let wants = |config: &WebhookConfig, entry: Entry| config.body(&entry, &partitions).is_some();
        let all = config();
        assert!(wants(&all, entry(Kind::Peer)));
        let some = WebhookConfig { kinds: vec![Kind::Set], sets: vec![19], ..config() };
        assert!(wants(&some, entry(Kind::Set).of_set(SetId(19))));
        assert!(!wants(&some, entry(Kind::Set).of_set(SetId(20))));
        assert!(!wants(&some, entry(Kind::Rows).of_set(SetId(19))));
        assert!(!wants(&WebhookConfig { sets: vec![19], ..config() }, entry(Kind::Peer)));
        assert!(!wants(&WebhookConfig { format: Format::OpenSips, ..config() }, entry(Kind::Peer)));
    }

    /// A sink that answers one request after the other with these, then no more; the `webhook-id` of each comes back.
    async fn sink(answers: &'static [&'static str]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/x", listener.local_addr().expect("bound"));
        let task = tokio::spawn(async move {
            let mut ids = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let mut text = Vec::new();
                while !text.ends_with(b"}") {
                    assert_ne!(stream.read_buf(&mut text).await.expect("a request"), 0);
                }
                let text = String::from_utf8(text).expect("text");
                let id = text.lines().find_map(|line| line.strip_prefix("webhook-id: "));
                ids.push(id.expect("an id").to_owned());
                stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.expect("written");
            }
            ids
        });
        (url, task)
    }

    async fn run(url: &str, entries: usize, retry_for: Duration) -> WebhookStatus {
        let journal = Arc::new(Journal::new("a"));
        (0..entries).for_each(|_| journal.add(entry(Kind::Leave)));
        let config = WebhookConfig { url: Url::parse(url).expect("a URL"), retry_for, ..config() };
        let hook = Webhook::new(config, journal, Arc::default());
        hook.clone().run(watch::Sender::new(true).subscribe()).await;
        hook.status()
    }

    #[tokio::test]
    async fn an_entry_that_is_refused_is_dropped_and_the_next_one_goes_on() {
        let (url, sink) = sink(&["400 No", "204 OK", "410 Gone"]).await;
        let status = run(&url, 5, Duration::from_secs(600)).await;
        let ids = sink.await.expect("no panic");
        assert!(
            ids.iter().zip(1..).all(|(id, nth)| id.starts_with("a-") && id.ends_with(&format!("-{nth}"))),
            "{ids:?}"
        );
        assert_eq!((status.ok, status.failed, status.dropped, status.queue), (1, 0, 1, 0));
    }

    #[tokio::test]
    async fn an_entry_that_nobody_takes_in_time_is_dropped_and_counted() {
        let (url, sink) = sink(&["503 No", "200 OK"]).await;
        let status = run(&url, 2, Duration::ZERO).await;
        let ids = sink.await.expect("no panic");
        assert!(ids[0].ends_with("-1") && ids[1].ends_with("-2"), "{ids:?}");
        assert_eq!((status.ok, status.failed, status.dropped, status.queue), (1, 1, 1, 0));
    }

    #[tokio::test]
    async fn what_the_journal_has_forgotten_is_counted_as_lost() {
        let (url, sink) = sink(&["410 Gone"]).await;
        let status = run(&url, KEPT + 3, Duration::from_secs(600)).await;
        let ids = sink.await.expect("no panic");
        assert!(ids[0].ends_with("-4"), "{ids:?}");
        assert_eq!((status.ok, status.dropped), (0, 3));
    }
}
