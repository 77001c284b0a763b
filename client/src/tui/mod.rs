//! `hawser chat`: the terminal client. Keys and events in, a screen out.

mod app;
mod commands;
mod input;
mod items;
pub(crate) mod text;
mod view;

use self::app::App;
use crate::cli::open;
use anyhow::Context;
use crossterm::event::{
    self, DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange,
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use crossterm::execute;
use hawser_client::{Event, Settings};
use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;

/// The screen is drawn anew at least this often: ages of typing, the wait for the next attempt.
const REDRAW: Duration = Duration::from_millis(500);
/// Keys that wait.
const KEYS_WAITING_MAX: usize = 256;
/// Lines of a page key.
const PAGE_LINES: usize = 10;

pub(crate) async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    if !stdout().is_terminal() {
        anyhow::bail!("`hawser chat` needs a terminal; `hawser send` and `hawser listen` do not");
    }
    let (client, mut events) = open(settings)?;
    let mut app = App::new(client.clone())?;
    if let Some(chat) = app.items.first().map(|item| item.id.clone()) {
        app.show(chat).await?;
    }
    let people = client.api().clone();
    let mut names = tokio::spawn(async move { people.demo_users().await });
    let mut names_known = false;
    let mut keys = read_keys();
    let mut terminal = ratatui::init();
    let _ = execute!(stdout(), EnableBracketedPaste, EnableFocusChange);
    let mut tick = tokio::time::interval(REDRAW);
    let result = loop {
        if let Err(error) = terminal.draw(|frame| view::draw(&mut app, frame)) {
            break Err(error.into());
        }
        let step = tokio::select! {
            event = events.recv() => match event {
                Some(event) => take_events(&mut app, event, &mut events).await,
                None => break Ok(()),
            },
            key = keys.recv() => match key {
                Some(key) => take_key(&mut app, key).await,
                None => break Ok(()),
            },
            people = &mut names, if !names_known => {
                names_known = true;
                if let Ok(Ok(people)) = people {
                    app.names = people.into_iter().map(|p| (p.user, p.name)).collect();
                }
                Ok(())
            }
            _ = tick.tick() => Ok(()),
        };
        if step.is_err() || app.quit {
            break step;
        }
    };
    let _ = execute!(stdout(), DisableBracketedPaste, DisableFocusChange);
    ratatui::restore();
    let unsent = app.unsent.iter().filter(|s| s.refused.is_none()).count();
    drop(app);
    client.stop().await;
    if unsent > 0 {
        println!("{unsent} unsent messages are kept and sent at the next start");
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Takes an event and those behind it, so that a burst is drawn once.
async fn take_events(
    app: &mut App,
    first: Event,
    events: &mut mpsc::Receiver<Event>,
) -> anyhow::Result<()> {
    let mut next = Some(first);
    while let Some(event) = next {
        app.event(event).await?;
        next = events.try_recv().ok();
    }
    Ok(())
}

/// A thread that reads the terminal: it blocks, and ends with the program.
fn read_keys() -> mpsc::Receiver<event::Event> {
    let (keys, inbox) = mpsc::channel(KEYS_WAITING_MAX);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if keys.blocking_send(event).is_err() {
                break;
            }
        }
    });
    inbox
}

async fn take_key(app: &mut App, event: event::Event) -> anyhow::Result<()> {
    match event {
        event::Event::Key(key) if key.kind != KeyEventKind::Release => press(app, key).await,
        event::Event::Paste(text) => {
            app.input.paste(&text);
            Ok(())
        }
        event::Event::FocusGained => app.focus(true).await,
        event::Event::FocusLost => app.focus(false).await,
        _ => Ok(()),
    }
}

async fn press(app: &mut App, key: KeyEvent) -> anyhow::Result<()> {
    let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    match key.code {
        KeyCode::Char('c' | 'd') if ctrl => app.quit = true,
        KeyCode::Esc if app.help => app.help = false,
        KeyCode::Esc => app.input.clear(),
        KeyCode::Enter if alt => app.input.paste("\n"),
        KeyCode::Enter => {
            app.help = false;
            app.submit().await?;
        }
        KeyCode::Up if alt => app.input.recall(true),
        KeyCode::Down if alt => app.input.recall(false),
        KeyCode::Up => app.step(false).await?,
        KeyCode::Down => app.step(true).await?,
        KeyCode::Char('p') if ctrl => app.step(false).await?,
        KeyCode::Char('n') if ctrl => app.step(true).await?,
        KeyCode::Tab => app.next_unread().await?,
        KeyCode::PageUp => app.scroll_by(PAGE_LINES, 0).await?,
        KeyCode::PageDown => app.scroll_by(0, PAGE_LINES).await?,
        _ => {
            if app.input.key(key) {
                typing(app).await.context("typing")?;
            }
        }
    }
    Ok(())
}

/// Tells the others that we type, or have taken it back.
async fn typing(app: &App) -> anyhow::Result<()> {
    let text = app.input.text();
    let command = text.starts_with('/');
    if let Some(chat) = app.open_id().cloned().filter(|_| !command) {
        app.client.typing(chat, text.is_empty()).await?;
    }
    Ok(())
}
