//! Text for people: colors, times, values, receipts.

use std::{borrow::Cow, fmt::Write as _};

use dynamic_flow::{Receipt, RunStatus, Timestamp, wait::Closed};
use serde_json::Value;
use textwrap::{Options, WordSplitter, core::display_width};
use unicode_width::UnicodeWidthStr as _;

/// Whether and how text is colored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    colored: bool,
}

impl Style {
    pub(crate) fn new(colored: bool) -> Self {
        Self { colored }
    }

    pub(crate) fn plain() -> Self {
        Self::new(false)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    pub(crate) fn status(self, status: RunStatus) -> String {
        let text = status.as_str();
        match status {
            RunStatus::Waiting => self.yellow(text),
            RunStatus::Ready | RunStatus::Running => self.cyan(text),
            RunStatus::Completed => self.green(text),
            RunStatus::Failed | RunStatus::Expired => self.red(text),
            _ => self.dim(text),
        }
    }
}

/// Text that comes from a flow or a store, made harmless for a terminal: what would move the
/// cursor, change colors, hide or turn the writing direction is spelled out.
pub(crate) fn clean(text: &str) -> String {
    let harmful = |c: char| is_harmful(c) && c != '\n' && c != '\t';
    if !text.contains(harmful) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut cleaned, c| {
        if harmful(c) {
            cleaned.extend(c.escape_unicode());
        } else {
            cleaned.push(c);
        }
        cleaned
    })
}

/// Whether a terminal does something else with a character than to show it: it is a command, has no
/// width, separates lines or turns the direction.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'
                | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// JSON that means the same and is harmless for a terminal: what is `clean`ed elsewhere, as JSON
/// spells it.
pub(crate) fn escaped(json: &str) -> String {
    // Those that JSON has between its tokens are not in what this program writes.
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(text, "\\u{unit:04x}").ok();
            }
        } else {
            text.push(c);
        }
    }
    text
}

/// `clean`, on one line.
pub(crate) fn clean_line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ")
}

/// A prompt in lines of at most that width, with its further lines marked as such: they must not pass
/// for what stands below it.
pub(crate) fn prompt(text: &str, width: usize) -> String {
    let text = clean(text);
    let lines = text.trim_end().lines().flat_map(|line| wrapped(line, width.saturating_sub(2)));
    lines.collect::<Vec<_>>().join("\n│ ")
}

/// An outline in lines of at most that width: what does not fit goes on below where its value began,
/// or marked as such where that would leave no room.
pub(crate) fn within(outline: &str, width: usize) -> String {
    let mut text = String::new();
    for line in outline.lines() {
        if line.width() <= width {
            writeln!(text, "{line}").ok();
            continue;
        }
        let pad = line.len() - line.trim_start_matches([' ', '-']).len();
        // Behind the name, where there is one and it leaves room.
        let value = line[pad..].find("  ").map(|at| line[pad + at..].trim_start());
        let column = value.map(|value| line[..line.len() - value.len()].width());
        let indent = match column {
            Some(column) if column <= width / 2 => " ".repeat(column),
            // Where names stand: what goes on there must not pass for another one.
            Some(_) => format!("{}│ ", " ".repeat(pad)),
            None => " ".repeat(pad),
        };
        let options = wrapping(width).subsequent_indent(&indent);
        for line in textwrap::wrap(line, options) {
            writeln!(text, "{line}").ok();
        }
    }
    text
}

/// A message in lines of at most that width: what does not fit goes on below, further in. Colors take
/// no room.
pub(crate) fn message_within(message: &str, width: usize) -> String {
    let mut text = String::new();
    for line in message.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len() + 4;
        let indent = " ".repeat(indent.min(width / 2));
        match display_width(line) <= width {
            true => writeln!(text, "{line}").ok(),
            false => {
                let lines = textwrap::wrap(line, wrapping(width).subsequent_indent(&indent));
                writeln!(text, "{}", lines.join("\n")).ok()
            }
        };
    }
    text
}

/// A text in lines of at most that width, between words where that can be.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    if text.width() <= width {
        return vec![text.to_owned()];
    }
    textwrap::wrap(text, wrapping(width)).into_iter().map(Cow::into_owned).collect()
}

