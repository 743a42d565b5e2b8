//! `reissue`, `cancel`, `cleanup` and `work`: what looks after runs.

use std::sync::{Arc, Mutex, PoisonError};

use dynamic_flow::{
    Cancellation, Error, ErrorKind, RunStatus, WaitId,
    hub::{Cleaned, Cleanup, HubEvent, PersistenceHub, Worked},
};
use serde_json::json;

use crate::{
    args,
    ask::{self, Question},
    context::{Context, GRACE, Missing, now},
    failure::{Exit, Failure, usage},
    output,
    progress::{self, EndSignals},
    render::{clean_line, many, outline},
    tools,
};

pub(super) async fn reissue(context: &Context, args: args::Reissue) -> Result<Exit, Failure> {
    let hub = context.hub(Missing::Refuse).await?;
    let wait: WaitId = match args.wait {
        Some(wait) => wait.as_str().into(),
        None => {
            let view = hub.get(args.run).await?;
            match view.waits.as_slice() {
                [wait] => wait.id.clone(),
                [] => {
                    let message = format!("the run has no open wait: it is {}", view.status);
                    return Err(Error::new(ErrorKind::InvalidState, message)
                        .with_run(args.run)
                        .into());
                }
                several => {
                    let ids: Vec<_> = several.iter().map(|wait| wait.id.as_str()).collect();
                    return Err(Error::new(
                        ErrorKind::InvalidArgument,
                        format!("the run has several open waits; name one of: {}", ids.join(", ")),
                    )
                    .with_run(args.run)
                    .into());
                }
            }
        }
    };
    let key = hub.reissue(args.run, &wait).await?.expose();
    let shown =
        output::Reissued { run_id: args.run.into(), wait_id: wait.to_string(), key: key.clone() };
    context.terminal.once(&shown, |style| {
        let next = style.cyan(&context.command(&["resume", &key]));
        let (name, then) = (style.dim("key "), style.dim("next"));
        format!("  {name}  {key}\n  {then}  {next}\n")
    })?;
    Ok(Exit::Done)
}

pub(super) async fn cancel(context: &Context, args: args::Cancel) -> Result<Exit, Failure> {
    let hub = context.hub(Missing::Refuse).await?;
    let mut cancellation = Cancellation::new();
    (cancellation.by, cancellation.reason) = (args.by, args.reason);
    let cancelling = hub.cancel(args.run, cancellation);
    let status = progress::telling(context.terminal, &hub, cancelling).await?;
    let shown = output::Cancelled { run_id: args.run.into(), status: status.to_string() };
    context.terminal.result(&shown, |style| {
        let note = match status {
            RunStatus::Running => "  (its holder was told, and ends it)",
            RunStatus::Ready => "  (whoever has its flow ends it next)",
            _ => "",
        };
        context.terminal.fitted(&format!("{}  {}{note}\n", style.status(status), args.run))
    })?;
    Ok(Exit::Done)
}

pub(super) async fn cleanup(context: &Context, args: args::Cleanup) -> Result<Exit, Failure> {
    let asks = context.terminal.interactive && !args.yes && !args.dry_run;
    if args.all && !asks && !args.yes && !args.dry_run {
        let message = "--all removes every run that the other criteria leave, and nobody can be \
                       asked here: add --yes, or --dry-run to see them first";
        return Err(usage(message).into());
    }
    let mut which = Cleanup::new().filter(args.filter.resolve()?);
    if args.expired {
        which = which.expired_only();
    }
    if let Some(moment) = args.older_than {
        which = which.older_than(moment.ago(now()));
    }
    if args.all {
        which = which.all();
    }
    let hub = context.hub(Missing::Refuse).await?;
    if asks {
        let found = hub.cleanup(&which.clone().dry_run()).await?;
        if found.deleted_count == 0 {
            context.terminal.note("Nothing to remove.");
            if let Some((what, command)) = still_live(context, found.left.len()) {
                context.terminal.note(&what);
                context.terminal.note_command("see", &command);
            }
            for error in &found.errors {
                let message = clean_line(&error.message);
                context.terminal.note(&format!("failed  {}  {message}", error.run_id));
            }
            return Ok(if found.errors.is_empty() { Exit::Done } else { Exit::State });
        }
        let question = format!("Permanently remove {}?", many(found.deleted_count, "run"));
        let asked = ask::in_terminal(&context.terminal, move |prompt| {
            let question = Question { label: &question, help: None, optional: false };
            prompt.confirm(question, Some(false))
        });
        if asked.await != Ok(Some(true)) {
            context.terminal.note("Nothing was removed.");
            return Err(Failure::Told(Exit::Interrupted));
        }
    }
    if args.dry_run {
        which = which.dry_run();
    }
    // Whoever was asked has no other way to end it: the signals are caught by then.
    let mut signals = asks.then(EndSignals::catch);
    let interrupted = async {
        match &mut signals {
            Some(signals) => signals.next().await,
            None => std::future::pending().await,
        }
    };
    let cleaned = tokio::select! {
        cleaned = progress::telling(context.terminal, &hub, hub.cleanup(&which)) => cleaned?,
        () = interrupted => {
            context.terminal.note("Interrupted; what was not removed by then is kept.");
            return Err(Failure::Told(Exit::Interrupted));
        }
    };
    let Cleaned { deleted_count, deleted, left, errors, .. } = cleaned;
    let failed = !errors.is_empty();
    let shown = output::Cleaned {
        dry_run: args.dry_run,
        deleted_count,
        deleted: deleted.iter().copied().map(Into::into).collect(),
        left: left.iter().copied().map(Into::into).collect(),
        errors: errors
            .iter()
            .map(|error| output::CleanupError {
                run_id: error.run_id.into(),
                message: error.message.clone(),
            })
            .collect(),
    };
    context.terminal.result(&shown, |style| {
        let mut text = String::new();
        if args.dry_run {
            deleted.iter().for_each(|run| text.push_str(&format!("{run}\n")));
        }
        let what = if args.dry_run { "would be removed" } else { "removed" };
        text.push_str(&format!("{} {what}\n", many(deleted_count, "run")));
        if let Some((what, command)) = still_live(context, left.len()) {
            text.push_str(&context.terminal.fitted(&what));
            text.push_str(&format!("  {}  {}\n", style.dim("see"), style.cyan(&command)));
        }
        for error in &errors {
            let message = clean_line(&error.message);
            let failed = format!("{}  {}  {message}", style.red("failed"), error.run_id);
            text.push_str(&context.terminal.fitted(&failed));
        }
        text
    })?;
    Ok(if failed { Exit::State } else { Exit::Done })
}

