//! `run`, `resume`, `answer` and `retry`: what drives runs or answers them.

use std::{
    future::Future,
    io::{self, IsTerminal as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use dynamic_flow::{
    Answer, Error, ErrorKind, RunId, Schema, SuspensionKey,
    codec::Keyring,
    hub::{HubEvent, Outcome, PersistenceHub, RunOptions, SuspendedWait, Suspension},
    store::Filter,
};
use serde_json::Value;

use super::{read_json, read_line};
use crate::{
    args::{Given, Run},
    ask,
    context::{Context, Missing, now, variable},
    failure::{Exit, Failure, RUN_STATUS, problem, usage},
    output::{self, RunError, RunResult},
    progress::{self, Driven, Follower, Interrupted},
    render::{self, Style, clean, clean_line, outline, receipt, relative},
    terminal::{columns, say, to_json},
    words,
};

type Result<T = Exit, E = Failure> = std::result::Result<T, E>;

pub(super) async fn run(context: &Context, args: Run) -> Result {
    words::once(&args.metadata, "--metadata")?;
    if args.flow == Path::new("-") && args.input.input.as_deref() == Some("-") {
        return Err(usage("flow and input can't both come from standard input").into());
    }
    let flow = context.flow(&args.flow)?;
    let input = match args.input.input {
        Some(given) => read_json(&given)?,
        None if context.terminal.interactive && !takes_null(&flow.def().input) => {
            let def = flow.def();
            let name = if def.name.is_empty() { def.id.as_str() } else { &def.name };
            let heading = context.terminal.err.bold(&clean_line(name));
            say(&format!("\n{heading}"));
            if !def.description.trim().is_empty() {
                let width = columns();
                let text = clean(def.description.trim());
                let lines = text.lines().flat_map(|line| render::wrapped(line, width));
                say(&lines.collect::<Vec<_>>().join("\n"));
            }
            ask_for(context, def.input.clone()).await?
        }
        None if takes_null(&flow.def().input) => Value::Null,
        None => {
            let message = "no input is given, and the flow needs one: --input JSON, --input @FILE, \
                           or --input - for standard input";
            let error = Error::new(ErrorKind::InputValidationError, message);
            return Err(error.with("flow", &flow.def().id).into());
        }
    };
    let hub = context.hub(Missing::Make).await?;
    context.tell_powers();
    let notice = seal_notice(&hub, context.keyring()?.as_ref()).await?;
    let mut options = RunOptions::new();
    if let Some(id) = args.run_id {
        options = options.id(id);
    }
    for (name, value) in args.metadata {
        options = options.metadata(name, value);
    }
    let handle = hub.register(&flow)?;
    let driven = drive(context, &hub, handle.run_with(input, options)).await;
    if let Some((kind, notice)) = notice.filter(|_| stores(&driven)) {
        context.terminal.notice(kind, &notice);
    }
    match driven {
        Driven::Ended(result) => finish(context, &hub, result).await,
        Driven::Interrupted(left) => {
            let kept = match left.run {
                Some(run) if !context.forgets() => hub.get(run).await.is_ok(),
                _ => false,
            };
            let left = Interrupted { run: left.run.filter(|_| kept), ..left };
            let message = match kept {
                true => "interrupted; the run is kept, and the next worker continues it",
                false => "interrupted before anything was kept; run it again",
            };
            Ok(interrupted(context, message, left))
        }
    }
}

pub(super) async fn resume(context: &Context, args: Given) -> Result {
    let (hub, key, answer) = prepare(context, args).await?;
    let run = key.run_id();
    context.tell_powers();
    let work = hub.resume(&key, answer);
    match drive(context, &hub, work).await {
        Driven::Ended(result) => finish(context, &hub, result).await,
        Driven::Interrupted(left) => {
            let left = Interrupted { run: Some(run), ..left };
            let message = "interrupted; if the answer was accepted it is kept, and the next worker \
                           continues the run";
            Ok(interrupted(context, message, left))
        }
    }
}

pub(super) async fn answer(context: &Context, args: Given) -> Result {
    let (hub, key, answer) = prepare(context, args).await?;
    let accepted = hub.answer(&key, answer).await?;
    let shown = output::Accepted {
        status: "accepted",
        run_id: accepted.run_id.into(),
        run_status: accepted.status.to_string(),
        repeated: accepted.repeated,
        receipt: (&accepted.receipt).into(),
    };
    context.terminal.result(&shown, |style| {
        let what = if accepted.repeated { "accepted before" } else { "accepted" };
        context.terminal.fitted(&format!(
            "{} {}\n  {}\n  run {} is {}\n",
            style.green("✓"),
            style.bold(what),
            receipt(&accepted.receipt),
            accepted.run_id,
            style.status(accepted.status),
        ))
    })?;
    if !accepted.repeated {
        let of_rust = hub.get(accepted.run_id).await.is_ok_and(|run| run.document.is_none());
        if of_rust {
            let who = "Its flow is Rust code: the program that has it continues the run.";
            context.terminal.note(who);
        } else {
            context.terminal.note("A worker continues it; or now:");
            context.terminal.note_command("next", &context.command(&["work", "--once"]));
        }
    }
    Ok(Exit::Done)
}

pub(super) async fn retry(context: &Context, run: RunId) -> Result {
    let hub = context.hub(Missing::Refuse).await?;
    context.tell_powers();
    match drive(context, &hub, hub.retry(run)).await {
        Driven::Ended(result) => finish(context, &hub, result).await,
        Driven::Interrupted(left) => {
            let left = Interrupted { run: Some(run), ..left };
            let message = "interrupted; the run is kept, and the next worker continues it";
            Ok(interrupted(context, message, left))
        }
    }
}

/// Drives a run. Where the `http` tool refused something on the way, also if a `catch` made up for it,
/// says which secrets have no value.
async fn drive<T>(
    context: &Context,
    hub: &PersistenceHub,
    work: impl Future<Output = dynamic_flow::Result<T>>,
) -> Driven<T> {
    let refused = Arc::new(AtomicBool::new(false));
    let seen = refused.clone();
    let follower = Follower::new(hub.events(), move |event| {
        if matches!(&event, HubEvent::StepFailed { code, .. } if code == "http_refused") {
            seen.store(true, Ordering::Relaxed);
        }
    });
    let driven = progress::drive(&context.terminal, hub, work).await;
    follower.end().await;
    if refused.load(Ordering::Relaxed) {
        for (name, variable) in context.config.http.unset_secrets() {
            let message = format!("the secret {name} has no value: {variable} is not set");
            context.terminal.notice("UnsetSecret", &message);
        }
    }
    driven
}

/// Brings together what answers a wait: asks for what was not given.
async fn prepare(
    context: &Context,
    args: Given,
) -> Result<(PersistenceHub, SuspensionKey, Answer)> {
    let from_stdin = args.key.as_deref() == Some("-");
    if from_stdin && args.input.input.as_deref() == Some("-") {
        return Err(usage("key and input can't both come from standard input").into());
    }
    let key = match args.key {
        Some(_) if from_stdin => read_key(context).await?,
        Some(key) => key,
        None => variable("DFLOW_KEY")?.filter(|key| !key.trim().is_empty()).ok_or_else(|| {
            usage(
                "no key is given; pass it as an argument, with - on standard input, or in DFLOW_KEY",
            )
        })?,
    };
    let key: SuspensionKey = key.parse().map_err(Failure::from)?;
    let input = args.input.input.as_deref().map(read_json).transpose()?;
    let hub = context.hub(Missing::Refuse).await?;
    let input = match input {
        Some(input) => input,
        None if context.terminal.interactive
            || (from_stdin && context.terminal.can_ask_beside_input()) =>
        {
            let wait = hub.question(&key).await?;
            show_question(&wait, context.terminal.err);
            ask_for(context, wait.schema).await?
        }
        None => {
            // Whoever has a wrong key hears that first.
            hub.question(&key).await?;
            let why = match context.terminal.json {
                true => "with --json nobody is asked",
                false => "there is no terminal to ask in",
            };
            return Err(usage(format!("no input is given, and {why}: use --input")).into());
        }
    };
    let answer = Answer { input, by: args.by, request_id: args.request_id };
    Ok((hub, key, answer))
}

/// Reads the key from standard input; where somebody types it, without showing it.
async fn read_key(context: &Context) -> Result<String> {
    if !context.terminal.interactive || !io::stdin().is_terminal() {
        return Ok(read_line()?);
    }
    let label = "Suspension key, which is not shown";
    let typed = ask::in_terminal(&context.terminal, |prompt| prompt.secret(label)).await;
    typed.map_err(|ask::Stopped| nothing_sent(context))
}

fn nothing_sent(context: &Context) -> Failure {
    context.terminal.note("Nothing was sent; everything is as it was.");
    Failure::Told(Exit::Interrupted)
}

fn takes_null(schema: &Schema) -> bool {
    schema.validate(&Value::Null).is_ok()
}

/// Asks for a value in the terminal.
async fn ask_for(context: &Context, schema: Schema) -> Result<Value> {
    let terminal = &context.terminal;
    let end = ask::ending_key(terminal);
    say(&terminal.err.dim(&format!("{end} ends this, and nothing is sent.")));
    let asked = ask::in_terminal(terminal, move |prompt| ask::interview(prompt, &schema)).await;
    let value = asked.map_err(|ask::Stopped| nothing_sent(context))?;
    say("");
    Ok(value)
}

fn show_question(wait: &SuspendedWait, style: Style) {
    let width = columns();
    let mut text = format!("\n{}\n", style.bold(&render::prompt(&wait.prompt, width)));
    if let Some(shown) = &wait.shown {
        text.push_str(&format!("\n{}", render::within(&outline(shown, 2), width)));
    }
    if let Some(at) = wait.expires_at {
        let expires = format!("expires {} ({at})", relative(now(), at));
        text.push_str(&format!("\n{}", render::message_within(&style.dim(&expires), width)));
    }
    say(&text);
    say("");
}

/// What is to be said of how a run is sealed, where the one before it in this store was sealed
/// otherwise, or where it is the first and is not sealed; with the kind of the notice.
async fn seal_notice(
    hub: &PersistenceHub,
    keyring: Option<&Keyring>,
) -> Result<Option<(&'static str, String)>> {
    let page = hub.query(&Filter::default(), None, 1).await?;
    if page.items.is_empty() {
        return Ok(keyring.is_none().then(|| ("Plaintext", FIRST_UNSEALED.to_owned())));
    }
    // If it went in between, or is damaged, whoever opens it hears of that.
    let Some(newest) = page.readable().next() else { return Ok(None) };
    let Ok(sealed) = hub.sealed_info(newest.id).await else { return Ok(None) };
    Ok(match (keyring, sealed.key_id) {
        (None, Some(_)) => Some(("Plaintext", UNSEALED_AMONG_SEALED.to_owned())),
        (Some(keyring), Some(key)) if !keyring.key_ids().contains(&key) => {
            let both = "FLOW_ENCRYPTION_KEY=NEW,OLD opens both";
            Some(("OtherKey", format!("{OTHER_KEY} {key}; {both}")))
        }
        _ => None,
    })
}

/// Whether a run left something in the store.
fn stores(driven: &Driven<Outcome>) -> bool {
    match driven {
        Driven::Ended(Ok(_)) | Driven::Interrupted(_) => true,
        Driven::Ended(Err(error)) => is_of_the_run(error),
    }
}

/// Said once for each store: with its first run.
const FIRST_UNSEALED: &str = "runs are stored unsealed: whoever can read the store can read them; to \
     seal new stores, set FLOW_ENCRYPTION_KEY (`dflow keygen` makes a key)";
/// Said when the key was left out where it was used before.
const UNSEALED_AMONG_SEALED: &str = "this run is stored unsealed, though the one before it in this \
     store is sealed: FLOW_ENCRYPTION_KEY is not set";
/// Said when the key is another than before.
const OTHER_KEY: &str = "this run is sealed with another key than the one before it in this store, \
     which does not open with the keys at hand: its key is";

fn interrupted(context: &Context, message: &'static str, left: Interrupted) -> Exit {
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

/// Whether an error says how a run ended, and not that something could not be done.
fn is_of_the_run(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::RunFailed | ErrorKind::RunExpired | ErrorKind::RunCancelled)
}

/// Prints what a run came to.
async fn finish(
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
        "expression",
        "no_such_arm",
        "input_invalid",
        "output_invalid",
        "prompt",
        "metadata",
        "http_input",
    ];
    CODES.contains(&code)
}

/// Prints that a run failed; any other error is the command's own.
fn failed(context: &Context, error: Error) -> Result {
    let (true, Some(run)) = (is_of_the_run(&error), error.run_id()) else {
        return Err(error.into());
    };
    let step = error.context_value("step").map(str::to_owned);
    let shown = RunResult::Failed {
        run_id: run.into(),
        error: RunError {
            kind: error.kind().to_string(),
            message: error.message().to_owned(),
            step: step.clone(),
            code: error.context_value("code").map(str::to_owned),
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
            match error.context_value("code").is_some_and(is_of_the_document) {
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
