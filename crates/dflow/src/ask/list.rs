//! A list of which somebody chooses, and the keys that do so.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::line::{Line, held};

/// How many options a page key passes.
const PAGE: usize = 10;

/// Options of which one is at hand, or several are ticked. What is typed leaves those that have it.
#[derive(Debug)]
pub(super) struct List {
    options: Vec<String>,
    filter: Line,
    /// The options that have what was typed.
    shown: Vec<usize>,
    /// Which of those is at hand.
    at: usize,
    /// Which of all are ticked; none where one is chosen.
    ticked: Option<Vec<bool>>,
}

impl List {
    /// A list of which one is chosen.
    pub(super) fn of_one(options: Vec<String>, usual: usize) -> Self {
        let shown: Vec<usize> = (0..options.len()).collect();
        let at = usual.min(options.len().saturating_sub(1));
        Self { options, filter: Line::default(), shown, at, ticked: None }
    }

    /// A list of which any number is chosen.
    pub(super) fn of_several(options: Vec<String>, usual: &[usize]) -> Self {
        let ticked = (0..options.len()).map(|index| usual.contains(&index)).collect();
        Self { ticked: Some(ticked), ..Self::of_one(options, 0) }
    }

    pub(super) fn filter(&self) -> &Line {
        &self.filter
    }

    /// How many options there are, and how many have what was typed.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.options.len(), self.shown.len())
    }

    /// Where the option at hand is among those that have what was typed.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// An option that has what was typed, and whether it is ticked, where it can be.
    pub(super) fn shown(&self, place: usize) -> Option<(&str, Option<bool>)> {
        let index = *self.shown.get(place)?;
        let ticked = self.ticked.as_ref().map(|ticked| ticked[index]);
        Some((&self.options[index], ticked))
    }

    /// The option at hand; none if no option has what was typed.
    pub(super) fn chosen(&self) -> Option<usize> {
        self.shown.get(self.at).copied()
    }

    /// All that are ticked.
    pub(super) fn ticked(&self) -> Vec<usize> {
        let ticked = self.ticked.iter().flatten().enumerate();
        ticked.filter(|(_, ticked)| **ticked).map(|(index, _)| index).collect()
    }

    /// What is chosen, by its names; none while nothing is that must be.
    pub(super) fn answer(&self) -> Option<String> {
        let chosen = match self.ticked {
            Some(_) => self.ticked(),
            None => vec![self.chosen()?],
        };
        let names: Vec<&str> = chosen.iter().map(|index| self.options[*index].as_str()).collect();
        Some(names.join(", "))
    }

    /// Does what a key does.
    pub(super) fn press(&mut self, key: KeyEvent) {
        let last = self.shown.len().saturating_sub(1);
        let (up, down) = (self.at.checked_sub(1).unwrap_or(last), self.at + 1);
        let down = if down > last { 0 } else { down };
        let with_ctrl = held(key) == KeyModifiers::CONTROL;
        match key.code {
            KeyCode::Up => self.at = up,
            KeyCode::Char('p') if with_ctrl => self.at = up,
            KeyCode::Down => self.at = down,
            KeyCode::Char('n') if with_ctrl => self.at = down,
            KeyCode::PageUp => self.at = self.at.saturating_sub(PAGE),
            KeyCode::PageDown => self.at = (self.at + PAGE).min(last),
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = last,
            KeyCode::Char(' ') if held(key).is_empty() && self.ticked.is_some() => {
                if let (Some(index), Some(ticked)) = (self.chosen(), &mut self.ticked) {
                    ticked[index] = !ticked[index];
                }
            }
            _ => {
                let before = self.filter.text().to_owned();
                self.filter.press(key);
                self.sift(&before);
            }
        }
    }

    /// Takes what is pasted for typed.
    pub(super) fn paste(&mut self, text: &str) {
        let before = self.filter.text().to_owned();
        self.filter.insert(text.lines().next().unwrap_or_default());
        self.sift(&before);
    }

    fn sift(&mut self, before: &str) {
        let typed = self.filter.text().trim().to_lowercase();
        if before == self.filter.text() {
            return;
        }
        let kept = self.chosen();
        let has = |index: &usize| self.options[*index].to_lowercase().contains(&typed);
        self.shown = (0..self.options.len()).filter(has).collect();
        // What was at hand stays so, unless it went.
        self.at = self.shown.iter().position(|index| Some(*index) == kept).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(list: &mut List, code: KeyCode) {
        list.press(KeyEvent::new(code, KeyModifiers::NONE));
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().copied().map(String::from).collect()
    }

    #[test]
    fn keys_go_up_and_down_and_around() {
        use KeyCode::{Down, End, Home, PageDown, PageUp, Up};
        let options: Vec<String> = (0..60).map(|n| format!("option {n}")).collect();
        for (pressed, chosen) in [
            (&[][..], 7),
            (&[Down], 8),
            (&[Up], 6),
            (&[Home, Up], 59),
            (&[End, Down], 0),
            (&[PageDown, PageDown], 27),
            (&[PageUp], 0),
            (&[End, PageDown], 59),
        ] {
            let mut list = List::of_one(options.clone(), 7);
            pressed.iter().for_each(|code| press(&mut list, *code));
            assert_eq!(list.chosen(), Some(chosen), "{pressed:?}");
        }
        let mut list = List::of_one(options, 7);
        list.press(KeyEvent::new(KeyCode::Char('n'), KeyModifiers::CONTROL));
        list.press(KeyEvent::new(KeyCode::Char('x'), KeyModifiers::CONTROL));
        assert_eq!((list.chosen(), list.filter().text()), (Some(8), ""));
    }

    #[test]
    fn what_is_typed_leaves_the_options_that_have_it() {
        let mut list = List::of_one(words(&["Red", "Green", "Dark red"]), 1);
        "RED".chars().for_each(|c| press(&mut list, KeyCode::Char(c)));
        assert_eq!((list.counts(), list.chosen()), ((3, 2), Some(0)));
        press(&mut list, KeyCode::Down);
        assert_eq!(list.chosen(), Some(2));
        // What is at hand stays at hand while it is there.
        press(&mut list, KeyCode::Backspace);
        assert_eq!(list.chosen(), Some(2));
        list.paste("x\ny");
        assert_eq!((list.chosen(), list.filter().text()), (None, "REx"));
        press(&mut list, KeyCode::Up);
        press(&mut list, KeyCode::Down);
        assert_eq!(list.chosen(), None);
    }

    #[test]
    fn several_are_ticked_and_unticked() {
        let mut list = List::of_several(words(&["a", "b", "c"]), &[2]);
        press(&mut list, KeyCode::Char(' '));
        press(&mut list, KeyCode::Char('c'));
        assert_eq!(list.shown(0), Some(("c", Some(true))));
        press(&mut list, KeyCode::Char(' '));
        assert_eq!(list.ticked(), [0], "ticks stay with options that are not shown");
        assert_eq!(list.answer().as_deref(), Some("a"));
        let mut empty = List::of_several(Vec::new(), &[]);
        press(&mut empty, KeyCode::Char(' '));
        press(&mut empty, KeyCode::Up);
        assert_eq!(empty.ticked(), [] as [usize; 0]);
    }
}
