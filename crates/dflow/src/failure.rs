//! How commands end: exit codes, and errors as people and programs read them.

use std::{collections::BTreeMap, error::Error as _, fmt::Write as _, io, path::PathBuf, process};

use dynamic_flow::{Error, ErrorKind};

use crate::{
    output, redacted,
    render::{self, Style},
    without_keys,
};

/// How the program ends; a contract, as are the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Completed, or done.
    Done = 0,
    /// The run failed, or what was checked is not so.
    Failed = 1,
    /// The command line, the settings or the document are wrong.
    Usage = 2,
    /// The key is unknown, has expired or was used.
    Key = 3,
    /// The input does not fit.
    Input = 4,
    /// The store or what is in it makes trouble.
    State = 5,
    /// The run waits for an answer.
    Suspended = 10,
    /// A filter said no.
    Rejected = 11,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error, and the document that its findings are about.
    Error(Error, Option<PathBuf>),
    /// The result could not be written.
    Output(io::Error),
    /// All was said already.
    Told(Exit),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error, None)
    }
}

/// What the context of an error calls the status that it left its run in.
pub(crate) const RUN_STATUS: &str = "run_status";

/// Something is wrong with what was typed.
pub(crate) fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message.into())
}

/// The code that a kind of error ends the program with.
pub(crate) fn exit_of(error: &Error) -> Exit {
    match error.kind() {
        ErrorKind::SuspensionKeyNotFound
        | ErrorKind::SuspensionExpired
        | ErrorKind::AlreadyResumed => Exit::Key,
        ErrorKind::InputValidationError => Exit::Input,
        // Of an input that is too large or too deep it is told; of too many keys it is not.
        ErrorKind::LimitExceeded
            if ["size", "levels"].iter().any(|it| error.context_value(it).is_some()) =>
        {
            Exit::Input
        }
        ErrorKind::InvalidFlow | ErrorKind::InvalidConfig | ErrorKind::InvalidArgument => {
            Exit::Usage
        }
        ErrorKind::RunFailed | ErrorKind::RunExpired | ErrorKind::RunCancelled => Exit::Failed,
        _ => Exit::State,
    }
}

/// The error as `--json` prints it.
pub(crate) fn problem(error: &Error) -> output::Failed {
    let context: BTreeMap<String, String> = error
        .context()
        .filter(|(name, _)| *name != "run")
        .map(|(name, value)| (name.to_owned(), without_keys(value)))
        .collect();
    let violations = error.violations().iter().map(|violation| output::Violation {
        pointer: violation.pointer.clone(),
        message: violation.message.clone(),
    });
    let findings = error.findings().iter().map(|finding| output::Finding {
        path: finding.path.clone(),
        message: finding.message.clone(),
        line: finding.line,
        column: finding.column,
    });
    output::Failed {
        error: output::Problem {
            kind: error.kind().to_string(),
            message: without_keys(error.message()),
            retryable: error.is_retryable(),
            run_id: error.context_value("run").map(str::to_owned),
            operation: error.operation(),
            context,
            causes: causes(error),
            violations: violations.collect(),
            findings: findings.collect(),
            reasons: error.reasons().to_vec(),
            receipt: error.receipt().map(Into::into),
        },
    }
}

/// The error as people read it: what happened, everything that is wrong, to which thing, and what
/// to do next.
pub(crate) fn explain(error: &Error, document: Option<&PathBuf>, style: Style) -> String {
    let mut text = String::new();
    let kind = style.red(&format!("error[{}]", error.kind()));
    // What was found is listed below, with its places.
    let message = match error.findings().len() {
        0 => error.message().to_owned(),
        1 => "the document is wrong in one place".to_owned(),
        n => format!("the document is wrong in {n} places"),
    };
    line(&mut text, &format!("{kind}: {}", render::clean(&without_keys(&message))));
    let file = document.map(|path| format!("{}:", path.display())).unwrap_or_default();
    for finding in error.findings() {
        line(&mut text, &format!("  {}", render::clean(&format!("{file}{finding}"))));
    }
    for violation in error.violations() {
        line(&mut text, &format!("  {}", render::clean(&violation.to_string())));
    }
    for reason in error.reasons() {
        line(&mut text, &format!("  {}", render::clean(reason)));
    }
    if let Some(receipt) = error.receipt() {
        line(&mut text, &format!("  {}", render::receipt(receipt)));
    }
    // What was listed above is not said again.
    let said = |name: &str| match name {
        "violations" => true,
        "wait" | "at" => error.receipt().is_some(),
        _ => false,
    };
    let things: Vec<String> = error
        .context()
        .filter(|(name, _)| !said(name))
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    if !things.is_empty() {
        // A key that was mistyped as something else would be shown as that.
        let things = without_keys(&things.join(", "));
        line(&mut text, &style.dim(&format!("  {}", render::clean(&things))));
    }
    for cause in causes(error) {
        let why = render::clean(&cause);
        if !text.contains(&why) {
            line(&mut text, &style.dim(&format!("  caused by: {why}")));
        }
    }
    if let Some(advice) = advice(error) {
        line(&mut text, &format!("  {advice}"));
    }
    text
}

