//! Puts questions line by line, where a terminal obeys no escape sequences.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Write},
};

use crossterm::terminal;

use super::{
    Asked, Prompt, Question, Stopped,
    frame::{Layout, Size, Words},
};
use crate::{
    render::{Style, clean_line},
    terminal::columns,
};

/// Questions and answers below each other. Lines are edited by the terminal itself, which makes a
/// signal of Ctrl-C.
pub(super) struct InLines {
    typed: Box<dyn BufRead>,
    shown: Box<dyn Write>,
    /// Whether the last answer was refused, and so is nothing to take again.
    refused: bool,
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
enum Given {
    /// Enter alone.
    Enter,
    /// Blanks and nothing else.
    Blank,
    Text(String),
}

impl Given {
    fn of(line: String) -> Self {
        match line.trim() {
            "" if line.is_empty() => Self::Enter,
            "" => Self::Blank,
            _ => Self::Text(line),
        }
    }
}

impl InLines {
    pub(super) fn open() -> Result<Self, Stopped> {
        let typed: Box<dyn BufRead> = match io::stdin().is_terminal() {
            true => Box::new(io::stdin().lock()),
            // What comes in there is something else: a key.
            false => Box::new(BufReader::new(File::open("/dev/tty")?)),
        };
        Ok(Self { typed, shown: Box::new(io::stderr()), refused: false })
    }

    fn layout() -> Layout {
        Layout { style: Style::plain(), size: Size { columns: columns(), rows: usize::MAX } }
    }

    /// Writes a question, and shows where to type.
    fn put(&mut self, words: &Words, end_of_line: &str) -> io::Result<()> {
        let lines = Self::layout().asked(words).join(end_of_line);
        // All at once, as whoever drives the program reads it.
        self.shown.write_all(format!("{lines}{end_of_line}> ").as_bytes())?;
        self.shown.flush()
    }

    /// Puts a question, until there is a line of text.
    fn ask(&mut self, words: &Words) -> Result<Given, Stopped> {
        loop {
            self.put(words, "\n")?;
            let mut line = Vec::new();
            self.typed.read_until(b'\n', &mut line)?;
            // Without an end it was left, by Ctrl-D.
            let Some(line) = line.strip_suffix(b"\n") else {
                writeln!(self.shown)?;
                return Err(Stopped);
            };
            if line.len() >= LONGEST {
                self.complain(
                    "it is too long for this terminal, which cuts it: give it with --input",
                );
                continue;
            }
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
            if line.contains(|c: char| (c.is_control() && c != '\t') || c == '\u{fffd}') {
                self.complain("a key is in it that types no letter; type it again");
                continue;
            }
            self.refused = false;
            return Ok(Given::of(line.into_owned()));
        }
    }
}

/// How to take what is usual, and how to give nothing, where that can be.
fn how(usual: Option<&str>, nothing: Option<&str>) -> String {
    let usual = usual.map(clean_line);
    match (usual, nothing) {
        (Some(usual), Some(nothing)) => format!("Enter alone takes {usual}, a blank {nothing}"),
        (Some(usual), None) => format!("Enter alone takes {usual}"),
        (None, Some(nothing)) => format!("Enter alone {nothing}"),
        (None, None) => String::new(),
    }
}

/// What a terminal keeps of a line that it edits itself.
const LONGEST: usize = 4094;

const SKIPS: &str = "skips it";

/// What an option is called, without what is told of it beside.
fn name_of(option: &str) -> &str {
    option.split("  (").next().unwrap_or(option).trim()
}

/// The options, as they are called.
struct Options<'a> {
    options: &'a [String],
    /// Whether by their numbers, too: not where some are called by numbers themselves.
    numbered: bool,
}

impl<'a> Options<'a> {
    fn new(options: &'a [String]) -> Self {
        Self { options, numbered: options.iter().all(|it| name_of(it).parse::<f64>().is_err()) }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let width = self.options.len().to_string().len();
        self.options.iter().enumerate().map(move |(index, option)| match self.numbered {
            true => format!("{:width$}  {}", index + 1, clean_line(option)),
            false => format!("-  {}", clean_line(option)),
        })
    }

    fn find(&self, text: &str) -> Option<usize> {
        let text = text.trim();
        let called = |same: fn(&str, &str) -> bool| {
            let all = self.options.iter().enumerate();
            let fits = |option: &String| {
                same(name_of(option), text) || same(clean_line(option).trim(), text)
            };
            all.filter(|(_, option)| fits(option)).map(|(index, _)| index).collect::<Vec<_>>()
        };
        let exactly = called(|option, text| option == text).first().copied();
        // Where two differ in their case alone, neither is meant for sure.
        let named = exactly.or_else(|| match called(str::eq_ignore_ascii_case)[..] {
            [one] => Some(one),
            _ => None,
        });
        let number = text.parse().ok().and_then(|number: usize| number.checked_sub(1));
        let number = number.filter(|index| self.numbered && *index < self.options.len());
        named.or(number)
    }

