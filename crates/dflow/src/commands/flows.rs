//! What is about flows and not runs: `check`, `upgrade`, `diagram`, `tools`, `schema`,
//! `completions`.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use dynamic_flow::{
    Error, ErrorKind, Flow, RunId, RunStatus,
    flow::{compare_defs, document_schema, dot, mermaid},
    hub::{PersistenceHub, Stranded},
    store::{Filter, Unreadable},
};
use serde_json::Value;

use crate::{
    args::{self, DiagramFormat, SchemaOf},
    context::{Context, Missing},
    failure::{Exit, Failure, usage},
    output::{self, Refused},
    render::{Style, clean, clean_line, many},
};

/// How many runs are read at once.
const PAGE: usize = 200;

pub(super) async fn check(context: &Context, args: &args::FlowFile) -> Result<Exit, Failure> {
    let flow = context.flow(&args.flow)?;
    let hub = context.hub(Missing::Tell).await?;
    let report = hub.check(&flow).await?;
    let mut unopened = report.unopened;
    let ended = check_retryable(&hub, &flow, &mut unopened).await?;
    let refused = |runs: &[Stranded]| -> Vec<Refused> { runs.iter().map(Into::into).collect() };
    let shown = output::Checked {
        flow_id: flow.def().id.to_string(),
        runs: report.runs,
        same: report.same,
        compatible: report.compatible,
        stranded: refused(&report.stranded),
        failed: ended.runs,
        failed_stranded: refused(&ended.stranded),
        unopened: refused(&unopened),
    };
    context.terminal.result(&shown, |style| {
        let stranded = |runs: &[Stranded]| match runs.len() {
            0 => style.green("none stranded"),
            n => style.red(&format!("{n} stranded")),
        };
        let mut text = format!(
            "{}  {} not ended: {} with this very flow, {} that can continue with it, {}\n",
            style.bold(&clean_line(&shown.flow_id)),
            many(report.runs, "run"),
            report.same,
            report.compatible,
            stranded(&report.stranded),
        );
        for run in &report.stranded {
            text.push_str(&refusal(run.run_id, &run.reasons, style));
        }
        if ended.runs > 0 {
            text.push_str(&format!(
                "{} failed or expired: {} that can be retried with it, {}\n",
                many(ended.runs, "run"),
                ended.runs - ended.stranded.len(),
                stranded(&ended.stranded),
            ));
        }
        for run in &ended.stranded {
            text.push_str(&refusal(run.run_id, &run.reasons, style));
        }
        if !unopened.is_empty() {
            let what = format!("{} can't be opened", many(unopened.len(), "run"));
            let it = if unopened.len() == 1 { "it" } else { "them" };
            let why = format!("whether the flow fits {it} is not known");
            text.push_str(&format!("\n{}: {why}\n", style.red(&what)));
        }
        for run in &unopened {
            text.push_str(&refusal(run.run_id, &run.reasons, style));
        }
        context.terminal.fitted(&text)
    })?;
    // What has ended is told, and stops no deploy: nobody may want to retry it.
    Ok(match (unopened.is_empty(), report.stranded.is_empty()) {
        (false, _) => Exit::State,
        (true, false) => Exit::Failed,
        (true, true) => Exit::Done,
    })
}

/// How the failed and expired runs of a flow get on with a newer one.
#[derive(Default)]
struct Retryable {
    /// How many there are that open.
    runs: usize,
    /// Those that could not be retried with it.
    stranded: Vec<Stranded>,
}

/// Looks at the runs that have failed or expired, which somebody may still retry.
async fn check_retryable(
    hub: &PersistenceHub,
    flow: &Flow,
    unopened: &mut Vec<Stranded>,
) -> Result<Retryable, Error> {
    let mut found = Retryable::default();
    let (runs, unreadable) = runs_of(hub, flow, is_retryable).await?;
    for run_id in runs {
        let refused = match hub.check_run(run_id, flow).await {
            Ok(()) => None,
            // It was removed, or retried, since it was listed.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::RunNotFound | ErrorKind::RunBusy | ErrorKind::InvalidState
                ) =>
            {
                continue;
            }
            Err(error) if is_unopened(&error) => {
                unopened.push(Stranded::new(run_id, vec![error.to_string()]));
                continue;
            }
            Err(error) => Some(own_affair(error)?),
        };
        found.runs += 1;
        found.stranded.extend(refused.map(|reasons| Stranded::new(run_id, reasons)));
    }
    for record in unreadable {
        // Of which status it is may not be known, and then it was found before.
        if unopened.iter().all(|run| run.run_id != record.id) {
            unopened.push(Stranded::new(record.id, vec![record.to_string()]));
        }
    }
    Ok(found)
}