/// Says how many runs a cleanup left though they were named, and why, with the command that lists
/// them; nothing if it left none.
fn still_live(context: &Context, left: usize) -> Option<(String, String)> {
    let what = "runs that are being driven are never removed, those that a worker goes on with next only \
                with --status ready, and those whose process has died only with --status running";
    (left > 0).then(|| {
        let command = context.command(&["list", "--status", "ready,running"]);
        (format!("{} left: {what}", many(left, "run")), command)
    })
}

pub(super) async fn work(context: &Context, args: &args::Work) -> Result<Exit, Failure> {
    // A worker drives whatever comes: what lacks a secret must not fail run after run.
    tools::need_all_secrets(&context.config.http)?;
    let hub = context.hub(Missing::Make).await?;
    context.tell_powers();
    let seen = Arc::new(Mutex::new(output::Worked::default()));
    let reporter = progress::report(context.terminal, hub.events(), {
        let (seen, once) = (seen.clone(), args.once);
        move |event| note(&mut seen.lock().unwrap_or_else(PoisonError::into_inner), event, once)
    });
    // Whoever is told that Ctrl-C ends it may press it at once.
    let signals = EndSignals::catch();
    if !args.once {
        context.terminal.note("Working; Ctrl-C ends it.");
    }
    let ended = until_ended(context, &hub, args.once, signals).await;
    reporter.end().await;
    let ended = ended?;
    let mut shown = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    if let Ended::Done(worked) = ended {
        (shown.driven, shown.skipped) = (worked.driven, worked.skipped);
        shown.purged = Some(worked.purged);
    }
    shown.interrupted = matches!(ended, Ended::AtOnce);
    context.terminal.result(&shown, |_| match args.once {
        // Which were skipped, and why, was told as it happened.
        true => outline(
            &json!({ "driven": shown.driven, "skipped": shown.skipped, "purged": shown.purged }),
            0,
        ),
        false => String::new(),
    })?;
    Ok(match ended {
        Ended::AtOnce => {
            let message = "Stopped in the middle of steps. Everything that was accepted is kept: a worker \
                           takes these runs over when their leases have lapsed.";
            context.terminal.note(message);
            Exit::Interrupted
        }
        _ if args.once && shown.skipped > 0 => Exit::State,
        _ => Exit::Done,
    })
}

/// Counts what happens in a worker.
fn note(seen: &mut output::Worked, event: &HubEvent, name_skipped: bool) {
    match event {
        HubEvent::RunStopped { .. } => seen.driven += 1,
        HubEvent::RunSkipped { run_id, reason, .. } => {
            seen.skipped += 1;
            if name_skipped {
                let run = output::Skipped { run_id: (*run_id).into(), reason: reason.clone() };
                seen.skipped_runs.push(run);
            }
        }
        _ => {}
    }
}

/// How a worker ended.
enum Ended {
    /// With everything done that was due.
    Done(Worked),
    /// With every run let go that it had at hand.
    LetGo,
    /// Before that: in the middle of steps.
    AtOnce,
}

/// Works until everything due is done, or until Ctrl-C.
async fn until_ended(
    context: &Context,
    hub: &PersistenceHub,
    once: bool,
    mut signals: EndSignals,
) -> Result<Ended, Error> {
    let working = async {
        match once {
            true => hub.work_once().await.map(Ended::Done),
            false => hub.work().await.map(|()| Ended::LetGo),
        }
    };
    let mut working = std::pin::pin!(working);
    tokio::select! {
        ended = &mut working => ended,
        () = signals.next() => {
            context.terminal.note("Stopping after the steps at hand; Ctrl-C again to stop at once.");
            let ended = async {
                let (_, ended) = tokio::join!(hub.shutdown(GRACE), &mut working);
                ended
            };
            tokio::select! {
                ended = ended => ended,
                () = tokio::time::sleep(GRACE) => Ok(Ended::AtOnce),
                () = signals.next() => Ok(Ended::AtOnce),
            }
        }
    }
}
