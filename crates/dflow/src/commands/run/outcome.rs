//! What is printed of what a run came to.

use dynamic_flow::{
    Error, ErrorKind, codes,
    hub::{Outcome, PersistenceHub, Suspension},
};

use super::Result;
use crate::{
    context::{Context, now},
    failure::{Exit, Failure, RUN_STATUS, problem},
    output::{self, RunError, RunResult},
    progress::Interrupted,
    render::{self, Style, clean_line, outline, relative},
    terminal::{say, to_json},
};

/// Prints what a run came to.
pub(super) async fn finish(
    context: &Context,
    hub: &PersistenceHub,
    result: dynamic_flow::Result<Outcome>,
) -> Result {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => return failed(context, with_status(hub, error).await),
    };
    let width = context.terminal.width_of_results();
    let result = RunResult::from(&outcome);
    let text = |style: Style| match &outcome {
        Outcome::Completed(done) => {
            let head =
                format!("{}  {}", style.green("✓ completed"), style.dim(&done.run_id.to_string()));
            format!("{head}\n\n{}", render::within(&outline(&done.output, 2), width))
        }
        Outcome::Rejected(rejection) => format!(
            "{}  {}\n\n  {} said no.\n",
            style.yellow("✗ rejected"),
            style.dim(&rejection.run_id.to_string()),
            clean_line(&rejection.step.to_string()),
        ),
        Outcome::Suspended(parked) => suspended(context, parked, style),
    };
    let printed = match &outcome {
        Outcome::Suspended(parked) if parked.waits.iter().any(|wait| wait.key.is_some()) => {
            context.terminal.once(&result, text)
        }
        _ => context.terminal.result(&result, text),
    };
    match (printed, &outcome) {
        (Err(Failure::Output(error)), Outcome::Suspended(parked)) if context.terminal.json => {
            // As below, for programs.
            let mut failed = output::Failed::unwritten(&error);
            failed.error.run_id = Some(parked.run_id.to_string());
            say(&to_json(&failed));
            Err(Failure::Told(Exit::State))
        }
        (Err(Failure::Output(error)), Outcome::Suspended(parked)) => {
            // The key is gone, the run is not.
            say(&format!("error: the result could not be written: {error}"));
            say(&format!(
                "  a new key:  {}",
                context.command(&["reissue", &parked.run_id.to_string()])
            ));
            Err(Failure::Told(Exit::State))
        }
        (Err(failure), _) => Err(failure),
        (Ok(()), Outcome::Completed(_)) => Ok(Exit::Done),
        (Ok(()), Outcome::Suspended(_)) => Ok(Exit::Suspended),
        (Ok(()), Outcome::Rejected(_)) => Ok(Exit::Rejected),
    }
}

/// An error with the status that it left its run in, where it fails one that is stored.
async fn with_status(hub: &PersistenceHub, error: Error) -> Error {
    let Some(run) = error.run_id().filter(|_| error.kind() == ErrorKind::StateTooLarge) else {
        return error;
    };
    match hub.get(run).await {
        Ok(view) => error.with(RUN_STATUS, view.status),
        Err(_) => error,
    }
}