/// Whether `retry` could go on with a run.
fn is_retryable(status: RunStatus) -> bool {
    matches!(status, RunStatus::Failed | RunStatus::Expired)
}

/// Whether an error says that a run can't be opened: without its key, or because it is damaged, or
/// because its file can't be read.
fn is_unopened(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::EncryptionError | ErrorKind::CorruptState => true,
        ErrorKind::StorageError => !error.is_retryable(),
        _ => false,
    }
}

fn refusal(run: RunId, reasons: &[String], style: Style) -> String {
    let mut text = format!("\n  {}\n", style.bold(&run.to_string()));
    reasons.iter().for_each(|reason| text.push_str(&format!("    {}\n", clean(reason))));
    text
}

pub(super) async fn upgrade(context: &Context, args: args::Upgrade) -> Result<Exit, Failure> {
    let flow = context.flow(&args.flow)?;
    let hub = context.hub(Missing::Refuse).await?;
    let (runs, unreadable) = match args.all {
        true => runs_of(&hub, &flow, |it| !it.is_final() || is_retryable(it)).await?,
        false => {
            // One that is named twice is moved once, and reported so.
            let mut seen = BTreeSet::new();
            (args.runs.into_iter().filter(|run| seen.insert(*run)).collect(), Vec::new())
        }
    };
    let mut shown = output::Upgraded {
        flow_id: flow.def().id.to_string(),
        dry_run: args.dry_run,
        differences: Vec::new(),
        upgraded: Vec::new(),
        unchanged: Vec::new(),
        refused: Vec::new(),
        unopened: Vec::new(),
    };
    let mut exit = Exit::Done;
    let mut differences = BTreeSet::new();
    let mut refusals: Vec<(RunId, Vec<String>)> = Vec::new();
    let (mut any_asks, mut any_ready, mut to_retry) = (false, false, Vec::new());
    for record in unreadable {
        exit = Exit::State;
        let reasons = vec![record.to_string()];
        shown.unopened.push(Refused { run_id: record.id.into(), reasons });
        refusals.push((record.id, vec![record.to_string()]));
    }
    for run in runs {
        let view = match hub.get(run).await {
            Ok(view) => view,
            Err(error) => {
                // Of what is not there or does not open nobody knows whether the flow fits it.
                let is_unknown = error.kind() == ErrorKind::RunNotFound || is_unopened(&error);
                let reasons = own_affair(error)?;
                if is_unknown {
                    exit = Exit::State;
                    let reasons = reasons.clone();
                    shown.unopened.push(Refused { run_id: run.into(), reasons });
                }
                refusals.push((run, reasons));
                continue;
            }
        };
        if view.flow_id != flow.def().id {
            refusals.push((run, vec![format!("It is a run of the flow `{}`.", view.flow_id)]));
            continue;
        }
        if view.document.as_deref() == flow.def().document.as_deref() {
            shown.unchanged.push(run.into());
            continue;
        }
        if let Some(document) = &view.document
            && let Ok(old) = Flow::from_document_of_run(document, hub.tools())
        {
            differences.extend(compare_defs(old.def(), flow.def()));
        }
        let moved = match args.dry_run {
            true => hub.check_run(run, &flow).await,
            false => hub.upgrade(run, &flow).await,
        };
        match moved.err().map(own_affair).transpose()? {
            Some(reasons) => refusals.push((run, reasons)),
            None => {
                shown.upgraded.push(run.into());
                any_asks |= !view.waits.is_empty();
                any_ready |= view.status == RunStatus::Ready;
                to_retry.extend(is_retryable(view.status).then_some(run));
            }
        }
    }
    shown.differences = differences.into_iter().collect();
    shown.refused = refusals
        .iter()
        .map(|(run, reasons)| Refused { run_id: (*run).into(), reasons: reasons.clone() })
        .collect();
    context.terminal.result(&shown, |style| {
        let mut text = String::new();
        for difference in &shown.differences {
            text.push_str(&format!("  {}\n", clean(difference)));
        }
        let what = if args.dry_run { "would be upgraded" } else { "upgraded" };
        text.push_str(&format!(
            "{} {what}; {} with this very document already, {} refused\n",
            many(shown.upgraded.len(), "run"),
            shown.unchanged.len(),
            refusals.len()
        ));
        for (run, reasons) in &refusals {
            text.push_str(&refusal(*run, reasons, style));
        }
        context.terminal.fitted(&text)
    })?;
    if any_asks {
        context.terminal.note(STILL_ASKED);
    }
    if any_ready && !args.dry_run {
        context.terminal.note("A worker continues what is ready; or now:");
        context.terminal.note_command("next", &context.command(&["work", "--once"]));
    }
    if !to_retry.is_empty() && !args.dry_run {
        let run = match to_retry.as_slice() {
            [run] => run.to_string(),
            _ => "RUN".to_owned(),
        };
        context.terminal.note("What has failed or expired goes on once it is retried:");
        context.terminal.note_command("next", &context.command(&["retry", &run]));
    }
    Ok(if exit == Exit::Done && !refusals.is_empty() { Exit::Failed } else { exit })
}

