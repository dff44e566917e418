//! `tandem top`: sets and destinations live in the terminal.

mod screen;
mod view;
mod world;

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval, timeout_at};

use self::screen::{Act, Screen};
use self::view::{Look, Moments, draw};
use self::world::World;
use super::live::{News, listen};
use super::surface::{Surface, Where};
use super::{Failure, block_on, run, table, term};

/// From one picture to the next, if nobody does anything.
const FRAME: Duration = Duration::from_secs(1);
/// How long `--once` looks: a node tells what is another once a second.
const ONCE: Duration = Duration::from_millis(2500);
/// How long the node has to tell how things are.
const WHOLE: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Look for two and a half seconds, print that as text and exit.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    node: Where,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    if !args.once && !screen::is_there() {
        return Err(Failure::usage("no terminal to draw on: give --once for one picture, or ask by `tandem list`"));
    }
    let surface = args.node.surface()?;
    block_on(async {
        match args.once {
            true => once(surface).await,
            false => top(surface).await,
        }
    })
}

/// What the node says, and how things are.
async fn whole(surface: Surface) -> Result<(Receiver<News>, World), Failure> {
    let mut news = listen(surface, None).await?;
    let mut world = World::default();
    let until = tokio::time::Instant::now() + WHOLE;
    while !world.is_whole() {
        let late = || Failure::new(format!("the node told nothing within {WHOLE:?}: ask by `tandem list`"));
        match timeout_at(until, news.recv()).await.ok().flatten() {
            Some(News::NotLive(why)) => return Err(Failure::new(why)),
            Some(news) => hear(&mut world, news)?,
            None => return Err(late()),
        }
    }
    Ok((news, world))
}

fn hear(world: &mut World, news: News) -> Result<(), Failure> {
    let remedy = "it is of another version than this command";
    let heard = world.hear(news, Instant::now(), SystemTime::now());
    heard.map_err(|fault| Failure::new(format!("what the node tells is not understood ({fault}): {remedy}")))
}

fn now() -> Moments {
    Moments { now: Instant::now(), at: SystemTime::now() }
}

async fn once(surface: Surface) -> Result<(), Failure> {
    let (mut news, mut world) = whole(surface).await?;
    let until = tokio::time::Instant::now() + ONCE;
    while let Ok(Some(news)) = timeout_at(until, news.recv()).await {
        hear(&mut world, news)?;
    }
    let (width, colour) = (screen::width(), table::colour());
    let picture = draw(&world, &Look::default(), now());
    term::write(&picture.lines.iter().map(|line| line.painted(width, colour) + "\n").collect::<String>());
    Ok(())
}

async fn top(surface: Surface) -> Result<(), Failure> {
    let (mut news, mut world) = whole(surface).await?;
    let mut look = Look::default();
    // What was seen when it was stopped.
    let mut paused: Option<(World, Moments)> = None;
    let (mut frames, stopped) = (interval(FRAME), run::left());
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stopped);
    // From before the terminal is taken: signals are heard from the first question on.
    tokio::select! {
        biased;
        _ = &mut stopped => return Ok(()),
        () = std::future::ready(()) => {}
    }
    let gone = |error| Failure::new(format!("the terminal is gone: {error}"));
    let screen = Screen::enter().map_err(|error| Failure::new(format!("can't take the terminal: {error}")))?;
    let mut acts = Screen::acts();
    loop {
        let (width, height) = screen.size().map_err(gone)?;
        look.height = Some(height);
        let picture = match &paused {
            Some((world, moments)) => draw(world, &look, *moments),
            None => draw(&world, &look, now()),
        };
        look.above = picture.above;
        screen.draw(&picture.lines, width, table::colour()).map_err(gone)?;
        // Until something is to be drawn anew.
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => return Ok(()),
                act = acts.recv() => {
                    if !done(act.unwrap_or(Act::Quit), &mut look, picture.page) {
                        return Ok(());
                    }
                    match (look.paused, &paused) {
                        (true, None) => paused = Some((world.clone(), now())),
                        (false, Some(_)) => paused = None,
                        (true, Some(_)) | (false, None) => {}
                    }
                    break;
                }
                _ = frames.tick() => break,
                some = news.recv() => match some {
                    Some(some) => hear(&mut world, some)?,
                    None => return Err(Failure::new("the node is not listened to any more")),
                },
            }
        }
    }
}

/// Does it; false: that is all.
fn done(act: Act, look: &mut Look, page: usize) -> bool {
    let page = page.saturating_sub(1).max(1);
    match act {
        Act::Quit => return false,
        Act::Up => look.above = look.above.saturating_sub(1),
        Act::Down => look.above = look.above.saturating_add(1),
        Act::PageUp => look.above = look.above.saturating_sub(page),
        Act::PageDown => look.above = look.above.saturating_add(page),
        Act::First => look.above = 0,
        Act::Last => look.above = usize::MAX,
        Act::Sort => look.sort = look.sort.next(),
        Act::Unfit => look.unfit = !look.unfit,
        Act::Pause => look.paused = !look.paused,
        Act::Redraw => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_the_look_and_one_ends_it() {
        let mut look = Look::default();
        for (act, above) in [
            (Act::Up, 0),
            (Act::Down, 1),
            (Act::PageDown, 10),
            (Act::PageUp, 1),
            (Act::Last, usize::MAX),
            (Act::First, 0),
        ] {
            assert!(done(act, &mut look, 10));
            assert_eq!(look.above, above, "{act:?}");
        }
        assert!(done(Act::Sort, &mut look, 10) && done(Act::Unfit, &mut look, 10) && done(Act::Pause, &mut look, 10));
        assert!(look.unfit && look.paused && look.sort == view::Sort::Calls);
        assert!(!done(Act::Quit, &mut look, 10));
    }
}
