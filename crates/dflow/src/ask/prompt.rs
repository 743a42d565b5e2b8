//! Puts questions to whoever sits at the terminal.

use std::io;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    Asked, Prompt, Question, Stopped,
    frame::{Frame, Layout, Words},
    line::{Line, held, is_typed},
    list::List,
    screen::Screen,
};
use crate::render::{Style, clean_line};

/// Questions in the terminal, which is taken for them until this goes.
pub(super) struct InTerminal {
    style: Style,
    screen: Screen,
}

/// A question that is being answered.
trait Ask {
    fn press(&mut self, key: KeyEvent);
    fn paste(&mut self, text: &str);
    /// What Enter gives, to be left on the terminal; none if it is no answer yet.
    fn enter(&mut self) -> Option<String>;
    fn frame(&self, words: &Words, layout: Layout) -> Frame;
}

impl InTerminal {
    /// Takes the terminal.
    pub(super) fn open(style: Style) -> Result<Self, Stopped> {
        Ok(Self { style, screen: Screen::open()? })
    }

    fn layout(&self) -> Layout {
        Layout { style: self.style, size: self.screen.size() }
    }

    /// Shows a question until it is answered. Esc, Ctrl-C and Ctrl-D end the whole: at the last
    /// question a field that they skip would send what nobody has sent.
    fn ask(&mut self, words: &Words, ask: &mut dyn Ask) -> Result<(), Stopped> {
        loop {
            // Of many keys that come at once, and of what is pasted, the last is seen.
            if !self.screen.has_next()? {
                self.screen.paint(ask.frame(words, self.layout()))?;
            }
            match self.screen.next()? {
                Event::Key(key) if key.kind == KeyEventKind::Release => {}
                Event::Key(key) if stops(key) => {
                    let lines = self.layout().given(words, None);
                    self.screen.leave(&lines)?;
                    return Err(Stopped);
                }
                Event::Key(key) if enters(key) => {
                    if let Some(answer) = ask.enter() {
                        let lines = self.layout().given(words, Some(&answer));
                        return Ok(self.screen.leave(&lines)?);
                    }
                }
                Event::Key(key) => ask.press(key),
                Event::Paste(text) => ask.paste(&text),
                // It is painted anew, whatever else happened.
                _ => {}
            }
        }
    }
}

fn stops(key: KeyEvent) -> bool {
    let ends = matches!(key.code, KeyCode::Char('c' | 'd'));
    key.code == KeyCode::Esc || (ends && held(key) == KeyModifiers::CONTROL)
}

fn enters(key: KeyEvent) -> bool {
    // Some terminals, and whoever drives one, send the end of a line as Ctrl-J.
    let end = key.code == KeyCode::Char('j') && held(key) == KeyModifiers::CONTROL;
    end || (key.code == KeyCode::Enter && !held(key).contains(KeyModifiers::ALT))
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Words {
    pub(super) fn new(label: &str) -> Self {
        Self { label: clean_line(label), below: Vec::new() }
    }

    pub(super) fn of(question: &Question<'_>, label: &str, how: &str) -> Self {
        let below = question.help.map(clean_line).into_iter().chain([how.to_owned()]);
        Self {
            label: clean_line(label),
            below: below.filter(|text| !text.trim().is_empty()).collect(),
        }
    }
}

/// What Enter does where a question may be skipped: what is filled in already it sends.
fn how_to_skip(optional: bool, is_filled: bool) -> &'static str {
    match (optional, is_filled) {
        (false, _) => "",
        (true, false) => "Enter alone skips it",
        (true, true) => "Enter sends what stands here; emptied, it is skipped",
    }
}

/// Stands first among the options of a question that may be skipped.
const SKIP: &str = "(skip)";

