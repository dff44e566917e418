//! The terminal while `tandem top` has it: its own screen, keys without Enter, and as it was when that is over. The one door of
//! crate `crossterm`.

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::Once;
use std::thread;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{execute, queue};
use tokio::sync::mpsc::{Receiver, channel};

use crate::cli::table::Line;

/// Keys that nobody has looked at yet.
const WAITING: usize = 64;

/// What is done at the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Sort,
    Unfit,
    Pause,
    /// It has another size, or everything is to be drawn anew.
    Redraw,
}

impl Act {
    fn of(event: &Event) -> Option<Act> {
        let key = match event {
            Event::Resize(..) => return Some(Act::Redraw),
            Event::Key(key) if key.kind != KeyEventKind::Release => *key,
            _ => return None,
        };
        let KeyEvent { code, modifiers, .. } = key;
        match code {
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Act::Quit),
            KeyCode::Char('l') if modifiers.contains(KeyModifiers::CONTROL) => Some(Act::Redraw),
            // Not Esc: the arrows begin with it, and may come in pieces.
            KeyCode::Char('q') => Some(Act::Quit),
            KeyCode::Up | KeyCode::Char('k') => Some(Act::Up),
            KeyCode::Down | KeyCode::Char('j') => Some(Act::Down),
            KeyCode::PageUp => Some(Act::PageUp),
            KeyCode::PageDown | KeyCode::Char(' ') => Some(Act::PageDown),
            KeyCode::Home => Some(Act::First),
            KeyCode::End => Some(Act::Last),
            KeyCode::Char('s') => Some(Act::Sort),
            KeyCode::Char('f') => Some(Act::Unfit),
            KeyCode::Char('p') => Some(Act::Pause),
            _ => None,
        }
    }
}

/// Whether there is a terminal to draw on and to read keys from.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The width of standard output, if it is a terminal.
pub(super) fn width() -> Option<usize> {
    io::stdout().is_terminal().then(size)?.ok().map(|(width, _)| usize::from(width))
}

/// The terminal, ours until this is dropped.
#[derive(Debug)]
pub(super) struct Screen(());

impl Screen {
    /// Takes the terminal.
    pub(super) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                // What it says would go with the screen.
                leave();
                before(info);
            }));
        });
        enable_raw_mode()?;
        let screen = Screen(());
        execute!(io::stdout(), EnterAlternateScreen, Hide, DisableLineWrap)?;
        Ok(screen)
    }

    /// What is done at the keys, and when the size changes; it ends with the terminal.
    pub(super) fn acts() -> Receiver<Act> {
        let (to, from) = channel(WAITING);
        // A thread of its own, since nobody can be told to stop reading keys: it ends with the process.
        thread::spawn(move || {
            while let Ok(event) = event::read() {
                if Act::of(&event).is_some_and(|act| to.blocking_send(act).is_err()) {
                    break;
                }
            }
        });
        from
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> io::Result<(usize, usize)> {
        size().map(|(width, height)| (width.into(), height.into()))
    }

    /// Draws lines from the top; what was there before is gone.
    pub(super) fn draw(&self, lines: &[Line], width: usize, colour: bool) -> io::Result<()> {
        // At once, so that nobody sees half a picture.
        let mut out = Vec::new();
        for (row, line) in (0..).zip(lines) {
            queue!(out, MoveTo(0, row))?;
            out.extend_from_slice(line.painted(Some(width), colour).as_bytes());
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out)?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    // Nothing can be done if the terminal is gone.
    let _ = execute!(io::stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_the_foot_says() {
        let key = |code, modifiers| Act::of(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = |code| key(code, KeyModifiers::NONE);
        for (code, act) in [
            (KeyCode::Char('q'), Act::Quit),
            (KeyCode::Up, Act::Up),
            (KeyCode::Down, Act::Down),
            (KeyCode::Char('s'), Act::Sort),
            (KeyCode::Char('f'), Act::Unfit),
            (KeyCode::Char('p'), Act::Pause),
        ] {
            assert_eq!(plain(code), Some(act));
        }
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Act::Quit));
        assert_eq!((plain(KeyCode::Char('c')), Act::of(&Event::Resize(1, 1))), (None, Some(Act::Redraw)));
    }
}