fn wrapping<'a>(width: usize) -> Options<'a> {
    // A word with hyphens is more often a name that is to be typed again than two words.
    Options::new(width).word_splitter(WordSplitter::NoHyphenation)
}

/// How far away a time is: `in 4 h`, `3 d ago`.
pub(crate) fn relative(now: Timestamp, at: Timestamp) -> String {
    let (ahead, behind) = (now.until(at), at.until(now));
    let text = |seconds: u64| match seconds {
        0..=89 => format!("{seconds} s"),
        90..=5_399 => format!("{} min", (seconds + 30) / 60),
        5_400..=129_599 => format!("{} h", (seconds + 1_800) / 3_600),
        _ => format!("{} d", (seconds + 43_200) / 86_400),
    };
    if ahead.is_zero() {
        format!("{} ago", text(behind.as_secs()))
    } else {
        // Rounded up: what was set to four hours a millisecond ago is in four hours.
        format!("in {}", text(ahead.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)))
    }
}

/// A value as an outline, each line indented by so many spaces.
pub(crate) fn outline(value: &Value, indent: usize) -> String {
    let mut text = String::new();
    write_outline(value, indent, &mut text);
    text
}

fn write_outline(value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let width = fields.iter().filter(|(_, value)| inline(value).is_some());
            let width = width.map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(24);
            for (name, value) in fields {
                let name = clean_line(name);
                match inline(value) {
                    Some(value) => writeln!(text, "{pad}{name:width$}  {value}").ok(),
                    None => {
                        writeln!(text, "{pad}{name}").ok();
                        write_outline(value, indent + 2, text);
                        None
                    }
                };
            }
        }
        Value::Array(items) if !items.is_empty() && inline(value).is_none() => {
            for item in items {
                match inline(item) {
                    Some(item) => writeln!(text, "{pad}- {item}").ok(),
                    None => {
                        let mut inner = String::new();
                        write_outline(item, indent + 2, &mut inner);
                        // The first line of the item stands beside its dash.
                        writeln!(text, "{pad}- {}", inner.trim()).ok()
                    }
                };
            }
        }
        Value::String(long) if long.contains('\n') => {
            for line in clean(long).lines() {
                writeln!(text, "{pad}{line}").ok();
            }
        }
        value => {
            writeln!(text, "{pad}{}", inline(value).unwrap_or_default()).ok();
        }
    }
}

/// A value on one line, where it fits there.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) => fields.is_empty().then(|| "{}".into()),
        Value::String(text) if text.contains('\n') => None,
        Value::String(text) => Some(clean_line(text)),
        Value::Array(items) => {
            if items.is_empty() {
                return Some("[]".into());
            }
            let item = |item: &Value| match item {
                Value::Object(_) | Value::Array(_) => None,
                Value::String(text) if text.is_empty() => Some("\"\"".into()),
                item => inline(item),
            };
            let line = items.iter().map(item).collect::<Option<Vec<String>>>()?.join(", ");
            (line.chars().count() <= 60).then_some(line)
        }
        other => Some(other.to_string()),
    }
}

