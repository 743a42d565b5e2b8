//! Processes that somebody else may have started: told apart, signaled, ended.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::server::run;

/// A process, as it can be written down: a later one that got the same id is not taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id, which the system gives to another one when it has ended.
    pub pid: u32,
    /// When it began, in the system's own words.
    pub born: String,
}

impl Process {
    /// The one that has that id now.
    ///
    /// # Errors
    /// When there is none.
    pub fn now(pid: u32) -> Result<Self> {
        let born = born(pid).with_context(|| format!("there is no process {pid}"))?;
        Ok(Self { pid, born })
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        born(self.pid).is_some_and(|born| born == self.born)
    }

    /// Ends it in good order with that signal, and by force if it does not heed it for so long.
    /// Tells whether it ran.
    ///
    /// # Errors
    /// When it can't be ended, as where it belongs to somebody else.
    pub fn end(&self, stop: &str, grace: Duration) -> Result<bool> {
        if !self.runs() {
            return Ok(false);
        }
        for (name, patience) in [(stop, grace), ("KILL", Duration::from_secs(10))] {
            // It may have ended since it was looked at.
            signal(self.pid, name)
                .or_else(|error| if self.runs() { Err(error) } else { Ok(()) })?;
            // Should it be frozen, it could not hear that.
            let _ = signal(self.pid, "CONT");
            let give_up = Instant::now() + patience;
            while self.runs() && Instant::now() < give_up {
                thread::sleep(Duration::from_millis(20));
            }
            if !self.runs() {
                return Ok(true);
            }
        }
        bail!("process {} does not end", self.pid)
    }
}

pub(crate) fn signal(pid: u32, name: &str) -> Result<()> {
    // The shell's own `kill`: not every system has one beside it.
    let pid = pid.to_string();
    run(Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])).map(drop)
}

/// When that process began; none if there is none, or if it has ended and nobody has asked how.
#[cfg(target_os = "linux")]
fn born(pid: u32) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = ticks(&stat)?;
    Some(format!("{} {ticks}", boot.trim()))
}

/// When it began, in ticks since the system did, from `/proc/PID/stat`; none if it has ended.
#[cfg(target_os = "linux")]
fn ticks(stat: &str) -> Option<&str> {
    // The name of the program stands in parentheses, and may hold some itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // The 22nd of all, the name being the second and the state the third.
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)).flatten()
}

#[cfg(not(target_os = "linux"))]
fn born(pid: u32) -> Option<String> {
    let mut ps = Command::new("ps");
    let line = run(ps.args(["-o", "state=,lstart=", "-p", &pid.to_string()])).ok()?;
    let (state, began) = line.trim().split_once(' ')?;
    (!state.starts_with('Z')).then(|| began.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Stdio};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().expect("sleep is there")
    }

    #[test]
    fn a_process_is_ended_once() {
        let mut child = sleeper();
        let process = Process::now(child.id()).expect("it runs");
        assert!(process.runs());
        assert!(process.end("TERM", Duration::from_secs(10)).expect("it can be ended"));
        // It is not waited for yet, and has ended all the same.
        assert!(!process.runs());
        assert!(!process.end("TERM", Duration::ZERO).expect("there is nothing to do"));
        child.wait().expect("it has ended");
        assert!(Process::now(child.id()).is_err());
    }

    #[test]
    fn what_does_not_heed_its_signal_is_killed() {
        let mut child = sleeper();
        let process = Process::now(child.id()).expect("it runs");
        // Nobody who sleeps minds that signal.
        assert!(process.end("CONT", Duration::ZERO).expect("it can be killed"));
        child.wait().expect("it has ended");
    }

    #[test]
    fn a_later_process_of_the_same_id_is_left_alone() {
        let mut child = sleeper();
        let now = Process::now(child.id()).expect("it runs");
        let earlier = Process { born: "another time".into(), ..now.clone() };
        assert!(!earlier.runs());
        assert!(!earlier.end("KILL", Duration::ZERO).expect("there is nothing to do"));
        assert!(now.runs());
        child.kill().expect("it runs");
        child.wait().expect("it has ended");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_strange_name_of_a_program_is_no_obstacle() {
        let numbers = (4..=30).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(ticks(&format!("7 (a) Z (b) S {numbers}")), Some("22"));
        assert_eq!(ticks(&format!("7 (a) Z {numbers}")), None);
        assert_eq!(ticks("7 (a"), None);
    }
}
