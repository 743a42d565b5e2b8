//! How a question looks: lines of text that fit into the terminal.

use textwrap::core::display_width;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use super::{line::Line, list::List};
use crate::render::{Style, clean, wrapped};

/// How far the lines are indented that stand below the first.
const INDENT: usize = 2;
/// How many lines of options are shown at once, where there is room.
const LIST_LINES: usize = 12;

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Size {
    /// How wide a line may be. The last column stays free: terminals differ in where the cursor is
    /// behind a letter in it.
    fn width(self) -> usize {
        self.columns.saturating_sub(1).max(8)
    }
}

/// What is on the terminal while somebody is asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) lines: Vec<String>,
    /// Line and column.
    pub(super) cursor: (usize, usize),
}

/// What is asked, made harmless for the terminal.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) label: String,
    /// Below it: what it is about, and how to answer.
    pub(super) below: Vec<String>,
}

/// How questions are laid out and colored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) style: Style,
    pub(super) size: Size,
}

impl Layout {
    /// A question with the line that answers it.
    pub(super) fn line(self, words: &Words, line: &Line) -> Frame {
        let (head, body, cursor) = self.typed(words, line);
        let below = self.below(&words.below);
        let most = self.size.rows.max(2);
        // What is typed comes first, then the question, then what stands below it.
        let head_lines = head.len().min(most.saturating_sub(body.len()).max(most / 2));
        let body_lines = body.len().min(most - head_lines);
        // A line that is longer than the terminal shows its part around the cursor.
        let first = (cursor.0 + 1).saturating_sub(body_lines);
        let left = most - head_lines - body_lines;
        let mut lines: Vec<String> = head.into_iter().take(head_lines).collect();
        let row = lines.len() + cursor.0 - first;
        lines.extend(body.into_iter().skip(first).take(body_lines));
        lines.extend(below.into_iter().take(left));
        Frame { lines, cursor: (row, cursor.1) }
    }

    /// A question, where nothing is painted over and its answer is typed below.
    pub(super) fn asked(self, words: &Words) -> Vec<String> {
        let mut lines = self.label("?", &words.label);
        lines.extend(self.below(&words.below));
        lines
    }

    /// A question with the options of which one or several answer it.
    pub(super) fn list(self, words: &Words, list: &List) -> Frame {
        let most = self.size.rows.max(2);
        let (head, body, cursor) = self.typed(words, list.filter());
        let mut lines: Vec<String> = head.into_iter().chain(body).collect();
        let row = lines.len() - 1;
        lines.drain(..lines.len().saturating_sub(most / 2));
        let cursor = (row.min(lines.len() - 1), cursor.1);
        let (all, shown) = list.counts();
        let count = match shown {
            0 if all > 0 => Some(format!("none of {all} has this; Backspace takes it back")),
            _ if shown < all => Some(format!("{shown} of {all} have this")),
            _ if all > LIST_LINES => Some(format!("{} of {all}", list.at() + 1)),
            _ => None,
        };
        let below = self.below(count.iter().chain(&words.below));
        let room = most - lines.len();
        lines.extend(self.options(list, room.saturating_sub(below.len()).max(room.min(3))));
        lines.extend(below.into_iter().take(most.saturating_sub(lines.len())));
        Frame { lines, cursor }
    }

    /// What stays of a question that was answered, or was not.
    pub(super) fn given(self, words: &Words, answer: Option<&str>) -> Vec<String> {
        let mark = if answer.is_some() { self.style.dim("›") } else { self.style.red("✗") };
        let mut lines = self.label(&mark, &words.label);
        let Some(answer) = answer.map(printable).filter(|answer| !answer.is_empty()) else {
            return lines;
        };
        let used = lines.last().map_or(0, |line| display_width(line));
        let beside = used + INDENT + answer.width() <= self.size.width();
        if let (true, Some(last)) = (beside, lines.last_mut()) {
            last.push_str(&format!("{:INDENT$}{}", "", self.style.cyan(&answer)));
        } else {
            lines.extend(self.indented(&answer, |line| self.style.cyan(line)));
        }
        lines
    }

    /// Text that stands below a question, or between two.
    pub(super) fn indented(self, text: &str, paint: impl Fn(&str) -> String) -> Vec<String> {
        let lines = wrapped(text, self.size.width() - INDENT).into_iter();
        lines.map(|line| format!("{:INDENT$}{}", "", paint(&line))).collect()
    }

