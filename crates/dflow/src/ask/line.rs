//! A line that somebody types, and the keys that change it.

use std::ops::Range;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use unicode_segmentation::UnicodeSegmentation as _;

/// A text, and where in it the next letter goes.
///
/// What is pasted may have several lines, and keeps them; Alt-Enter begins one.
#[derive(Debug, Default)]
pub(super) struct Line {
    text: String,
    /// In bytes; never within what is one letter to whoever reads.
    cursor: usize,
}

impl Line {
    /// A text that is to be changed, or taken as it is.
    pub(super) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { cursor: text.len(), text }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Does what a key does. One that does nothing to a line types nothing either: what comes with
    /// Ctrl or Alt is no letter.
    pub(super) fn press(&mut self, key: KeyEvent) {
        let held = held(key);
        let by_word = held.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        match key.code {
            KeyCode::Char(c) if is_typed(key) => self.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Enter => self.insert("\n"),
            KeyCode::Left if by_word => self.cursor = self.word_before(),
            KeyCode::Right if by_word => self.cursor = self.word_after(),
            KeyCode::Left => self.cursor = self.before(),
            KeyCode::Right => self.cursor = self.after(),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            KeyCode::Backspace if by_word => self.remove(self.word_before()..self.cursor),
            KeyCode::Delete if by_word => self.remove(self.cursor..self.word_after()),
            KeyCode::Backspace => self.remove(self.before()..self.cursor),
            KeyCode::Delete => self.remove(self.cursor..self.after()),
            KeyCode::Char(c) if held == KeyModifiers::CONTROL => match c {
                'a' => self.cursor = 0,
                'e' => self.cursor = self.text.len(),
                'b' => self.cursor = self.before(),
                'f' => self.cursor = self.after(),
                'h' => self.remove(self.before()..self.cursor),
                'w' => self.remove(self.word_before()..self.cursor),
                'u' => self.remove(0..self.cursor),
                'k' => self.remove(self.cursor..self.text.len()),
                _ => {}
            },
            KeyCode::Char(c) if held == KeyModifiers::ALT => match c {
                'b' => self.cursor = self.word_before(),
                'f' => self.cursor = self.word_after(),
                'd' => self.remove(self.cursor..self.word_after()),
                _ => {}
            },
            _ => {}
        }
    }

    /// Inserts what was typed or pasted. Of control characters only tabs and ends of lines are text.
    pub(super) fn insert(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let text: String =
            text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        self.text.insert_str(self.cursor, &text);
        let end = self.cursor + text.len();
        // It may have become one letter with what stands behind it.
        let mut ends = self.text.grapheme_indices(true).map(|(at, letter)| at + letter.len());
        self.cursor = ends.find(|at| *at >= end).unwrap_or(end);
    }

    fn remove(&mut self, range: Range<usize>) {
        self.cursor = range.start;
        self.text.drain(range);
    }

    fn before(&self) -> usize {
        let letter = self.text[..self.cursor].graphemes(true).next_back();
        self.cursor - letter.map_or(0, str::len)
    }

    fn after(&self) -> usize {
        let letter = self.text[self.cursor..].graphemes(true).next();
        self.cursor + letter.map_or(0, str::len)
    }

    fn word_before(&self) -> usize {
        let before = self.text[..self.cursor].trim_end_matches(is_between);
        before.trim_end_matches(|c| !is_between(c)).len()
    }

    fn word_after(&self) -> usize {
        let after = self.text[self.cursor..].trim_start_matches(is_between);
        self.text.len() - after.trim_start_matches(|c| !is_between(c)).len()
    }
}

fn is_between(c: char) -> bool {
    !c.is_alphanumeric()
}

/// What is held down with a key, but for Shift, which makes another letter.
pub(super) fn held(key: KeyEvent) -> KeyModifiers {
    key.modifiers - KeyModifiers::SHIFT
}