    /// The options with commas between.
    fn find_several(&self, text: &str) -> Option<Vec<usize>> {
        if let Some(one) = self.find(text) {
            return Some(vec![one]);
        }
        let mut found: Vec<usize> =
            text.split(',').map(|text| self.find(text)).collect::<Option<_>>()?;
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    fn names(&self, of: &[usize]) -> String {
        of.iter().map(|index| self.options[*index].as_str()).collect::<Vec<_>>().join(", ")
    }

    fn words(&self, question: &Question<'_>, calls: &str, how: &str) -> Words {
        let words = Words::of(question, question.label, "");
        let below = words.below.into_iter().chain(self.lines());
        let below = below.chain([calls.to_owned(), how.to_owned()]);
        Words { below: below.filter(|line| !line.is_empty()).collect(), ..words }
    }
}

impl Prompt for InLines {
    fn confirm(&mut self, question: Question<'_>, usual: Option<bool>) -> Asked<bool> {
        let word = usual.map(|usual| if usual { "yes" } else { "no" });
        let how = how(word, question.optional.then_some(SKIPS));
        let words = Words::of(&question, &format!("{} (y/n)", question.label), &how);
        loop {
            match self.ask(&words)? {
                Given::Enter if usual.is_some() => return Ok(usual),
                Given::Enter | Given::Blank if question.optional => return Ok(None),
                Given::Text(text) => match text.trim().to_lowercase().as_str() {
                    "y" | "yes" => return Ok(Some(true)),
                    "n" | "no" => return Ok(Some(false)),
                    _ => {}
                },
                _ => {}
            }
            self.complain("type y or n, then Enter");
        }
    }

    fn choose(
        &mut self,
        question: Question<'_>,
        options: &[String],
        usual: Option<usize>,
    ) -> Asked<usize> {
        let options = Options::new(options);
        let name = usual.map(|usual| options.names(&[usual]));
        let how = how(name.as_deref(), question.optional.then_some(SKIPS));
        let calls = if options.numbered { "type one, or its number" } else { "type one of them" };
        let words = options.words(&question, calls, &how);
        loop {
            match self.ask(&words)? {
                Given::Enter if usual.is_some() => return Ok(usual),
                Given::Enter | Given::Blank if question.optional => return Ok(None),
                Given::Text(text) => {
                    if let Some(chosen) = options.find(&text) {
                        return Ok(Some(chosen));
                    }
                }
                _ => {}
            }
            self.complain("none of them is called so");
        }
    }

    fn choose_several(
        &mut self,
        question: Question<'_>,
        options: &[String],
        usual: &[usize],
    ) -> Asked<Vec<usize>> {
        let options = Options::new(options);
        let names = Some(options.names(usual)).filter(|_| !usual.is_empty());
        let nothing = if question.optional { SKIPS } else { "takes none" };
        let how = how(names.as_deref(), Some(nothing));
        let calls = match options.numbered {
            true => "type those that you take, or their numbers, with commas between",
            false => "type those that you take, with commas between",
        };
        let words = options.words(&question, calls, &how);
        let none = || if question.optional { None } else { Some(Vec::new()) };
        loop {
            match self.ask(&words)? {
                Given::Enter if !usual.is_empty() => return Ok(Some(usual.to_vec())),
                Given::Enter | Given::Blank => return Ok(none()),
                Given::Text(text) => match options.find_several(&text) {
                    Some(chosen) => return Ok(Some(chosen)),
                    None => self.complain("one of these is none of them"),
                },
            }
        }
    }

    fn line(&mut self, question: Question<'_>, usual: &str) -> Asked<String> {
        let usual = Some(usual).filter(|usual| !usual.is_empty() && !self.refused);
        let how = how(usual, question.optional.then_some(SKIPS));
        let words = Words::of(&question, question.label, &how);
        Ok(Some(match self.ask(&words)? {
            Given::Enter => usual.unwrap_or_default().to_owned(),
            Given::Blank => " ".to_owned(),
            Given::Text(text) => text,
        }))
    }

    fn secret(&mut self, label: &str) -> Result<String, Stopped> {
        // What is typed is not echoed so; nor does the terminal edit it. It begins before anybody is
        // asked: whoever is quick must not be read either.
        terminal::enable_raw_mode()?;
        let put = self.put(&Words::new(label), "\r\n").map_err(Stopped::from);
        let typed = put.and_then(|()| unseen(&mut *self.typed));
        terminal::disable_raw_mode()?;
        writeln!(self.shown)?;
        typed
    }