    fn below<'a>(self, texts: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        let dim = |line: &str| self.style.dim(line);
        texts.into_iter().flat_map(|text| self.indented(text, dim)).collect()
    }

    fn label(self, mark: &str, label: &str) -> Vec<String> {
        let lines = wrapped(label, self.size.width() - INDENT).into_iter().enumerate();
        lines
            .map(|(index, line)| match index {
                0 => format!("{mark} {}", self.style.bold(&line)),
                _ => format!("{:INDENT$}{}", "", self.style.bold(&line)),
            })
            .collect()
    }

    /// The label but for its last line; that line with what was typed behind it, and the lines that
    /// this goes on in; and where in those the cursor is.
    fn typed(self, words: &Words, line: &Line) -> (Vec<String>, Vec<String>, (usize, usize)) {
        let width = self.size.width();
        let mut head = self.label(&self.style.green("?"), &words.label);
        let used = head.last().map_or(0, |line| display_width(line)) + INDENT;
        // Where the label leaves too little room, the next line has it.
        let beside = used + (width / 4).min(16) <= width;
        let mut column = if beside { used } else { INDENT };
        let mut rows = match (beside, head.pop()) {
            (true, Some(last)) => vec![format!("{last}{:INDENT$}", "")],
            (_, last) => {
                head.extend(last);
                vec![" ".repeat(INDENT)]
            }
        };
        let mut cursor = (0, column);
        let mut between = true;
        for (at, letter) in line.text().grapheme_indices(true) {
            let begins_word = std::mem::replace(&mut between, letter == " ") && !between;
            let letter = printable(letter);
            let word = line.text()[at..].split(' ').next().filter(|_| begins_word);
            let needed = word.map_or(0, |word| printable(word).width());
            // A word that is longer than a line is cut anyway.
            let moves = column + needed > width && INDENT + needed <= width && column > INDENT;
            let full = column + letter.width() > width;
            if moves || (full && !between) {
                rows.push(" ".repeat(INDENT));
                column = INDENT;
            }
            if at == line.cursor() {
                cursor = (rows.len() - 1, column);
            }
            // Nor does a blank begin a line.
            if between && full {
                continue;
            }
            column += letter.width();
            if let Some(row) = rows.last_mut() {
                row.push_str(&letter);
            }
        }
        if line.cursor() == line.text().len() {
            cursor = (rows.len() - 1, column);
        }
        (head, rows, cursor)
    }

    /// The options around the one at hand, on at most so many lines.
    fn options(self, list: &List, room: usize) -> Vec<String> {
        let most = room.min(LIST_LINES);
        let at = list.at();
        let Some(mut lines) = self.option(list, at) else { return Vec::new() };
        lines.truncate(most);
        let (mut first, mut last) = (at, at);
        // Half of the room is for those before it, where there are so many behind it.
        let mut grow = |lines: &mut Vec<String>, until: usize, before: bool| loop {
            let next = if before { first.checked_sub(1) } else { Some(last + 1) };
            let option = next.and_then(|next| Some((next, self.option(list, next)?)));
            let Some((next, option)) = option.filter(|(_, it)| lines.len() + it.len() <= until)
            else {
                return;
            };
            if before {
                first = next;
                lines.splice(0..0, option);
            } else {
                last = next;
                lines.extend(option);
            }
        };
        let half = lines.len() + (most - lines.len()) / 2;
        grow(&mut lines, half, true);
        grow(&mut lines, most, false);
        grow(&mut lines, most, true);
        lines
    }

    fn option(self, list: &List, place: usize) -> Option<Vec<String>> {
        let (name, ticked) = list.shown(place)?;
        let at_hand = place == list.at();
        let mark = if at_hand { "❯ " } else { "  " };
        let tick = match ticked {
            None => "",
            Some(true) => "[x] ",
            Some(false) => "[ ] ",
        };
        let indent = mark.width() + tick.width();
        let lines = wrapped(name, self.size.width().saturating_sub(indent).max(4)).into_iter();
        let lines = lines.enumerate().map(|(index, line)| match index {
            0 => format!("{mark}{tick}{line}"),
            _ => format!("{:indent$}{line}", ""),
        });
        Some(lines.map(|line| if at_hand { self.style.cyan(&line) } else { line }).collect())
    }
}