/// What an upgrade does not change.
const STILL_ASKED: &str =
    "What is asked already stays as it was asked, with its prompt, its deadline and its default.";

/// Why a run was not moved, where that is its own affair and keeps no other from being moved.
fn own_affair(error: Error) -> Result<Vec<String>, Error> {
    match error.kind() {
        ErrorKind::FlowIncompatible => Ok(error.reasons().to_vec()),
        ErrorKind::RunBusy | ErrorKind::InvalidState => Ok(vec![error.message().to_owned()]),
        ErrorKind::RunNotFound => Ok(vec![error.to_string()]),
        _ if is_unopened(&error) => Ok(vec![error.to_string()]),
        _ => Err(error),
    }
}

/// The runs of a flow that are of some statuses, and those of which that can't be told.
async fn runs_of(
    hub: &PersistenceHub,
    flow: &Flow,
    status: impl Fn(RunStatus) -> bool,
) -> Result<(Vec<RunId>, Vec<Unreadable>), Error> {
    let filter = Filter {
        flow_id: Some(flow.def().id.clone()),
        status: RunStatus::ALL.into_iter().filter(|it| status(*it)).collect(),
        ..Filter::default()
    };
    let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
    let mut after = None;
    loop {
        let page = hub.query(&filter, after, PAGE).await?;
        runs.extend(page.readable().map(|run| run.id));
        unreadable.extend(page.unreadable().cloned());
        after = page.next;
        if after.is_none() {
            return Ok((runs, unreadable));
        }
    }
}

pub(super) fn diagram(context: &Context, args: &args::Diagram) -> Result<Exit, Failure> {
    let flow = context.flow(&args.flow)?;
    let (format, text) = match args.format {
        DiagramFormat::Mermaid => ("mermaid", mermaid(flow.def(), &[])),
        DiagramFormat::Dot => ("dot", dot(flow.def(), &[])),
    };
    let shown = output::Diagram { flow_id: flow.def().id.to_string(), format: format.into(), text };
    context.terminal.result(&shown, |_| clean(&shown.text))?;
    Ok(Exit::Done)
}

pub(super) fn tools(context: &Context, args: &args::Tools) -> Result<Exit, Failure> {
    let registry = context.tools();
    let shown = output::Tools {
        tools: registry
            .specs()
            .filter(|spec| args.tool.as_ref().is_none_or(|id| spec.id == id.as_str()))
            .map(|spec| output::Tool {
                id: spec.id.to_string(),
                name: spec.name.clone(),
                description: spec.description.clone(),
                input: spec.input.as_value().clone(),
                output: spec.output.as_value().clone(),
                effect: spec.effect,
                awaits_input: spec.awaits_input,
            })
            .collect(),
    };
    if let (Some(id), []) = (&args.tool, shown.tools.as_slice()) {
        return Err(usage("there is no such tool; `dflow tools` lists those there are")
            .with("tool", id)
            .into());
    }
    let detailed = args.tool.is_some();
    context.terminal.result(&shown, |style| {
        let mut text = String::new();
        for tool in &shown.tools {
            let what = format!("{}\n  {}", style.bold(&tool.id), tool.description);
            text.push_str(&context.terminal.fitted(&what));
            if detailed {
                for (name, schema) in [("input", &tool.input), ("output", &tool.output)] {
                    text.push_str(&format!("\n{}\n{}\n", style.dim(name), pretty(schema)));
                }
            }
        }
        text
    })?;
    Ok(Exit::Done)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

pub(super) fn schema(context: &Context, args: &args::Schema) -> Result<Exit, Failure> {
    let schema = match args.of {
        SchemaOf::Document => document_schema(),
        SchemaOf::Output => output::schema(),
    };
    context.terminal.result(&schema, |_| pretty(&schema))?;
    Ok(Exit::Done)
}

pub(super) fn completions(context: &Context, args: &args::Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::Args::command(), "dflow", &mut script);
    let shown = output::Script {
        shell: args.shell.to_string(),
        script: String::from_utf8_lossy(&script).into_owned(),
    };
    context.terminal.result(&shown, |_| shown.script.clone())?;
    Ok(Exit::Done)
}
