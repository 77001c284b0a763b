//! Drawing: conversations, messages, input, status.

use super::app::{App, Tick};
use super::commands::HELP;
use super::items::Item;
use super::text::{clean, cut, width, wrap};
use hawser_client::store::Change;
use hawser_protocol::client::Phase;
use hawser_protocol::message::MessageRecord;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};
use std::time::{Duration, Instant};

/// A notice is shown so long.
const NOTICE: Duration = Duration::from_secs(8);
/// Below this width the list of conversations is left out.
const NARROW: u16 = 60;

const DIM: Style = Style::new().fg(Color::DarkGray);
const ACCENT: Color = Color::Cyan;

pub(crate) fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let [main, status] =
        Layout::vertical([Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
    let list = if main.width < NARROW {
        0
    } else {
        (main.width / 4).clamp(24, 34)
    };
    let [left, right] =
        Layout::horizontal([Constraint::Length(list), Constraint::Min(10)]).areas(main);
    if list > 0 {
        conversations(app, frame, left);
    }
    let [head, body, input] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(3),
    ])
    .areas(right);
    heading(app, frame, head);
    messages(app, frame, body);
    input_line(app, frame, input);
    status_line(app, frame, status);
    if app.help {
        help(frame);
    }
}

fn conversations(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let title = format!(" {} ", app.client.user());
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(DIM);
    let block = block.title(title.bold());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let rows = usize::from(inner.height / 2).max(1);
    let at = app
        .items
        .iter()
        .position(|item| Some(&item.id) == app.open_id());
    let first = at.unwrap_or(0).saturating_sub(rows.saturating_sub(1));
    let mut lines = Vec::new();
    for item in app.items.iter().skip(first).take(rows) {
        let open = Some(&item.id) == app.open_id();
        lines.extend(conversation(app, item, open, usize::from(inner.width)));
    }
    if app.items.is_empty() {
        lines.push(Line::styled("no conversation yet", DIM));
        lines.push(Line::styled("/dm USER opens one", DIM));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

fn conversation(app: &App, item: &Item, open: bool, columns: usize) -> [Line<'static>; 2] {
    let dot = match app.online(item) {
        Some(true) => Span::styled("● ", Style::new().fg(Color::Green)),
        Some(false) => Span::styled("○ ", DIM),
        None if item.id.is_group() => Span::styled("# ", DIM),
        None => Span::raw("  "),
    };
    let badge = match item.unread {
        0 => String::new(),
        n if n >= 100 => " 99+ ".into(),
        n => format!(" {n} "),
    };
    let room = columns.saturating_sub(3 + badge.len());
    let title = cut(&clean(&app.title(item)), room);
    let fill = " ".repeat(room.saturating_sub(width(&title)));
    let mut style = Style::new();
    if item.unread > 0 || open {
        style = style.add_modifier(Modifier::BOLD);
    }
    if open {
        style = style.fg(ACCENT);
    }
    let badge = Span::styled(badge, Style::new().fg(Color::Black).bg(Color::Green).bold());
    let first = Line::from(vec![
        dot,
        Span::styled(title, style),
        Span::raw(fill),
        badge,
    ]);
    let typing = app.typing_in(&item.id);
    let second = if !typing.is_empty() {
        Line::styled(
            format!("  {} types…", typing.join(", ")),
            Style::new().fg(Color::Green).italic(),
        )
    } else {
        let preview = item
            .newest
            .as_ref()
            .map(|r| preview(app, r))
            .unwrap_or_default();
        Line::styled(
            format!("  {}", cut(&preview, columns.saturating_sub(3))),
            DIM,
        )
    };
    [first, second]
}

fn preview(app: &App, record: &MessageRecord) -> String {
    let text = said(app, record);
    let mine = record.sender == *app.client.user() && Change::of(record).is_none();
    if mine { format!("you: {text}") } else { text }
}

/// What a message says, for the screen.
fn said(app: &App, record: &MessageRecord) -> String {
    let Some(change) = Change::of(record) else {
        let text = String::from_utf8_lossy(&record.body);
        return text.split('\n').map(clean).collect::<Vec<_>>().join("\n");
    };
    let by = app.name(record.sender.as_str()).to_owned();
    let whom: Vec<&str> = change.users.iter().map(|user| app.name(user)).collect();
    let whom = whom.join(", ");
    clean(&match change.op.as_str() {
        "create" => format!("{by} made the group {}", change.name),
        "add" => format!("{by} added {whom}"),
        "remove" => format!("{by} removed {whom}"),
        "leave" => format!("{whom} left"),
        "update" if change.name.is_empty() => format!("{by} changed the group's picture"),
        "update" => format!("{by} named the group {}", change.name),
        "admin" if change.admin => format!("{by} made {whom} an admin"),
        "admin" => format!("{whom} is no longer an admin"),
        op => format!("{by}: {op} {whom}"),
    })
}

fn heading(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let line = match app.item() {
        None => Line::styled(" Hawser — /help says what to type", DIM),
        Some(item) => {
            let mut words = app.presence_words(item);
            if item.row.gone {
                words = "you are no longer a member".into();
            }
            let typing = app.typing_in(&item.id);
            let title = clean(&app.title(item));
            let mut spans = vec![Span::raw(" "), title.bold().fg(ACCENT), Span::raw("  ")];
            match typing.is_empty() {
                true => spans.push(Span::styled(words, DIM)),
                false => spans.push(format!("{} types…", typing.join(", ")).green().italic()),
            }
            Line::from(spans)
        }
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn messages(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    let lines = message_lines(app, usize::from(area.width));
    let height = usize::from(area.height);
    let most = lines.len().saturating_sub(height);
    app.scroll = app.scroll.min(most);
    let first = most - app.scroll;
    let mut shown: Vec<Line<'_>> = lines.into_iter().skip(first).take(height).collect();
    let missing = height.saturating_sub(shown.len());
    shown.splice(0..0, std::iter::repeat_n(Line::raw(""), missing));
    frame.render_widget(Paragraph::new(shown), area);
}

fn message_lines(app: &App, columns: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if app.loading() {
        lines.push(Line::styled("  fetching older messages…", DIM));
    } else if app.at_start() && !app.messages().is_empty() {
        lines.push(Line::styled("  the beginning of the conversation", DIM));
    }
    let mut day = None;
    let mut previous: Option<&MessageRecord> = None;
    for record in app.messages() {
        let this_day = app.zone.day(record.stored_ts_ms);
        if day.replace(this_day) != Some(this_day) {
            let date = app.zone.date(record.stored_ts_ms);
            lines.push(Line::styled(format!("  ── {date} ──"), DIM));
            previous = None;
        }
        if Change::of(record).is_some() {
            let text = wrap(&said(app, record), columns.saturating_sub(4));
            let told = text.into_iter().map(|l| format!("  · {l}"));
            lines.extend(told.map(|l| Line::styled(l, DIM.italic())));
            previous = None;
            continue;
        }
        let same = previous.is_some_and(|p| {
            p.sender == record.sender && record.stored_ts_ms < p.stored_ts_ms + 300_000
        });
        let mine = record.sender == *app.client.user();
        let clock = app.zone.clock(record.stored_ts_ms);
        let sender = clean(app.name(record.sender.as_str()));
        let tick = mine.then(|| app.tick(record));
        let head = (!same).then_some(sender);
        lines.extend(bubble(
            head,
            &said(app, record),
            &clock,
            tick,
            mine,
            columns,
        ));
        previous = Some(record);
    }
    let mine = app.unsent.iter().filter(|s| Some(&s.chat) == app.open_id());
    for send in mine {
        let text = clean(&String::from_utf8_lossy(&send.body));
        let text = match &send.refused {
            Some(refusal) => format!(
                "{text}  [not sent: {}; /retry or /discard]",
                clean(&refusal.text)
            ),
            None => text,
        };
        let clock = app.zone.clock(send.send_ts_ms);
        let tick = Some(app.tick_unsent(send));
        lines.extend(bubble(None, &text, &clock, tick, true, columns));
    }
    lines
}

/// One message: who, when, what, and its tick.
fn bubble(
    head: Option<String>,
    text: &str,
    clock: &str,
    tick: Option<Tick>,
    mine: bool,
    columns: usize,
) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let colour = if mine { ACCENT } else { Color::Yellow };
    if let Some(head) = head {
        let head = if mine { "you".to_owned() } else { head };
        lines.push(Line::from(vec![
            Span::raw("  "),
            Span::styled(head, Style::new().fg(colour).bold()),
        ]));
    }
    let wrapped = wrap(text, columns.saturating_sub(14));
    let last = wrapped.len() - 1;
    for (n, text) in wrapped.into_iter().enumerate() {
        let time = if n == 0 {
            format!("  {clock} ")
        } else {
            " ".repeat(8)
        };
        let mut spans = vec![Span::styled(time, DIM), Span::raw(text)];
        if n == last
            && let Some(tick) = tick
        {
            spans.push(Span::raw("  "));
            spans.push(tick_span(tick));
        }
        lines.push(Line::from(spans));
    }
    lines
}

fn tick_span(tick: Tick) -> Span<'static> {
    match tick {
        Tick::Waiting => Span::styled("…", DIM),
        Tick::Queued => Span::styled("○", DIM),
        Tick::Sent => Span::styled("✓", DIM),
        Tick::Delivered => Span::styled("✓✓", Style::new().fg(Color::Gray)),
        Tick::Read => Span::styled("✓✓", Style::new().fg(Color::LightBlue).bold()),
        Tick::Refused => Span::styled("✗", Style::new().fg(Color::Red).bold()),
    }
}

fn input_line(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(DIM);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let columns = usize::from(inner.width).saturating_sub(1);
    let before = app.input.before_cursor().replace('\n', "⏎");
    let text = app.input.text().replace('\n', "⏎");
    // The part around the cursor that fits.
    let skipped = width(&before).saturating_sub(columns);
    let mut left = skipped;
    let shown: String = text
        .chars()
        .skip_while(|c| {
            let mut buffer = [0; 4];
            let w = width(c.encode_utf8(&mut buffer));
            let skip = left > 0;
            left = left.saturating_sub(w);
            skip
        })
        .collect();
    let line = match app.input.is_empty() {
        true if app.open_id().is_some() => Line::styled("write a message, or /help", DIM),
        true => Line::styled("/dm USER, or /help", DIM),
        false => Line::raw(shown),
    };
    frame.render_widget(Paragraph::new(line), inner);
    let at = u16::try_from(width(&before) - skipped).unwrap_or(u16::MAX);
    frame.set_cursor_position((inner.x.saturating_add(at), inner.y));
}

fn status_line(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let (mark, words) = phase(app);
    let mut spans = vec![Span::raw(" "), mark, Span::raw(" "), Span::raw(words)];
    let waiting = app.unsent.iter().filter(|s| s.refused.is_none()).count();
    if waiting > 0 {
        spans.push(Span::styled(
            format!("  {waiting} unsent"),
            Style::new().fg(Color::Yellow),
        ));
    }
    if app.reconnects > 0 {
        spans.push(Span::styled(
            format!("  {} reconnects", app.reconnects),
            DIM,
        ));
    }
    if app.scroll > 0 {
        spans.push(Span::styled("  scrolled up (PgDn)", DIM));
    }
    let notice = app.notice.as_ref().filter(|(at, _)| at.elapsed() < NOTICE);
    match notice {
        Some((_, text)) => spans.push(Span::styled(
            format!("  {}", clean(text)),
            Style::new().fg(Color::Yellow),
        )),
        None if !app.lost.is_empty() && app.phase != Phase::Live => {
            spans.push(Span::styled(format!("  {}", clean(&app.lost)), DIM));
        }
        None => spans.push(Span::styled("  /help  Ctrl-C leaves", DIM)),
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn phase(app: &App) -> (Span<'static>, String) {
    let dot = |colour| Span::styled("●", Style::new().fg(colour));
    match &app.phase {
        Phase::Live => (
            dot(Color::Green),
            format!("connected as {}", app.client.user()),
        ),
        Phase::Syncing | Phase::CatchingUp => (dot(Color::Yellow), "catching up".into()),
        Phase::Connecting => (dot(Color::Yellow), "connecting".into()),
        Phase::Waiting { .. } => {
            let left = app
                .retry_at
                .map(|at| at.saturating_duration_since(Instant::now()));
            let seconds = left.map_or(0, |left| left.as_secs() + 1);
            (
                dot(Color::Red),
                format!("offline, next attempt in {seconds} s"),
            )
        }
        Phase::Refused { code, text } => (
            dot(Color::Red),
            format!("refused: {} ({code})", clean(text)),
        ),
        Phase::Displaced => (dot(Color::Red), "this device is connected elsewhere".into()),
        Phase::Stopped => (dot(Color::DarkGray), "stopped".into()),
    }
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let keys = HELP.iter().map(|(key, _)| width(key)).max().unwrap_or(0);
    let texts = HELP.iter().map(|(_, text)| width(text)).max().unwrap_or(0);
    let room = usize::from(area.width).saturating_sub(keys + 6).min(texts);
    let mut lines = Vec::new();
    for (key, text) in HELP {
        for (n, text) in wrap(text, room).into_iter().enumerate() {
            let key = if n == 0 { *key } else { "" };
            let fill = " ".repeat(keys - width(key) + 2);
            let key = Span::styled(key, Style::new().fg(ACCENT));
            lines.push(Line::from(vec![
                Span::raw(" "),
                key,
                Span::raw(fill),
                Span::raw(text),
            ]));
        }
    }
    let size = |n: usize, most: u16| u16::try_from(n).unwrap_or(most).min(most);
    let columns = size(keys + room + 6, area.width);
    let rows = size(lines.len() + 2, area.height);
    let popup = Rect {
        x: area.x + (area.width - columns) / 2,
        y: area.y + (area.height - rows) / 2,
        width: columns,
        height: rows,
    };
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .title(" Help (Esc closes) ".bold());
    frame.render_widget(Clear, popup);
    frame.render_widget(Paragraph::new(lines).block(block), popup);
}
