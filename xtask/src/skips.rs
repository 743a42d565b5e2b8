//! Tests that could not run: tolerated on a desk, a failure in CI.

use std::env;

use anyhow::{Result, bail};

/// How the line of a test begins that can't run where it is.
///
/// The test writes it to `std::io::stderr()` itself: the harness keeps what `eprintln!` prints.
const MARKER: &str = "SKIPPED:";

/// The reason that a line gives for a skipped test, if it is such a line.
pub(crate) fn reason(line: &str) -> Option<String> {
    line.trim_start().strip_prefix(MARKER).map(|reason| reason.trim().to_owned())
}

/// Whether this is CI, where everything must run.
pub(crate) fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| is_said(&value))
}

fn is_said(value: &str) -> bool {
    !matches!(value, "" | "0" | "false")
}

/// Tells of skipped tests; fails where everything must run.
pub(crate) fn judge(skipped: &[String], ci: bool) -> Result<()> {
    if skipped.is_empty() {
        return Ok(());
    }
    eprintln!("\nxtask: {} skipped:", tests(skipped.len()));
    for reason in skipped {
        eprintln!("  {reason}");
    }
    if ci {
        bail!("{} skipped, and CI is set: everything must run there", tests(skipped.len()));
    }
    Ok(())
}

fn tests(n: usize) -> String {
    if n == 1 { "1 test was".to_owned() } else { format!("{n} tests were") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_begin_with_the_marker_are_skips() {
        assert_eq!(reason("SKIPPED: no server\n").as_deref(), Some("no server"));
        assert_eq!(reason("  SKIPPED:no tmux\r\n").as_deref(), Some("no tmux"));
        assert_eq!(reason("test a_line_with_SKIPPED: ... ok"), None);
        assert_eq!(reason("skipped: lower case"), None);
    }

    #[test]
    fn a_skip_is_a_failure_in_ci_alone() {
        let skipped = ["no server".to_owned()];
        assert!(judge(&skipped, false).is_ok());
        assert!(judge(&skipped, true).is_err());
        assert!(judge(&[], true).is_ok());
    }

    #[test]
    fn ci_can_be_denied() {
        assert!(is_said("true") && is_said("1"));
        assert!(!is_said("") && !is_said("false") && !is_said("0"));
    }
}
