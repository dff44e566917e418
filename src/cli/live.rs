//! What a node tells live, across its silences: whoever listens is told while it is not live.

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::sleep;

use super::Failure;
use super::surface::Surface;
use crate::edge::client::{Stream, StreamEvent};
use crate::edge::retry::Retry;

/// Who hears more slowly lets the node wait.
const WAITING: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is heard.
#[derive(Debug)]
pub(super) enum News {
    /// The node says this.
    Event(StreamEvent),
    /// The node is not heard, and is asked again; why.
    NotLive(String),
    /// It is heard again, from where it broke off if it is still the same start of it.
    Live,
}

/// Listens, from after the event `last` on.
///
/// # Errors
/// The node is not there at the start.
pub(super) async fn listen(surface: Surface, last: Option<String>) -> Result<Receiver<News>, Failure> {
    let stream = surface.listen(last.as_deref()).await?;
    let (to, from) = channel(WAITING);
    // It ends with the one who listens.
    tokio::spawn(async move { tell(surface, stream, last, &to).await });
    Ok(from)
}

async fn tell(surface: Surface, mut stream: Stream, mut last: Option<String>, to: &Sender<News>) -> Option<()> {
    loop {
        let fault = loop {
            match stream.next().await {
                Ok(event) => {
                    last = event.id.clone().or(last);
                    to.send(News::Event(event)).await.ok()?;
                }
                Err(fault) => break fault.to_string(),
            }
        };
        to.send(News::NotLive(fault)).await.ok()?;
        stream = again(&surface, last.as_deref(), to).await?;
        to.send(News::Live).await.ok()?;
    }
}

/// The next stream that there is.
async fn again(surface: &Surface, last: Option<&str>, to: &Sender<News>) -> Option<Stream> {
    let mut pauses = Retry::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        tokio::select! {
            () = sleep(pauses.next_pause()) => {}
            () = to.closed() => return None,
        }
        match surface.listen(last).await {
            Ok(stream) => return Some(stream),
            Err(failure) => to.send(News::NotLive(failure.text)).await.ok()?,
        }
    }
}