fn suspended(context: &Context, parked: &Suspension, style: Style) -> String {
    let (now, width) = (now(), context.terminal.width_of_results());
    let mut text = format!(
        "{}  {}  {}\n",
        style.yellow("⏸ suspended"),
        style.bold(&clean_line(parked.flow_id.as_str())),
        style.dim(&parked.run_id.to_string()),
    );
    for wait in &parked.waits {
        let prompt = render::prompt(&wait.prompt, width - 2).replace('\n', "\n  ");
        text.push_str(&format!("\n  {}\n", style.bold(&prompt)));
        if let Some(shown) = &wait.shown {
            text.push_str(&format!("\n{}", render::within(&outline(shown, 4), width)));
        }
        text.push('\n');
        if let Some(at) = wait.expires_at {
            let expires = format!("  {}  {} ({at})", style.dim("expires"), relative(now, at));
            text.push_str(&context.terminal.fitted(&expires));
        }
        let mut row = |name: &str, value: &str| {
            text.push_str(&format!("  {}  {value}\n", style.dim(&format!("{name:7}"))));
        };
        match &wait.key {
            _ if context.forgets() => {}
            Some(key) => {
                let key = key.expose();
                row("key", &key);
                row("next", &style.cyan(&context.command(&["resume", &key])));
            }
            None => {
                let (run, wait) = (parked.run_id.to_string(), wait.id.as_str());
                row("wait", &clean_line(wait));
                row("new key", &style.cyan(&context.command(&["reissue", &run, wait])));
            }
        }
    }
    if let (true, Some(at)) = (parked.waits.is_empty(), parked.resumes_at) {
        let next = style.cyan(&context.command(&["work"]));
        let goes_on = match now < at {
            true => format!("It sleeps and continues {} ({at}).", relative(now, at)),
            false => "It has slept until now, and a worker continues it.".to_owned(),
        };
        text.push_str(&format!("\n{}", context.terminal.fitted(&format!("  {goes_on}"))));
        if !context.forgets() {
            text.push_str(&format!("  {}  {next}\n", style.dim("next   ")));
        }
    }
    if context.forgets() {
        text.push_str(&context.terminal.fitted(
            "\n  The store is in memory: the run is gone now that this process ends. Choose another \
             with --store.\n",
        ));
    }
    text
}

/// Whether a failure with that code is the document's own, so that retrying alone fails again.
fn is_of_the_document(code: &str) -> bool {
    const CODES: [&str; 7] = [
        codes::EXPRESSION,
        codes::NO_SUCH_ARM,
        codes::INPUT_INVALID,
        codes::OUTPUT_INVALID,
        codes::PROMPT,
        codes::METADATA,
        codes::HTTP_INPUT,
    ];
    CODES.contains(&code)
}

/// Prints that a run failed; any other error is the command's own.
fn failed(context: &Context, error: Error) -> Result {
    let (true, Some(run)) = (error.is_end_of_run(), error.run_id()) else {
        return Err(error.into());
    };
    let failure = error.failure();
    let step = failure.map(|failure| failure.position.to_string());
    let shown = RunResult::Failed {
        run_id: run.into(),
        error: RunError {
            kind: error.kind().to_string(),
            message: error.message().to_owned(),
            step: step.clone(),
            code: failure.map(|failure| failure.code.clone()),
        },
    };
    context.terminal.result(&shown, |style| {
        let what = match error.kind() {
            ErrorKind::RunExpired => "✗ expired",
            ErrorKind::RunCancelled => "✗ cancelled",
            _ => "✗ failed",
        };
        let mut text = format!("{}  {}\n\n", style.red(what), style.dim(&run.to_string()));
        let at = step.map(|step| format!("{}: ", clean_line(&step))).unwrap_or_default();
        let why = format!("  {at}{}", clean_line(error.message()));
        text.push_str(&context.terminal.fitted(&why));
        if error.kind() != ErrorKind::RunCancelled && !context.forgets() {
            let run = run.to_string();
            text.push('\n');
            let mut row = |name: &str, command: &str| {
                text.push_str(&format!("  {}  {}\n", style.dim(name), style.cyan(command)));
            };
            let again = context.command(&["retry", &run]);
            match failure.is_some_and(|failure| is_of_the_document(&failure.code)) {
                true => {
                    row("correct it", &context.command(&["upgrade", "FLOW", &run]));
                    row("then again", &again);
                }
                false => row("again", &again),
            }
        }
        text
    })?;
    Ok(Exit::Failed)
}

/// Says that a run was left before it came to anything, and what continues it.
pub(super) fn interrupted(context: &Context, message: &'static str, left: Interrupted) -> Exit {
    if context.terminal.json {
        let mut error = Error::new(ErrorKind::ShuttingDown, message);
        if let Some(run) = left.run {
            error = error.with_run(run);
        }
        say(&to_json(&problem(&error)));
        return Exit::Interrupted;
    }
    context.terminal.tell(&context.terminal.err.yellow(message));
    if let Some(run) = left.run {
        // A worker that looks once would find it leased still.
        let (words, note) = match left.let_go {
            true => (&["work", "--once"][..], ""),
            false => (&["work"][..], "  (takes it over when its lease has lapsed)"),
        };
        say(&format!("  run   {run}\n  next  {}{note}", context.command(words)));
    }
    Exit::Interrupted
}