    fn complain(&mut self, message: &str) {
        self.refused = true;
        for line in Self::layout().indented(&clean_line(message), str::to_owned) {
            // Where the terminal is gone, the next question tells.
            writeln!(self.shown, "{line}").ok();
        }
    }
}

/// Reads a line key by key.
fn unseen(keys: &mut dyn BufRead) -> Result<String, Stopped> {
    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    const BACKSPACE: u8 = 8;
    const CTRL_U: u8 = 21;
    const ESC: u8 = 27;
    const DELETE: u8 = 127;
    let mut line = Vec::new();
    loop {
        let Some(key) = keys.fill_buf()?.first().copied() else { return Err(Stopped) };
        keys.consume(1);
        match key {
            b'\r' | b'\n' => return String::from_utf8(line).map_err(|_| Stopped),
            CTRL_C | CTRL_D | ESC => return Err(Stopped),
            BACKSPACE | DELETE => drop(line.pop()),
            CTRL_U => line.clear(),
            key => line.push(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn typing(text: &str) -> InLines {
        let typed = Box::new(Cursor::new(text.to_owned()));
        InLines { typed, shown: Box::new(io::sink()), refused: false }
    }

    fn question(optional: bool) -> Question<'static> {
        Question { label: "it", help: None, optional }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().copied().map(String::from).collect()
    }

    #[test]
    fn a_yes_or_no_is_asked_for_until_it_is_one() {
        for (typed, optional, usual, answer) in [
            ("y\n", false, None, Ok(Some(true))),
            (" No \r\n", true, Some(true), Ok(Some(false))),
            ("perhaps\n\nyes\n", false, None, Ok(Some(true))),
            ("\n", false, Some(false), Ok(Some(false))),
            ("\n", true, None, Ok(None)),
            (" \n", true, Some(true), Ok(None)),
            ("\x1b[Ay\nn\n", false, None, Ok(Some(false))),
            ("", true, Some(true), Err(Stopped)),
            ("y", false, None, Err(Stopped)),
        ] {
            let asked = typing(typed).confirm(question(optional), usual);
            assert_eq!(asked, answer, "{typed:?}");
        }
    }

    #[test]
    fn an_option_is_called_by_its_name_or_number() {
        let colors = words(&["red", "green", "dark blue"]);
        for (typed, optional, usual, answer) in [
            ("2\n", false, None, Some(1)),
            ("Dark Blue\n", false, None, Some(2)),
            ("0\n4\nblack\n\n1\n", false, None, Some(0)),
            ("\n", true, Some(2), Some(2)),
            (" \n", true, Some(2), None),
            ("\n", true, None, None),
        ] {
            let asked = typing(typed).choose(question(optional), &colors, usual);
            assert_eq!(asked, Ok(answer), "{typed:?}");
        }
        // What is told of an option beside it is no part of its name, and a name comes first.
        let told = words(&["2  (two days)", "1  (one day)", "x", "X"]);
        for (typed, answer) in [("2\n", 0), ("1\n", 1), ("X\n", 3), ("1  (one day)\n", 1)] {
            let asked = typing(typed).choose(question(false), &told, None);
            assert_eq!(asked, Ok(Some(answer)), "{typed:?}");
        }
        let cases = words(&["yes", "Yes", "Approve  (goes on)"]);
        let asked = typing("YES\napprove\n").choose(question(false), &cases, None);
        assert_eq!(asked, Ok(Some(2)), "YES may be either");
        // Which number would be meant?
        let numbers = words(&["3", "1", "2"]);
        assert_eq!(typing("1\n").choose(question(false), &numbers, None), Ok(Some(1)));
        assert_eq!(Options::new(&numbers).lines().next().as_deref(), Some("-  3"));
    }

    #[test]
    fn several_options_stand_with_commas_between() {
        let colors = words(&["red", "green", "blue, or nearly so"]);
        for (typed, optional, usual, answer) in [
            ("2, red,2\n", false, &[][..], Some(vec![0, 1])),
            ("1,black\nblue, or nearly so\n", false, &[], Some(vec![2])),
            ("\n", false, &[1], Some(vec![1])),
            (" \n", false, &[1], Some(vec![])),
            ("\n", false, &[], Some(vec![])),
            ("\n", true, &[], None),
        ] {
            let asked = typing(typed).choose_several(question(optional), &colors, usual);
            assert_eq!(asked, Ok(answer), "{typed:?}");
        }
    }

    #[test]
    fn a_line_that_the_terminal_may_have_cut_is_refused() {
        let (cut, whole) = ("x".repeat(4095), "x".repeat(4000));
        let mut lines = typing(&format!("{cut}\n{whole}\n"));
        assert_eq!(lines.line(question(false), ""), Ok(Some(whole)));
    }

    #[test]
    fn what_was_refused_is_not_taken_again() {
        let mut lines = typing("\n\nx\n \n");
        assert_eq!(lines.line(question(true), "usual"), Ok(Some("usual".into())));
        lines.complain("no");
        assert_eq!(lines.line(question(true), "usual"), Ok(Some(String::new())));
        assert_eq!(lines.line(question(true), "usual"), Ok(Some("x".into())));
        assert_eq!(lines.line(question(true), "usual"), Ok(Some(" ".into())));
        assert_eq!(lines.line(question(true), "usual"), Err(Stopped));
    }

    #[test]
    fn a_line_that_nobody_sees_can_be_mended() {
        let read = |typed: &str| unseen(&mut Cursor::new(typed.to_owned()));
        assert_eq!(read("xx\x15abd\x7fc\r"), Ok("abc".into()));
        for left in ["abc", "a\x03\r", "a\x04\r", "a\x1b\r"] {
            assert_eq!(read(left), Err(Stopped), "{left:?}");
        }
    }
}