impl Prompt for InTerminal {
    fn confirm(&mut self, question: Question<'_>, usual: Option<bool>) -> Asked<bool> {
        let how = how_to_skip(question.optional, usual.is_some());
        let words = Words::of(&question, &format!("{} (y/n)", question.label), how);
        let mut ask = YesOrNo { answer: usual, optional: question.optional, nothing: false };
        self.ask(&words, &mut ask)?;
        Ok(ask.answer)
    }

    fn choose(
        &mut self,
        question: Question<'_>,
        options: &[String],
        usual: Option<usize>,
    ) -> Asked<usize> {
        let how = "↑ ↓ move, typing filters, Enter chooses";
        let words = Words::of(&question, question.label, how);
        let skip = question.optional.then(|| SKIP.to_owned());
        let before = usize::from(skip.is_some());
        let options = skip.into_iter().chain(options.iter().map(|option| clean_line(option)));
        let mut one = List::of_one(options.collect(), usual.map_or(0, |at| at + before));
        self.ask(&words, &mut one)?;
        Ok(one.chosen().and_then(|index| index.checked_sub(before)))
    }

    fn choose_several(
        &mut self,
        question: Question<'_>,
        options: &[String],
        usual: &[usize],
    ) -> Asked<Vec<usize>> {
        let how = match question.optional {
            true => "↑ ↓ move, Space ticks, typing filters, Enter ends it; nothing ticked skips it",
            false => "↑ ↓ move, Space ticks, typing filters, Enter ends it",
        };
        let words = Words::of(&question, question.label, how);
        let options = options.iter().map(|option| clean_line(option)).collect();
        let mut several = List::of_several(options, usual);
        self.ask(&words, &mut several)?;
        let ticked = several.ticked();
        Ok(Some(ticked).filter(|ticked| !question.optional || !ticked.is_empty()))
    }

    fn line(&mut self, question: Question<'_>, usual: &str) -> Asked<String> {
        let how = how_to_skip(question.optional, !usual.is_empty());
        let words = Words::of(&question, question.label, how);
        let mut typed = Typed { line: Line::new(usual), hidden: false };
        self.ask(&words, &mut typed)?;
        Ok(Some(typed.line.text().to_owned()))
    }

    fn secret(&mut self, label: &str) -> Result<String, Stopped> {
        let mut secret = Typed { line: Line::default(), hidden: true };
        self.ask(&Words::new(label), &mut secret)?;
        Ok(secret.line.text().to_owned())
    }

    fn complain(&mut self, message: &str) {
        let (style, layout) = (self.style, self.layout());
        let lines = layout.indented(&clean_line(message), |line| style.red(line));
        // Where the terminal is gone, the next question tells.
        self.screen.leave(&lines).ok();
    }
}

/// A line that is typed.
struct Typed {
    line: Line,
    /// Whether nobody may read it.
    hidden: bool,
}

impl Ask for Typed {
    fn press(&mut self, key: KeyEvent) {
        self.line.press(key);
    }

    fn paste(&mut self, text: &str) {
        // The end of a line that was copied with it is no part of it.
        self.line.insert(text.trim_end_matches(['\r', '\n']));
    }

    fn enter(&mut self) -> Option<String> {
        Some(if self.hidden { String::new() } else { self.line.text().to_owned() })
    }

    fn frame(&self, words: &Words, layout: Layout) -> Frame {
        match self.hidden {
            true => layout.line(words, &Line::default()),
            false => layout.line(words, &self.line),
        }
    }
}

/// A yes, a no, or nothing.
struct YesOrNo {
    answer: Option<bool>,
    optional: bool,
    /// Whether Enter came though there is nothing and must be something.
    nothing: bool,
}

impl YesOrNo {
    fn word(&self) -> &'static str {
        match self.answer {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        }
    }
}

