//! `ucaffeine top`: one instance, watched live over its control socket. A look is one question, and one message to each core;
//! everything else is worked out here.

mod format;
mod sample;
mod screen;
mod tell;

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::json;

use super::protocol::Client;
use super::registry::{Entry, list, look};
use super::{Failed, Folders, Name};
use sample::{Sample, View};
use screen::Screen;

pub(super) use tell::tell;

/// How long an instance has to answer; its cores have less.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a key may wait for the screen.
const KEY_POLL: Duration = Duration::from_millis(50);

/// What is to be shown, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Again and again, until a key ends it; in a terminal.
    Live,
    /// Once, as a table.
    Once,
    /// Once, as one JSON object.
    Json,
}

/// Watches an instance; without a name the one that runs.
///
/// # Errors
/// It does not run, or does not answer, and it was to be shown once; there is no terminal.
pub(crate) fn watch(folders: &Folders, name: Option<Name>, show: Show, every: Duration) -> Result<(), Failed> {
    let name = name.map_or_else(|| only_one(folders), Ok)?;
    // So that what is wrong is said as a line, and not on a screen that vanishes.
    let first = sample(folders, &name).map_err(Failed::new)?;
    match show {
        Show::Live if io::stdout().is_terminal() && io::stdin().is_terminal() => live(folders, name, first, every),
        Show::Live | Show::Once => once(folders, &name, &first, every).map(|view| print(&format::plain(&view))),
        Show::Json => once(folders, &name, &first, every).map(|view| print(&format!("{:#}\n", view.json()))),
    }
}

fn print(text: &str) {
    // Nobody may be left to read it.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn only_one(folders: &Folders) -> Result<Name, Failed> {
    let running = list(folders).map_err(|error| Failed::new(format!("cannot list instances: {error}")))?;
    let mut names: Vec<Name> = running.into_iter().map(|(name, _)| name).collect();
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => Err(Failed::new(String::from("no instance is running"))),
        (Some(_), false) => {
            Err(Failed::new(String::from("several instances are running: -n NAME; ucaffeine -L lists them")))
        }
    }
}

/// One look, or why there is nothing to be seen.
fn sample(folders: &Folders, name: &Name) -> Result<Sample, String> {
    let state = match look(folders, name).map_err(|error| format!("cannot look for {name}: {error}"))? {
        Entry::Nothing => return Err(format!("no instance {name} is running")),
        Entry::Running(None) => return Err(format!("{name} is starting or ending; try again")),
        Entry::Running(Some(state)) => state,
    };
    // Each time anew: a conversation in which nothing is said ends after a while.
    let told = Client::connect(&folders.run(name)).and_then(|mut client| client.ask("top", json!({}), ANSWER_MAX));
    let told = told.map_err(|why| format!("{name} (pid {}): {why}", state.pid))?;
    Sample::read(&told, state.pid).ok_or_else(|| format!("{name} (pid {}): its answer cannot be read", state.pid))
}

fn once(folders: &Folders, name: &Name, first: &Sample, every: Duration) -> Result<View, Failed> {
    std::thread::sleep(every);
    let second = sample(folders, name).map_err(Failed::new)?;
    match second.follows(first) {
        true => Ok(second.since(first, name.as_str())),
        false => Err(Failed::new(format!("{name} was restarted meanwhile"))),
    }
}

fn live(folders: &Folders, name: Name, first: Sample, every: Duration) -> Result<(), Failed> {
    let colour = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let screen = Screen::new(name.as_str().to_owned(), colour);
    let (looks, looked) = mpsc::channel();
    let (ends, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        // Of its own: while an instance does not answer, keys do.
        scope.spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                if looks.send(sample(folders, &name)).is_err() {
                    return;
                }
            }
        });
        let shown = ratatui::try_init().and_then(|terminal| show(terminal, screen, first, &looked));
        ratatui::restore();
        drop(ends);
        shown.map_err(|error| Failed::new(format!("the terminal: {error}")))
    })
}

fn show(
    mut terminal: ratatui::DefaultTerminal,
    mut screen: Screen,
    first: Sample,
    looked: &mpsc::Receiver<Result<Sample, String>>,
) -> io::Result<()> {
    let mut last = Some(first);
    let mut changed = true;
    loop {
        while let Ok(look) = looked.try_recv() {
            changed |= !screen.paused;
            if !screen.paused {
                learn(&mut screen, &mut last, look);
            }
        }
        if std::mem::take(&mut changed) {
            terminal.draw(|frame| screen.draw(frame))?;
        }
        if event::poll(KEY_POLL)? {
            changed = true;
            if is_over(&mut screen, &event::read()?) {
                return Ok(());
            }
        }
    }
}

fn learn(screen: &mut Screen, last: &mut Option<Sample>, look: Result<Sample, String>) {
    match look {
        Ok(sample) => {
            screen.trouble = None;
            match last {
                Some(earlier) if sample.follows(earlier) => screen.view = Some(sample.since(earlier, &screen.name)),
                _ => {
                    screen.view = None;
                    screen.trouble = Some(format!("restarted (pid {})", sample.pid));
                }
            }
            *last = Some(sample);
        }
        Err(why) => screen.trouble = Some(format!("{why}; waiting for it (q quits)")),
    }
}

/// Does what a key says; true when it says that this is enough.
fn is_over(screen: &mut Screen, event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    if key.kind == KeyEventKind::Release {
        return false;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Esc if screen.help => screen.help = false,
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('p') => screen.paused = !screen.paused,
        KeyCode::Char('s') => screen.sort = screen.sort.next(),
        KeyCode::Char('?' | 'h') => screen.help = !screen.help,
        _ => {}
    }
    false
}

#[cfg(test)]
mod tests {
    use super::sample::tests::told;
    use super::*;
    use ratatui::crossterm::event::KeyEvent;

    fn key(code: KeyCode) -> Event {
        Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys() {
        let mut screen = Screen::new("shop".into(), true);
        for (code, over) in [('p', false), ('s', false), ('?', false), ('x', false), ('q', true)] {
            assert_eq!(is_over(&mut screen, &key(KeyCode::Char(code))), over, "{code}");
        }
        assert!(screen.paused && screen.help && screen.sort == screen::Sort::Count);
        assert!(!is_over(&mut screen, &key(KeyCode::Esc)) && !screen.help, "the help closes first");
        assert!(is_over(&mut screen, &key(KeyCode::Esc)));
        assert!(is_over(&mut screen, &Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL))));
        assert!(!is_over(&mut screen, &key(KeyCode::Char('c'))));
        assert!(!is_over(&mut screen, &Event::Resize(10, 10)));
    }

    #[test]
    fn an_instance_may_go_and_come_back() {
        let read = |uptime_ms, pid| Sample::read(&told(uptime_ms, 10, json!([])), pid).unwrap();
        let mut screen = Screen::new("shop".into(), true);
        let mut last = Some(read(1000, 7));
        learn(&mut screen, &mut last, Ok(read(2000, 7)));
        assert!(screen.view.is_some() && screen.trouble.is_none());
        learn(&mut screen, &mut last, Err("no instance shop is running".into()));
        assert!(screen.trouble.as_ref().is_some_and(|line| line.contains("waiting for it")));
        learn(&mut screen, &mut last, Ok(read(50, 8)));
        assert_eq!(screen.trouble.as_deref(), Some("restarted (pid 8)"));
        assert!(screen.view.is_none());
        learn(&mut screen, &mut last, Ok(read(1050, 8)));
        assert!(screen.view.is_some() && screen.trouble.is_none());
    }
}
