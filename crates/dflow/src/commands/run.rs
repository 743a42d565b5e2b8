//! `run`, `resume`, `answer` and `retry`: what drives runs or answers them.

mod outcome;
mod sealing;

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
    Answer, Error, ErrorKind, Flow, RunId, Schema, SuspensionKey,
    hub::{HubEvent, Outcome, PersistenceHub, RunOptions, SuspendedWait},
};
use serde_json::Value;

use self::{
    outcome::{finish, interrupted},
    sealing::seal_notice,
};
use super::{read_json, read_line};
use crate::{
    args::{Given, Run},
    ask,
    context::{Context, Missing, now, variable},
    failure::{Exit, Failure, usage},
    output,
    progress::{self, Driven, Follower, Interrupted},
    render::{self, Style, clean, clean_line, outline, receipt, relative},
    terminal::{columns, say},
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
        tell_of_holder(context, &hub, id, &flow, &input).await;
        options = options.id(id);
    }
    for (name, value) in args.metadata {
        options = options.metadata(name, value);
    }
    let handle = hub.register(&flow)?;
    let driven = drive(context, &hub, handle.run_with(input, options)).await;
    let notice = match context.forgets() {
        // Of a run that is gone nobody needs to know how it was sealed; for people the result says so.
        true => context.terminal.json.then(|| ("Volatile", GONE.to_owned())),
        false => notice,
    };
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

/// What becomes of a run in memory, and of the key that it was given.
const GONE: &str = "the store is in memory: the run is gone when this process ends, and no key of it is of \
                    use; choose another with --store";

/// Says who drives the run that was begun with that id before, and so has to be waited for.
async fn tell_of_holder(
    context: &Context,
    hub: &PersistenceHub,
    id: RunId,
    flow: &Flow,
    input: &Value,
) {
    // Whatever else is the matter with it, starting it tells.
    let Ok(view) = hub.get(id).await else { return };
    let is_this = view.flow_id == flow.def().id && view.input == *input;
    let is_held = view.due_at.is_none_or(|lapses_at| lapses_at > now());
    if let Some(holder) = view.driven_by.filter(|_| is_this && is_held) {
        let message = format!(
            "the run {id} is held by {holder}: this waits for it, or for its lease to end if it is gone"
        );
        context.terminal.notice("Waiting", &message);
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
    let what = if accepted.repeated { "accepted before" } else { "accepted" };
    let log = format!("{what}; {}", receipt(&accepted.receipt));
    progress::log(&context.terminal, accepted.run_id, &log);
    let shown = output::Accepted {
        status: "accepted",
        run_id: accepted.run_id.into(),
        run_status: accepted.status.to_string(),
        repeated: accepted.repeated,
        receipt: (&accepted.receipt).into(),
    };
    context.terminal.result(&shown, |style| {
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
        None => variable("DFLOW_KEY")?.unwrap_or_default(),
    };
    // A command or a variable that was to give the key gave none: that is no wrong key.
    if key.trim().is_empty() {
        let message =
            "no key is given; pass it as an argument, with - on standard input, or in DFLOW_KEY";
        return Err(usage(message).into());
    }
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
    let mut answer = Answer::new(input);
    (answer.by, answer.request_id) = (args.by, args.request_id);
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

/// Whether a run left something in the store.
fn stores(driven: &Driven<Outcome>) -> bool {
    match driven {
        Driven::Ended(Ok(_)) | Driven::Interrupted(_) => true,
        Driven::Ended(Err(error)) => error.is_end_of_run(),
    }
}