impl Ask for YesOrNo {
    fn press(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Char('y' | 'Y') if is_typed(key) => self.answer = Some(true),
            KeyCode::Char('n' | 'N') if is_typed(key) => self.answer = Some(false),
            KeyCode::Backspace | KeyCode::Delete => self.answer = None,
            // The rest of a word, or a slip.
            _ => {}
        }
    }

    fn paste(&mut self, text: &str) {
        match text.trim().to_lowercase().as_str() {
            "y" | "yes" => self.answer = Some(true),
            "n" | "no" => self.answer = Some(false),
            _ => {}
        }
    }

    fn enter(&mut self) -> Option<String> {
        self.nothing = self.answer.is_none() && !self.optional;
        (!self.nothing).then(|| self.word().to_owned())
    }

    fn frame(&self, words: &Words, layout: Layout) -> Frame {
        let needed = self.nothing && self.answer.is_none();
        let needed = needed.then(|| "press y or n, then Enter".to_owned());
        let below = needed.into_iter().chain(words.below.iter().cloned()).collect();
        let words = Words { label: words.label.clone(), below };
        layout.line(&words, &Line::new(self.word()))
    }
}

impl Ask for List {
    fn press(&mut self, key: KeyEvent) {
        self.press(key);
    }

    fn paste(&mut self, text: &str) {
        self.paste(text);
    }

    fn enter(&mut self) -> Option<String> {
        self.answer()
    }

    fn frame(&self, words: &Words, layout: Layout) -> Frame {
        layout.list(words, self)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::frame::Size, *};

    fn key(code: KeyCode, held: KeyModifiers) -> KeyEvent {
        KeyEvent::new(code, held)
    }

    #[test]
    fn whoever_leaves_a_question_leaves_all_of_them() {
        let (none, ctrl) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        for (code, held, ends) in [
            (KeyCode::Esc, none, true),
            (KeyCode::Char('c'), ctrl, true),
            (KeyCode::Char('d'), ctrl, true),
            (KeyCode::Char('c'), none, false),
            (KeyCode::Char('d'), KeyModifiers::ALT, false),
            (KeyCode::Char('x'), ctrl, false),
        ] {
            assert_eq!(stops(key(code, held)), ends, "{code:?} {held:?}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let layout = Layout { style: Style::plain(), size: Size { columns: 80, rows: 24 } };
        let words = Words { label: "key".into(), below: Vec::new() };
        let mut secret = Typed { line: Line::default(), hidden: true };
        secret.press(key(KeyCode::Char('a'), KeyModifiers::NONE));
        secret.paste("bc\n");
        assert_eq!(secret.frame(&words, layout).lines, ["? key  "]);
        assert_eq!(secret.enter().as_deref(), Some(""));
        assert_eq!(secret.line.text(), "abc");
    }

    #[test]
    fn a_yes_or_no_is_neither_before_a_key_says_so() {
        let ask = |optional| YesOrNo { answer: None, optional, nothing: false };
        assert_eq!(ask(true).enter().as_deref(), Some(""), "skipped");
        let mut needed = ask(false);
        assert_eq!(needed.enter(), None);
        let layout = Layout { style: Style::plain(), size: Size { columns: 80, rows: 24 } };
        let words = Words { label: "sure".into(), below: Vec::new() };
        assert_eq!(needed.frame(&words, layout).lines[1], "  press y or n, then Enter");
        for (typed, answer) in
            [("yes", Some(true)), ("maybe not", Some(false)), ("N", Some(false)), ("x", None)]
        {
            let mut ask = ask(false);
            for c in typed.chars() {
                let shift = if c.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
                ask.press(key(KeyCode::Char(c), shift));
            }
            assert_eq!(ask.answer, answer, "{typed}");
            ask.press(key(KeyCode::Char('y'), KeyModifiers::CONTROL));
            assert_eq!(ask.answer, answer, "{typed}");
            ask.press(key(KeyCode::Backspace, KeyModifiers::NONE));
            assert_eq!(ask.answer, None);
            ask.paste(" Yes\n");
            assert_eq!(ask.answer, Some(true));
        }
    }
}
