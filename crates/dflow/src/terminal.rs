//! The two ways out: results on standard output, everything else on standard error.

use std::{
    env, fs,
    io::{self, IsTerminal as _, Write as _},
};

use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Notice, NoticeText},
    render::{Style, clean_line, escaped, message_within},
};

/// What standard output and standard error are, and how they are written to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Whether results and errors are JSON.
    pub(crate) json: bool,
    /// Whether what happens is told step by step.
    pub(crate) verbose: bool,
    /// Whether somebody can be asked.
    pub(crate) interactive: bool,
    /// Whether somebody watches standard error, where nothing else is written meanwhile.
    pub(crate) watched: bool,
    /// Whether the terminal obeys no escape sequences.
    pub(crate) plain: bool,
    /// How results are colored.
    pub(crate) out: Style,
    /// How everything else is colored.
    pub(crate) err: Style,
}

impl Terminal {
    pub(crate) fn new(json: bool, verbose: bool) -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let plain = match env::var_os("TERM") {
            Some(term) => term.is_empty() || term == "dumb",
            // Elsewhere nothing says what a terminal is.
            None => cfg!(unix),
        };
        let colored = !json && !plain && !set("NO_COLOR");
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            json,
            verbose,
            interactive: !json && err && io::stdin().is_terminal(),
            watched: !json && !verbose && err,
            plain,
            out: Style::new(colored && out),
            err: Style::new(colored && err),
        }
    }

    /// Prints a result: as JSON, or as text for people.
    pub(crate) fn result<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(Style) -> String,
    ) -> Result<(), Failure> {
        self.print(&self.lines_of(value, text))
    }

    fn lines_of<T: Serialize>(&self, value: &T, text: impl FnOnce(Style) -> String) -> String {
        let mut text = if self.json { to_json(value) } else { text(self.out) };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }

    /// Prints a result that nobody can ask for again, such as a key: that nobody reads it is an error.
    pub(crate) fn once<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(Style) -> String,
    ) -> Result<(), Failure> {
        write(&self.lines_of(value, text)).map_err(Failure::Output)
    }

    /// Prints a result as it is.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        match write(text) {
            // Whoever reads has seen enough; what was done is done.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(Failure::Output),
        }
    }

    /// Whether somebody can be asked though standard input is not where they type.
    pub(crate) fn can_ask_beside_input(&self) -> bool {
        let terminal = || fs::File::options().read(true).write(true).open("/dev/tty").is_ok();
        !self.json && io::stderr().is_terminal() && cfg!(unix) && terminal()
    }

    /// How wide a result may be that people read; without end where it is not printed on a terminal.
    pub(crate) fn width_of_results(&self) -> usize {
        if io::stdout().is_terminal() { columns() } else { usize::MAX }
    }

    /// A result for people, in lines that fit the terminal where it is one. What is to be copied from
    /// it, such as a command, must not be in it.
    pub(crate) fn fitted(&self, text: &str) -> String {
        message_within(text, self.width_of_results())
    }

    /// Says what is worth knowing beside a result, on one line: whatever names are in it, they steer
    /// no terminal.
    pub(crate) fn notice(&self, kind: &'static str, message: &str) {
        match self.json {
            true => {
                say(&to_json(&Notice { notice: NoticeText { kind, message: message.into() } }));
            }
            false => self.tell(&format!("{} {}", self.err.yellow("note:"), clean_line(message))),
        }
    }

    /// Says a message for people, in lines that fit the terminal where it is one.
    pub(crate) fn tell(&self, message: &str) {
        let width = if io::stderr().is_terminal() { columns() } else { usize::MAX };
        say(&message_within(message, width));
    }

    /// Says something to whoever watches; nothing where results are JSON.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            self.tell(text);
        }
    }

    /// Says what to type next, on one line however narrow the terminal is, as it is to be copied.
    pub(crate) fn note_command(&self, name: &str, command: &str) {
        if !self.json {
            say(&format!("  {}  {}", self.err.dim(name), self.err.cyan(command)));
        }
    }
}

/// Writes to standard output, all of it.
fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// How wide the terminal is.
pub(crate) fn columns() -> usize {
    // Some say that they have no size at all.
    match crossterm::terminal::size() {
        Ok((columns, _)) if columns > 0 => usize::from(columns).max(16),
        _ => 80,
    }
}

/// Writes a line to standard error; where that is closed there is nobody to tell.
pub(crate) fn say(text: &str) {
    let mut err = io::stderr().lock();
    writeln!(err, "{}", text.trim_end()).ok();
}

/// A value of the contract as one line of JSON.
pub(crate) fn to_json<T: Serialize>(value: &T) -> String {
    // The types of the contract have no maps with other keys than texts, and nothing else can fail.
    escaped(&serde_json::to_string(value).unwrap_or_default())
}
