//! The terminal while somebody is asked: keys come in as they are pressed, and questions are
//! painted over.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use crossterm::{
    QueueableCommand as _,
    cursor::{MoveToColumn, MoveUp},
    event::{self, DisableBracketedPaste, EnableBracketedPaste, Event},
    terminal::{self, Clear, ClearType},
};
use textwrap::core::display_width;

use super::frame::{Frame, Size};

/// The terminal, from the first question to the last.
///
/// Questions are on standard error: standard output is for results.
pub(super) struct Screen {
    painted: Frame,
}

impl Screen {
    /// Takes the terminal: from now on Ctrl-C is a key.
    pub(super) fn open() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self { painted: Frame::default() };
        // Several lines that are pasted come as one, not as the answers to several questions.
        send(|out| out.queue(EnableBracketedPaste).map(drop))?;
        Ok(screen)
    }

    /// Leaves the terminal as it was found; one that is plain obeys no escape sequences.
    pub(super) fn give_back(plain: bool) {
        // There is nobody to tell. Who sees the sequence finds a terminal that is not raw any more.
        terminal::disable_raw_mode().ok();
        if !plain {
            send(|out| out.queue(DisableBracketedPaste).map(drop)).ok();
        }
    }

    pub(super) fn size(&self) -> Size {
        // Some say that they have no size at all.
        let (columns, rows) = terminal::size().unwrap_or_default();
        let or = |size: u16, usual: usize| if size == 0 { usual } else { size.into() };
        Size { columns: or(columns, 80), rows: or(rows, 24) }
    }

    /// Whether something has happened that was not taken yet.
    pub(super) fn has_next(&self) -> io::Result<bool> {
        // Without any patience, what is in the terminal's own queue is not looked at.
        event::poll(Duration::from_millis(1))
    }

    /// What happens next.
    pub(super) fn next(&mut self) -> io::Result<Event> {
        event::read()
    }

    /// Paints a question in the place of what was painted last.
    pub(super) fn paint(&mut self, frame: Frame) -> io::Result<()> {
        let columns = self.size().columns;
        send(|out| {
            erase(out, &self.painted, columns)?;
            out.write_all(frame.lines.join("\r\n").as_bytes())?;
            up(out, frame.lines.len().saturating_sub(1).saturating_sub(frame.cursor.0))?;
            out.queue(MoveToColumn(u16::try_from(frame.cursor.1).unwrap_or(u16::MAX)))?;
            Ok(())
        })?;
        self.painted = frame;
        Ok(())
    }

    /// Writes lines that stay, in the place of what was painted last.
    pub(super) fn leave(&mut self, lines: &[String]) -> io::Result<()> {
        let columns = self.size().columns;
        let painted = std::mem::take(&mut self.painted);
        send(|out| {
            erase(out, &painted, columns)?;
            lines.iter().try_for_each(|line| write!(out, "{line}\r\n"))
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        Self::give_back(false);
    }
}

/// Writes all at once, so that nothing half painted is seen.
fn send(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut text = Vec::new();
    write(&mut text)?;
    let mut err = io::stderr().lock();
    err.write_all(&text)?;
    err.flush()
}

/// Clears what was painted. Where the terminal has become narrower since, its lines take several.
fn erase(out: &mut Vec<u8>, painted: &Frame, columns: usize) -> io::Result<()> {
    let (row, column) = painted.cursor;
    let above = painted.lines.iter().take(row);
    let above: usize = above.map(|line| display_width(line).div_ceil(columns).max(1)).sum();
    up(out, above + column / columns)?;
    out.queue(MoveToColumn(0))?.queue(Clear(ClearType::FromCursorDown))?;
    Ok(())
}

fn up(out: &mut Vec<u8>, rows: usize) -> io::Result<()> {
    // None would be one.
    if rows > 0 {
        out.queue(MoveUp(u16::try_from(rows).unwrap_or(u16::MAX)))?;
    }
    Ok(())
}
