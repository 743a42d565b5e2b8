//! `keygen` and `rotate-keys`.

use dynamic_flow::{
    Error, ErrorKind,
    codec::EncryptionKey,
    hub::Stranded,
    store::{Cursor, Unreadable},
};

use super::inspect;
use crate::{
    args::RotateKeys,
    context::{Context, Missing},
    failure::{Exit, Failure},
    output,
    progress::{EndSignals, spinner},
    render::{clean_line, many},
};

/// How many of those are named, where people read it, that do not open.
const NAMED: usize = 20;

pub(super) fn keygen(context: &Context) -> Result<Exit, Failure> {
    let key = EncryptionKey::generate()?;
    let shown = output::NewKey { key: key.expose().to_string(), key_id: key.id().to_string() };
    context.terminal.once(&shown, |_| shown.key.clone())?;
    if context.terminal.watched {
        context.terminal.note(&format!(
            "key {}: set it as FLOW_ENCRYPTION_KEY, and keep it: without it nothing opens again",
            shown.key_id
        ));
    }
    Ok(Exit::Done)
}

pub(super) async fn rotate(context: &Context, args: &RotateKeys) -> Result<Exit, Failure> {
    if context.keyring()?.is_none() {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            "there is no key to seal with: set FLOW_ENCRYPTION_KEY=NEW,OLD",
        )
        .into());
    }
    let hub = context.hub(Missing::Refuse).await?;
    let mut shown = output::Rotated::default();
    let mut unreadable: Vec<Unreadable> = Vec::new();
    let mut failed: Vec<Stranded> = Vec::new();
    let mut after = args.cursor.map(Cursor);
    let bar = spinner(&context.terminal, "resealing");
    let mut signals = EndSignals::catch();
    let result = loop {
        let page = tokio::select! {
            page = hub.reseal(after, args.page.into()) => page,
            () = signals.next() => break Ok(Exit::Interrupted),
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => break Err(error),
        };
        shown.runs += page.runs;
        shown.resealed += page.resealed;
        shown.busy += page.busy;
        shown.failed += page.failed;
        failed.extend(page.failed_runs);
        unreadable.extend(page.unreadable);
        let looked_at = many(shown.runs, "run");
        bar.set_message(format!("{looked_at} looked at, {} resealed", shown.resealed));
        after = page.next;
        if after.is_none() {
            // What is busy is sealed with the old key until its holder commits.
            let all_done = shown.failed == 0 && shown.busy == 0 && unreadable.is_empty();
            break Ok(if all_done { Exit::Done } else { Exit::State });
        }
    };
    bar.finish_and_clear();
    shown.unreadable = unreadable.iter().map(Into::into).collect();
    shown.failed_runs = failed.iter().map(Into::into).collect();
    shown.next_cursor = after.map(|cursor| cursor.0.to_string());
    shown.interrupted = matches!(result, Ok(Exit::Interrupted));
    let go_on = || match shown.next_cursor.as_deref() {
        Some(cursor) => Some(context.command(&["rotate-keys", "--cursor", cursor])),
        // It stopped before the end of the first page.
        None => shown.interrupted.then(|| context.command(&["rotate-keys"])),
    };
    let exit = match result {
        Ok(exit) => exit,
        Err(error) => {
            if let Some(command) = go_on() {
                context.terminal.note("It stopped before the end; to continue there:");
                context.terminal.note_command("next", &command);
            }
            return Err(error.into());
        }
    };
    context.terminal.result(&shown, |style| {
        let mut text = format!("{}, {} resealed\n", many(shown.runs, "run"), shown.resealed);
        if shown.busy > 0 {
            text.push_str(&format!(
                "{} being driven: they are resealed at their next commit; run this again\n",
                shown.busy
            ));
        }
        if shown.failed > 0 {
            let what = style.red(&format!("{} could not be opened", shown.failed));
            text.push_str(&format!(
                "{what}: was their key left out, or were they stored without one?\n"
            ));
            for run in failed.iter().take(NAMED) {
                let why = clean_line(&run.reasons.join("; "));
                text.push_str(&format!("  {}  {why}\n", run.run_id));
            }
            if failed.len() > NAMED {
                let more = failed.len() - NAMED;
                text.push_str(&format!("  and {more} more; --json has them all\n"));
            }
        }
        for record in &unreadable {
            text.push_str(&inspect::unreadable(record, style));
        }
        let mut text = context.terminal.fitted(&text);
        if let Some(command) = go_on() {
            let (name, command) = (style.dim("next"), style.cyan(&command));
            text.push_str(&format!("stopped; to continue:\n  {name}  {command}\n"));
        }
        text
    })?;
    Ok(exit)
}