/// Whether a key types its letter.
pub(super) fn is_typed(key: KeyEvent) -> bool {
    // On Windows AltGr, with which letters are typed, comes as both.
    let alt_gr = cfg!(windows) && held(key) == KeyModifiers::CONTROL | KeyModifiers::ALT;
    held(key).is_empty() || alt_gr
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(line: &mut Line, code: KeyCode, held: KeyModifiers) {
        line.press(KeyEvent::new(code, held));
    }

    /// Types letters, with `^` before those that are typed with Ctrl and `~` before those with Alt.
    fn keys(line: &mut Line, keys: &str) {
        let mut held = KeyModifiers::NONE;
        for c in keys.chars() {
            match c {
                '^' => held |= KeyModifiers::CONTROL,
                '~' => held |= KeyModifiers::ALT,
                c => {
                    let shift = if c.is_uppercase() { KeyModifiers::SHIFT } else { held };
                    press(line, KeyCode::Char(c), held | shift);
                    held = KeyModifiers::NONE;
                }
            }
        }
    }

    #[test]
    fn only_letters_are_typed() {
        let mut line = Line::default();
        keys(&mut line, "Jan^g^x~x^~ye^p^n^t~Z");
        assert_eq!(line.text(), "Jane");
        press(&mut line, KeyCode::Char('s'), KeyModifiers::SUPER);
        press(&mut line, KeyCode::F(1), KeyModifiers::NONE);
        press(&mut line, KeyCode::Tab, KeyModifiers::NONE);
        assert_eq!((line.text(), line.cursor()), ("Jane", 4));
        press(&mut line, KeyCode::Enter, KeyModifiers::ALT);
        assert_eq!(line.text(), "Jane\n");
    }

    #[test]
    fn the_keys_of_a_shell_edit_it() {
        for (typed, text, cursor) in [
            ("Jane^aX", "XJane", 1),
            ("Jane^a^e!", "Jane!", 5),
            ("Jane^b^bX^fY", "JaXnYe", 5),
            ("Jane^h", "Jan", 3),
            ("one two^w", "one ", 4),
            ("one two^u", "", 0),
            ("one two~b^k", "one ", 4),
            ("one two~b~b~d", " two", 0),
            ("one two^a~fX", "oneX two", 4),
            ("one  ^w^w^w", "", 0),
        ] {
            let mut line = Line::default();
            keys(&mut line, typed);
            assert_eq!((line.text(), line.cursor()), (text, cursor), "{typed}");
        }
    }

    #[test]
    fn the_keys_with_names_edit_it() {
        use KeyCode::{Backspace, Delete, End, Home, Left, Right};
        let (plain, ctrl, alt) = (KeyModifiers::NONE, KeyModifiers::CONTROL, KeyModifiers::ALT);
        for (pressed, text, cursor) in [
            (&[(Left, plain), (Backspace, plain)][..], "one to", 5),
            (&[(Left, plain), (Delete, plain)], "one tw", 6),
            (&[(Home, plain), (Delete, plain)], "ne two", 0),
            (&[(Home, plain), (Right, plain), (Delete, plain)], "oe two", 1),
            (&[(Home, plain), (End, plain), (Delete, plain)], "one two", 7),
            (&[(Left, ctrl)], "one two", 4),
            (&[(Left, alt), (Left, alt), (Right, ctrl)], "one two", 3),
            (&[(Backspace, alt)], "one ", 4),
            (&[(Home, plain), (Delete, ctrl)], " two", 0),
            (&[(Home, plain), (Left, plain), (Backspace, plain)], "one two", 0),
        ] {
            let mut line = Line::new("one two");
            for (code, held) in pressed {
                press(&mut line, *code, *held);
            }
            assert_eq!((line.text(), line.cursor()), (text, cursor), "{pressed:?}");
        }
    }

    #[test]
    fn what_is_one_letter_to_the_eye_goes_as_one() {
        let mut line = Line::new("a👩\u{200d}🔬");
        press(&mut line, KeyCode::Left, KeyModifiers::NONE);
        assert_eq!(line.cursor(), 1);
        press(&mut line, KeyCode::Delete, KeyModifiers::NONE);
        assert_eq!(line.text(), "a");
        // An accent that is typed before a letter joins the one before it.
        let mut line = Line::new("eb");
        press(&mut line, KeyCode::Left, KeyModifiers::NONE);
        line.insert("\u{301}");
        press(&mut line, KeyCode::Backspace, KeyModifiers::NONE);
        assert_eq!(line.text(), "b");
    }

    #[test]
    fn what_is_pasted_keeps_its_lines_and_loses_its_commands() {
        let mut line = Line::new("<>");
        press(&mut line, KeyCode::Left, KeyModifiers::NONE);
        line.insert("one\r\ntwo\rthree\tx\x1b[2J\u{7}");
        assert_eq!(line.text(), "<one\ntwo\nthree\tx[2J>");
        assert_eq!(line.cursor(), line.text().len() - 1);
    }
}