/// So many things.
pub(crate) fn many(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A receipt in a sentence.
pub(crate) fn receipt(receipt: &Receipt) -> String {
    let what = match receipt.closed {
        Closed::Answered => "answered",
        Closed::Defaulted => "took its default",
        Closed::TimedOut => "timed out",
        Closed::Cancelled => "was cancelled",
        Closed::Superseded => "was passed over by the flow",
        _ => "was closed",
    };
    let by = receipt.by.as_ref().map(|by| format!(" by {}", clean_line(by))).unwrap_or_default();
    let request = receipt.request_id.as_ref();
    let request = request.map(|id| format!(" (request {})", clean_line(id))).unwrap_or_default();
    format!("{} {what}{by} at {}{request}", clean_line(receipt.wait_id.as_str()), receipt.at)
}

#[cfg(test)]
mod tests {
    use dynamic_flow::{days, hours, minutes, seconds};
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_break_between_words_and_go_on_further_in() {
        let red = Style::new(true).red("error[X]");
        let message = format!("{red}: one two three\n  a/path:1:2: a finding of four words");
        let lines = message_within(&message, 24);
        let expected =
            format!("{red}: one two three\n  a/path:1:2: a finding\n      of four words\n");
        assert_eq!(lines, expected);
        assert_eq!(message_within(&message, usize::MAX), format!("{message}\n"));
    }

    #[test]
    fn nothing_from_a_flow_reaches_the_terminal_as_a_command() {
        assert_eq!(clean("plain\nétude\t1"), "plain\nétude\t1");
        assert_eq!(clean("\x1b[2J\u{202e}\u{7}"), "\\u{1b}[2J\\u{202e}\\u{7}");
        for hidden in ['\u{200b}', '\u{200f}', '\u{2028}', '\u{feff}'] {
            assert!(!clean(&format!("a{hidden}b")).contains(hidden), "{hidden:?}");
        }
        // Joined characters are one letter or picture to whoever reads.
        assert_eq!(clean("👩\u{200d}🔬"), "👩\u{200d}🔬");
        let shown = outline(&json!({ "a\x1b[1m": "b\x1b[1m", "c": ["\x1b[1m"] }), 2);
        assert!(!shown.contains('\x1b'), "{shown}");
    }

    #[test]
    fn a_prompt_can_not_pass_for_what_is_shown() {
        assert_eq!(prompt("Pay?\n\n  amount  1\n", 80), "Pay?\n│ \n│   amount  1");
    }

    #[test]
    fn text_is_wrapped_at_words() {
        assert_eq!(
            wrapped("the manager-approval is due", 12),
            ["the", "manager-appr", "oval is due"]
        );
        assert_eq!(
            wrapped("the manager-approval is due", 16),
            ["the", "manager-approval", "is due"]
        );
        assert_eq!(wrapped("日本語 です", 6), ["日本語", "です"]);
        assert_eq!(wrapped("", 6), [""]);
        assert_eq!(
            prompt("Pay it all at once?\n\n  now", 14),
            "Pay it all\n│ at once?\n│ \n│   now"
        );
        let shown = "  id    PO-2048\n  note  one two three four\n  all of this is text\n    - and this an item\n";
        assert_eq!(
            within(shown, 18),
            "  id    PO-2048\n  note  one two\n        three four\n  all of this is\n  text\n    - and this an\n      item\n"
        );
        assert_eq!(within(shown, 80), shown);
        assert_eq!(
            within("  a long name  below total  1.00 EUR\n", 22),
            "  a long name  below\n  │ total  1.00 EUR\n",
            "it is no field of the name total"
        );
    }

    #[test]
    fn times_are_told_as_distances() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        assert_eq!(relative(now, now.after(hours(4))), "in 4 h");
        assert_eq!(relative(now, now.after(hours(4)).before(seconds(1))), "in 4 h");
        assert_eq!(relative(now, now.after(minutes(5))), "in 5 min");
        assert_eq!(relative(now, now.before(days(3))), "3 d ago");
        assert_eq!(relative(now, now), "0 s ago");
    }

    #[test]
    fn a_value_is_an_outline() {
        let value = json!({
            "id": "PO-2048",
            "items": [{ "name": "Probe", "quantity": 2 }, { "name": "Holder", "quantity": 4 }],
            "note": "one\ntwo",
            "tags": ["a", "b"],
        });
        assert_eq!(
            outline(&value, 2),
            "  id    PO-2048\n  items\n    - name      Probe\n      quantity  2\n    - name      Holder\n      quantity  4\n  note\n    one\n    two\n  tags  a, b\n"
        );
        assert_eq!(outline(&json!("text"), 0), "text\n");
        assert_eq!(outline(&json!([]), 0), "[]\n");
        assert_eq!(outline(&json!(["", "a"]), 0), "\"\", a\n");
        assert_eq!(outline(&json!([""]), 0), "\"\"\n");
    }

    #[test]
    fn colors_are_left_out_where_they_are_not_wanted() {
        assert_eq!(Style::plain().red("x"), "x");
        assert_eq!(Style::new(true).red("x"), "\x1b[1;31mx\x1b[0m");
    }
}