/// What caused an error, and what caused that in turn.
fn causes(error: &Error) -> Vec<String> {
    let chain = std::iter::successors(error.source(), |&cause| cause.source());
    chain.map(|cause| redacted(&cause.to_string())).collect()
}

fn line(text: &mut String, line: &str) {
    // Writing to a text can't fail.
    writeln!(text, "{line}").ok();
}

fn advice(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::FlowIncompatible => {
            Some("The run stays parked; resume it with a flow that fits, or see `dflow upgrade`.")
        }
        ErrorKind::RunBusy => Some("Try again in a moment; `dflow show` tells who drives it."),
        ErrorKind::FlowNotRegistered => {
            Some("Its flow is Rust code: resume it with the program that has it.")
        }
        ErrorKind::StateTooLarge if error.context_value(RUN_STATUS) == Some("failed") => Some(
            "What was accepted is kept, and the run is failed now: raise max_state_size in [hub], \
             then continue it with `dflow retry`.",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_exit_code_of_the_contract() {
        for (kind, exit) in [
            (ErrorKind::SuspensionKeyNotFound, 3),
            (ErrorKind::SuspensionExpired, 3),
            (ErrorKind::AlreadyResumed, 3),
            (ErrorKind::InputValidationError, 4),
            (ErrorKind::InvalidFlow, 2),
            (ErrorKind::InvalidConfig, 2),
            (ErrorKind::InvalidArgument, 2),
            (ErrorKind::RunFailed, 1),
            (ErrorKind::StorageError, 5),
            (ErrorKind::EncryptionError, 5),
            (ErrorKind::CorruptState, 5),
            (ErrorKind::StateTooLarge, 5),
            (ErrorKind::FlowIncompatible, 5),
            (ErrorKind::RunNotFound, 5),
            (ErrorKind::LimitExceeded, 5),
        ] {
            assert_eq!(exit_of(&Error::new(kind, "x")) as u8, exit, "{kind}");
        }
        let large = Error::new(ErrorKind::LimitExceeded, "the input is too large").with("size", 9);
        assert_eq!(exit_of(&large), Exit::Input);
    }

    #[test]
    fn a_busy_run_and_a_passing_fault_may_be_tried_again() {
        let retryable = |error: &Error| problem(error).error.retryable;
        assert!(retryable(&Error::new(ErrorKind::RunBusy, "x")));
        assert!(retryable(&Error::new(ErrorKind::StorageError, "x").with_retryable()));
        assert!(!retryable(&Error::new(ErrorKind::StorageError, "x")));
    }

    #[test]
    fn programs_are_told_what_the_store_knows_and_no_secret() {
        let cause = io::Error::other("no route to postgres://u:hunter2@h/d");
        let error = Error::new(ErrorKind::StorageError, "the server is gone")
            .with_operation("get")
            .with("server", "postgres://h/d")
            .with_source(Error::new(ErrorKind::StorageError, "it hung up").with_source(cause));
        let told = serde_json::to_value(problem(&error)).unwrap();
        let expected = serde_json::json!({ "error": {
            "kind": "StorageError",
            "message": "the server is gone",
            "retryable": false,
            "operation": "get",
            "context": { "server": "postgres://h/d" },
            "causes": ["StorageError: it hung up", "no route to postgres://…"],
        } });
        assert_eq!(told, expected);
        assert!(!explain(&error, None, Style::plain()).contains("hunter2"));
    }

    #[test]
    fn nothing_is_said_twice() {
        let cause = io::Error::other("the disk is full");
        let error = Error::new(ErrorKind::StorageError, "cannot write: the disk is full");
        let text = explain(&error.with_source(cause), None, Style::plain());
        assert_eq!(text, "error[StorageError]: cannot write: the disk is full\n");
        let cause = io::Error::other("the disk is gone");
        let error = Error::new(ErrorKind::StorageError, "cannot write").with_source(cause);
        let text = explain(&error, None, Style::plain());
        assert!(text.contains("caused by: the disk is gone"), "{text}");
    }

    #[test]
    fn an_error_says_what_happened_and_to_what() {
        let run = dynamic_flow::RunId::from_bytes([7; 16]);
        let error =
            Error::new(ErrorKind::FlowIncompatible, "it no longer fits\x1b[2J").with_run(run);
        let text = explain(&error, None, Style::plain());
        assert!(text.starts_with("error[FlowIncompatible]: it no longer fits"), "{text}");
        assert!(text.contains(&run.to_string()) && text.contains("stays parked"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert_eq!(problem(&error).error.run_id, Some(run.to_string()));
    }
}
