//! The input line: text, cursor, and what was typed before.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Lines that can be called back.
const HISTORY_MAX: usize = 100;

/// One line being edited.
#[derive(Debug, Default)]
pub(crate) struct Input {
    text: Vec<char>,
    cursor: usize,
    history: Vec<String>,
    recalled: Option<usize>,
}

impl Input {
    /// Edits; true when the text changed, false when the key is none of ours or changes nothing.
    pub(crate) fn key(&mut self, key: KeyEvent) -> bool {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('a') if ctrl => self.cursor = 0,
            KeyCode::Char('e') if ctrl => self.cursor = self.text.len(),
            KeyCode::Char('u') if ctrl => return self.cut(0),
            KeyCode::Char('w') if ctrl => return self.cut(self.word_before()),
            KeyCode::Char('k') if ctrl => {
                self.text.truncate(self.cursor);
                return true;
            }
            KeyCode::Char(_) if ctrl => {}
            KeyCode::Char(c) => {
                self.text.insert(self.cursor, c);
                self.cursor += 1;
                return true;
            }
            KeyCode::Backspace if self.cursor > 0 => return self.cut(self.cursor - 1),
            KeyCode::Delete if self.cursor < self.text.len() => {
                self.text.remove(self.cursor);
                return true;
            }
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(self.text.len()),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            _ => {}
        }
        false
    }

    /// Pasted text, as it is (newlines included).
    pub(crate) fn paste(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let added: Vec<char> = text.chars().collect();
        let at = self.cursor;
        self.cursor += added.len();
        self.text.splice(at..at, added);
    }

    /// Takes the line and remembers it.
    pub(crate) fn take(&mut self) -> String {
        let text: String = self.text.drain(..).collect();
        self.cursor = 0;
        self.recalled = None;
        if !text.trim().is_empty() && self.history.last() != Some(&text) {
            self.history.push(text.clone());
            if self.history.len() > HISTORY_MAX {
                self.history.remove(0);
            }
        }
        text
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.cursor = 0;
        self.recalled = None;
    }

    /// Calls back what was typed before, or after.
    pub(crate) fn recall(&mut self, back: bool) {
        let at = match (self.recalled, back) {
            (None, true) => self.history.len().checked_sub(1),
            (Some(at), true) => Some(at.saturating_sub(1)),
            (Some(at), false) => Some(at + 1).filter(|at| *at < self.history.len()),
            (None, false) => None,
        };
        self.recalled = at;
        let text = at.and_then(|at| self.history.get(at));
        self.text = text.map(|t| t.chars().collect()).unwrap_or_default();
        self.cursor = self.text.len();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// What stands before the cursor.
    pub(crate) fn before_cursor(&self) -> String {
        self.text.iter().take(self.cursor).collect()
    }

    fn cut(&mut self, from: usize) -> bool {
        self.text.drain(from..self.cursor);
        self.cursor = from;
        true
    }

    fn word_before(&self) -> usize {
        let before = &self.text[..self.cursor];
        let end = before
            .iter()
            .rposition(|c| !c.is_whitespace())
            .map_or(0, |i| i + 1);
        before[..end]
            .iter()
            .rposition(|c| c.is_whitespace())
            .map_or(0, |i| i + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(input: &mut Input, code: KeyCode, modifiers: KeyModifiers) {
        input.key(KeyEvent::new(code, modifiers));
    }

    fn write(input: &mut Input, text: &str) {
        for c in text.chars() {
            press(input, KeyCode::Char(c), KeyModifiers::NONE);
        }
    }

    #[test]
    fn editing_keeps_text_and_cursor_together() {
        let mut input = Input::default();
        write(&mut input, "héllo wörld");
        press(&mut input, KeyCode::Char('w'), KeyModifiers::CONTROL);
        assert_eq!(input.text(), "héllo ");
        press(&mut input, KeyCode::Home, KeyModifiers::NONE);
        press(&mut input, KeyCode::Delete, KeyModifiers::NONE);
        write(&mut input, "H");
        assert_eq!(
            (input.text(), input.before_cursor()),
            ("Héllo ".into(), "H".into())
        );
        press(&mut input, KeyCode::Char('u'), KeyModifiers::CONTROL);
        assert_eq!(input.text(), "éllo ");
    }

    #[test]
    fn earlier_lines_are_called_back_in_order() {
        let mut input = Input::default();
        for line in ["one", "two"] {
            write(&mut input, line);
            assert_eq!(input.take(), line);
        }
        input.recall(true);
        input.recall(true);
        assert_eq!(input.text(), "one");
        input.recall(false);
        assert_eq!(input.text(), "two");
        input.recall(false);
        assert!(input.is_empty());
    }
}
