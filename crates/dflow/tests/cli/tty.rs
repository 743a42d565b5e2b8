//! The program at a terminal of its own, which is watched as somebody would: by what stands on the
//! screen.

use std::{
    io::{Read as _, Write as _},
    num::NonZeroU16,
    process::Child,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use pty_process::{Size, blocking};

use crate::support::Place;

/// How long something may take to stand on the screen before it never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program at a terminal.
pub(crate) struct Tty {
    child: Child,
    pty: Arc<blocking::Pty>,
    shown: Arc<(Mutex<Shown>, Condvar)>,
}

struct Shown {
    terminal: vt100::Parser,
    /// Whether anything that was written is more than text.
    commanded: bool,
    /// The program has ended, and so has what it writes.
    ended: bool,
}

impl Place {
    /// Starts the program at a terminal of that many columns.
    pub(crate) fn at_terminal(&self, args: &[&str], columns: u16) -> Tty {
        let rows = 24;
        let (pty, pts) = blocking::open().unwrap();
        pty.resize(Size::new(rows, columns)).unwrap();
        let mut command = blocking::Command::new(assert_cmd::cargo::cargo_bin!("dflow"))
            .args(args)
            .current_dir(self.folder.path())
            .env("TERM", "xterm-256color");
        for name in Self::CLEARED {
            command = command.env_remove(name);
        }
        let child = command.envs(&self.environment).spawn(pts).unwrap();
        let terminal = vt100::Parser::new(size(rows), size(columns), 0);
        let shown = Arc::new((
            Mutex::new(Shown { terminal, commanded: false, ended: false }),
            Condvar::new(),
        ));
        let pty = Arc::new(pty);
        let (reader, watched) = (pty.clone(), shown.clone());
        thread::spawn(move || {
            let (shown, changed) = &*watched;
            let mut bytes = [0; 4096];
            loop {
                // The other side is closed when the program has ended.
                let read = (&*reader).read(&mut bytes).unwrap_or(0);
                let mut shown = shown.lock().unwrap();
                shown.terminal.process(&bytes[..read]);
                shown.commanded |= bytes[..read].contains(&b'\x1b');
                shown.ended = read == 0;
                changed.notify_all();
                if shown.ended {
                    return;
                }
            }
        });
        Tty { child, pty, shown }
    }
}

fn size(cells: u16) -> NonZeroU16 {
    NonZeroU16::new(cells).unwrap()
}

impl Tty {
    /// Presses keys, all at once.
    pub(crate) fn press(&self, keys: &str) -> &Self {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
        self
    }

    /// Waits until the screen is as it should be.
    pub(crate) fn until(&self, what: &str, is: impl Fn(&vt100::Screen) -> bool) -> &Self {
        let (shown, changed) = &*self.shown;
        let shown = shown.lock().unwrap();
        let waits = |shown: &mut Shown| !shown.ended && !is(shown.terminal.screen());
        let (shown, _) = changed.wait_timeout_while(shown, PATIENCE, waits).unwrap();
        let (seen, contents) = (is(shown.terminal.screen()), shown.terminal.screen().contents());
        drop(shown);
        assert!(seen, "never: {what}; on the screen:\n{contents}");
        self
    }

    /// Waits until that text stands on the screen, on one line.
    pub(crate) fn sees(&self, text: &str) -> &Self {
        self.until(text, |screen| screen.contents().contains(text))
    }

    /// Whether anything that was written up to now is more than text: an escape sequence.
    pub(crate) fn is_commanded(&self) -> bool {
        self.shown.0.lock().unwrap().commanded
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Makes the window as wide as that, and tells the program.
    pub(crate) fn widen(&self, columns: u16) -> &Self {
        self.shown.0.lock().unwrap().terminal.screen_mut().set_size(size(24), size(columns));
        self.pty.resize(Size::new(24, columns)).unwrap();
        self
    }

    /// Waits until the program has ended; gives its code, and what then stands on the screen, where
    /// lines that the terminal broke are one.
    pub(crate) fn end(self) -> (i32, String) {
        self.end_with(vt100::Screen::contents)
    }

    /// As `end`, line by line as it is seen.
    pub(crate) fn end_as_seen(self) -> (i32, String) {
        self.end_with(|screen| {
            let (_, columns) = screen.size();
            screen.rows(0, columns.into()).map(|row| format!("{}\n", row.trim_end())).collect()
        })
    }

    fn end_with(mut self, read: impl Fn(&vt100::Screen) -> String) -> (i32, String) {
        let (shown, changed) = &*self.shown;
        let shown = shown.lock().unwrap();
        let runs = |shown: &mut Shown| !shown.ended;
        let (shown, _) = changed.wait_timeout_while(shown, PATIENCE, runs).unwrap();
        let (ended, contents) = (shown.ended, read(shown.terminal.screen()));
        let asks_for_marks = shown.terminal.screen().bracketed_paste();
        drop(shown);
        assert!(ended, "it does not end; on the screen:\n{contents}");
        assert!(!asks_for_marks, "the terminal is left as it was");
        (self.child.wait().unwrap().code().unwrap(), contents)
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // What failed a test may still run.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Whether a line of the screen begins or ends within a word of that text.
pub(crate) fn cuts_a_word(screen: &str, text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    let first = words[0];
    let from = screen.find(first).unwrap_or_else(|| panic!("no {first:?} on {screen}"));
    let mut shown = screen[from..].split_whitespace().filter(|word| *word != "│");
    !words.iter().all(|word| shown.next() == Some(*word))
}