/// What was typed, on one line and harmless.
fn printable(text: &str) -> String {
    clean(text).replace('\n', "↵").replace('\t', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(columns: usize, rows: usize) -> Layout {
        Layout { style: Style::plain(), size: Size { columns, rows } }
    }

    fn words(label: &str, below: &[&str]) -> Words {
        let below = below.iter().copied().map(String::from).collect();
        Words { label: label.into(), below }
    }

    const LABEL: &str = "delivery.instructions for whoever brings it";
    const HELP: &str = "What the driver must know: gates, dogs, stairs";

    #[test]
    fn a_question_and_its_answer_are_wrapped_at_words() {
        let typed = Line::new("mind both dogs at the gate");
        let frame = layout(30, 24).line(&words(LABEL, &[HELP]), &typed);
        assert_eq!(
            frame.lines,
            [
                "? delivery.instructions for",
                "  whoever brings it  mind ",
                "  both dogs at the gate",
                "  What the driver must know:",
                "  gates, dogs, stairs",
            ]
        );
        assert_eq!(frame.cursor, (2, 23));
        // A word that is longer than a line is cut, and no line is wasted on it.
        let frame = layout(12, 24).line(&words("a", &[]), &Line::new("b 12345678901234"));
        assert_eq!(frame.lines, ["? a  b 1234", "  567890123", "  4"]);
        assert_eq!(frame.cursor, (2, 3));
        let frame = layout(12, 24).line(&words("a", &[]), &Line::new("123456  12345 "));
        assert_eq!(frame.lines, ["? a  123456", "  12345 "]);
        assert_eq!(frame.cursor, (1, 8));
    }

    #[test]
    fn an_answer_has_a_line_of_its_own_where_the_label_leaves_no_room() {
        let frame = layout(30, 24).line(&words("twenty-six columns to here", &[]), &Line::new("x"));
        assert_eq!(frame.lines, ["? twenty-six columns to here", "  x"]);
        assert_eq!(frame.cursor, (1, 3));
    }

    #[test]
    fn wide_letters_take_two_columns_and_ends_of_lines_are_seen() {
        let mut line = Line::new("日本\n語👩\u{200d}🔬\u{202e}");
        let frame = layout(80, 24).line(&words("name", &[]), &line);
        assert_eq!(frame.lines, ["? name  日本↵語👩\u{200d}🔬\\u{202e}"]);
        assert_eq!(frame.cursor, (0, 8 + 4 + 1 + 2 + 2 + 8));
        let home = crossterm::event::KeyCode::Home;
        line.press(crossterm::event::KeyEvent::new(home, crossterm::event::KeyModifiers::NONE));
        assert_eq!(layout(80, 24).line(&words("name", &[]), &line).cursor, (0, 8));
        // None is cut in two by the end of the line.
        let frame = layout(12, 24).line(&words("name", &[]), &Line::new("日本語日本"));
        assert_eq!(frame.lines, ["? name  日", "  本語日本"]);
    }

    #[test]
    fn nothing_is_larger_than_the_terminal() {
        let long = "word ".repeat(400);
        let options = || (0..60).map(|n| format!("{n} {}", "word ".repeat(n))).collect();
        for columns in [9, 20, 80] {
            for rows in 2..30 {
                let layout = layout(columns, rows);
                let words = words(&long[..long.len() / rows], &[&long]);
                for at in [0, 30, 59] {
                    for frame in [
                        layout.line(&words, &Line::new(long.clone())),
                        layout.list(&words, &List::of_one(options(), at)),
                    ] {
                        assert!(frame.lines.len() <= rows, "{columns}x{rows}");
                        assert!(frame.cursor.0 < frame.lines.len(), "{columns}x{rows}");
                        for line in &frame.lines {
                            assert!(display_width(line) < columns, "{columns}x{rows}: {line}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_line_that_is_longer_than_the_terminal_shows_where_the_cursor_is() {
        let text: String = (0..200).map(|n| format!("{n} ")).collect();
        let frame = layout(40, 5).line(&words("a", &[HELP]), &Line::new(text));
        assert_eq!(frame.lines.len(), 5);
        assert!(frame.lines[4].ends_with(" 198 199 "), "{frame:?}");
        assert_eq!(frame.cursor.0, 4);
    }

    #[test]
    fn options_are_shown_around_the_one_at_hand() {
        let options: Vec<String> = (0..60).map(|n| format!("option {n}")).collect();
        let words = words("which", &["Enter chooses"]);
        let frame = layout(80, 24).list(&words, &List::of_one(options.clone(), 0));
        assert_eq!(frame.lines[0], "? which  ");
        assert_eq!(frame.lines[1], "❯ option 0");
        assert_eq!(frame.lines[12..], ["  option 11", "  1 of 60", "  Enter chooses"]);
        assert_eq!(frame.cursor, (0, 9));
        let frame = layout(80, 24).list(&words, &List::of_one(options.clone(), 30));
        assert_eq!(frame.lines[1], "  option 25");
        assert_eq!(frame.lines[6], "❯ option 30");
        let frame = layout(80, 24).list(&words, &List::of_one(options.clone(), 59));
        assert_eq!(frame.lines[12], "❯ option 59");
        let mut list = List::of_one(options, 0);
        list.paste("9");
        let frame = layout(80, 24).list(&words, &list);
        assert_eq!(frame.lines[..2], ["? which  9", "❯ option 9"]);
        assert!(frame.lines.contains(&"  6 of 60 have this".to_owned()), "{frame:?}");
        list.paste("x");
        let frame = layout(80, 24).list(&words, &list);
        assert_eq!(frame.lines[1], "  none of 60 has this; Backspace takes it back");
    }

    #[test]
    fn options_are_wrapped_at_words_and_show_their_ticks() {
        let options = ["express delivery before noon of the next day", "standard"];
        let list = List::of_several(options.map(String::from).into(), &[0]);
        let frame = layout(30, 24).list(&words("how", &[]), &list);
        assert_eq!(
            frame.lines,
            [
                "? how  ",
                "❯ [x] express delivery before",
                "      noon of the next day",
                "  [ ] standard",
            ]
        );
    }

    #[test]
    fn what_was_given_stays() {
        let layout = layout(30, 24);
        assert_eq!(layout.given(&words("by", &[HELP]), Some("Jane")), ["› by  Jane"]);
        assert_eq!(layout.given(&words("by", &[]), Some("")), ["› by"]);
        assert_eq!(layout.given(&words("by", &[]), None), ["✗ by"]);
        assert_eq!(
            layout.given(&words("why", &[]), Some("the price\nis far beyond what was agreed")),
            ["› why", "  the price↵is far beyond", "  what was agreed"]
        );
    }
}
