//! `list` and `show`: what looks at runs and changes nothing.

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, Width, presets::NOTHING};
use dynamic_flow::{
    Cancellation, Error, ErrorKind, Flow, Receipt, RunId, RunStatus, Timestamp,
    flow::{Mark, dot, mermaid},
    hub::{PersistenceHub, RunView},
    store::{Cursor, Filter, Summary, Unreadable},
};

use crate::{
    args::{List, Show, ShowFormat},
    context::{Context, Missing, now},
    failure::{Exit, Failure, problem},
    output::{self, ListItem},
    progress::EndSignals,
    render::{Style, clean_line, many, message_within, outline, prompt, receipt, relative, within},
    terminal::{say, to_json},
    tree::tree,
    words,
};

pub(super) async fn list(context: &Context, args: List) -> Result<Exit, Failure> {
    let filter = open_only(args.filter.resolve()?);
    let hub = context.hub(Missing::Tell).await?;
    let page = hub.query(&filter, args.cursor.map(Cursor), args.limit.into()).await?;
    let next_cursor = page.next.map(|cursor| cursor.0.to_string());
    let shown = output::List {
        items: page.readable().map(ListItem::from).collect(),
        next_cursor: next_cursor.clone(),
        unreadable: page.unreadable().map(Into::into).collect(),
    };
    context.terminal.result(&shown, |style| {
        let runs: Vec<&Summary> = page.readable().collect();
        let mut text = if runs.is_empty() { String::new() } else { table(&runs) };
        for record in page.unreadable() {
            text.push_str(&context.terminal.fitted(&unreadable(record, style)));
        }
        text
    })?;
    if page.items.is_empty() {
        context.terminal.note("No runs.");
        for (name, value) in &filter.metadata {
            if let Some(twin) = words::twin(value) {
                let (this, other) = (words::spell(value), words::spell(&twin));
                context.terminal.note(&clean_line(&format!(
                    "{name}={this} finds no {other}, which is a value of its own: --metadata \
                     {name}={other} does"
                )));
            }
        }
    }
    if !shown.unreadable.is_empty() {
        context.terminal.note(&format!(
            "{} can't be read: restore what is damaged, or remove it.",
            many(shown.unreadable.len(), "run")
        ));
    }
    if let Some(cursor) = next_cursor {
        context.terminal.note(&format!("There are more: --cursor {cursor}"));
    }
    Ok(Exit::Done)
}

/// Whoever looks for what is asked means open waits: a run that was set aside keeps its own, but
/// they take no answers until it is retried.
fn open_only(filter: Filter) -> Filter {
    if filter.concerns_waits() && filter.status.is_empty() { filter.live() } else { filter }
}

/// A run of which nothing can be shown but where it is.
pub(super) fn unreadable(record: &Unreadable, style: Style) -> String {
    let why = clean_line(&format!("{}: {}", record.place, record.reason));
    format!("{}  {}  {why}\n", style.red("unreadable"), record.id)
}

fn table(runs: &[&Summary]) -> String {
    let now = now();
    let mut table = Table::new();
    // Where the terminal is too narrow, cells are cut; elsewhere lines are as long as they are.
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["RUN", "FLOW", "STATUS", "WAITS FOR", "EXPIRES", "CREATED", "METADATA"]);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    for run in runs {
        let waits = output::open_waits(run);
        let wakes = output::resumes_at(run);
        let ends: Option<Timestamp> =
            waits.iter().filter_map(|wait| wait.expires_at).min().or(wakes);
        let waits: Vec<String> = match wakes {
            // No tool is called so: an id has no spaces.
            Some(_) => vec!["a timer".to_owned()],
            None => waits.iter().map(|wait| clean_line(wait.tool_id.as_str())).collect(),
        };
        let metadata: Vec<String> = run
            .metadata
            .iter()
            .map(|(name, value)| clean_line(&format!("{name}={}", words::spell(value))))
            .collect();
        let mut row = Row::from([
            run.id.to_string(),
            clean_line(run.flow_id.as_str()),
            run.status.to_string(),
            waits.join(", "),
            match ends {
                Some(at) => relative(now, at),
                None if waits.is_empty() => String::new(),
                None => "never".to_owned(),
            },
            relative(now, run.id.created_at()),
            metadata.join(" "),
        ]);
        row.max_height(1);
        table.add_row(row);
    }
    fit(&mut table);
    // A last column that is empty leaves blanks at the ends of lines.
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// How far columns are apart.
const GAP: u16 = 2;

/// Leaves out columns until the others have room, those first that tell least. What is there to be
/// typed again is cut only where it is longer than anybody would type, or no column is left to go.
fn fit(table: &mut Table) {
    const FLOW: usize = 1;
    const METADATA: usize = 6;
    /// From the one that goes first: metadata, created, waits for, expires, status, flow.
    const SPARE: [usize; 6] = [METADATA, 5, 3, 4, 2, FLOW];
    /// How much of a name is shown.
    const NAME: u16 = 36;
    /// How little there may be of what is cut.
    const CUT: u16 = 8;
    let Some(width) = table.width() else { return };
    let contents = table.column_max_content_widths();
    let shown_of = |column: usize, content: u16| match column {
        METADATA => content.min(CUT),
        _ => content.min(NAME),
    };
    let needed = |hidden: &[usize], cut: Option<usize>| {
        let shown = contents.iter().enumerate().filter(|(column, _)| !hidden.contains(column));
        let widths = shown.map(|(column, content)| match cut == Some(column) {
            true => (*content).min(CUT),
            false => shown_of(column, *content),
        });
        widths.fold(0, |sum: u16, content| sum.saturating_add(content).saturating_add(GAP))
    };
    // The flow is cut before the status goes.
    let whole = (0..SPARE.len() - 1).map(|hidden| (hidden, None));
    let cut = [SPARE.len() - 2, SPARE.len() - 1].map(|hidden| (hidden, Some(FLOW)));
    let fits = |(hidden, cut): &(usize, Option<usize>)| needed(&SPARE[..*hidden], *cut) <= width;
    let (hidden, cut) = whole.chain(cut).find(fits).unwrap_or((SPARE.len(), None));
    for (column, content) in contents.iter().enumerate() {
        let constraint = match column {
            _ if SPARE[..hidden].contains(&column) => ColumnConstraint::Hidden,
            METADATA => continue,
            _ if cut == Some(column) => continue,
            _ if *content > NAME => ColumnConstraint::UpperBoundary(Width::Fixed(NAME + GAP)),
            _ => ColumnConstraint::ContentWidth,
        };
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(constraint);
        }
    }
}

pub(super) async fn show(context: &Context, args: Show) -> Result<Exit, Failure> {
    let hub = context.hub(Missing::Refuse).await?;
    let view = match args.wait {
        true => until_ended(context, &hub, args.run).await?,
        false => hub.get(args.run).await?,
    };
    let flow = match &view.document {
        // A document that this version can't read any more is shown without its diagram.
        Some(document) => Flow::from_document_of_run(document, hub.tools()).ok(),
        None => None,
    };
    let positions = view.positions.iter().cloned();
    let marked: Vec<_> = positions.map(|at| (at, Mark::from(view.status))).collect();
    let drawn = |flow: &Flow| match args.format {
        ShowFormat::Dot => dot(flow.def(), &marked),
        ShowFormat::Tree | ShowFormat::Mermaid => mermaid(flow.def(), &marked),
    };
    let shown = output::Show::new(&view, flow.as_ref().map(drawn));
    context.terminal.result(&shown, |style| match (args.format, &flow) {
        (ShowFormat::Tree, _) => describe(context, &view, flow.as_ref(), style),
        (_, Some(flow)) => drawn(flow),
        (_, None) => String::new(),
    })?;
    if args.format != ShowFormat::Tree && flow.is_none() {
        context.terminal.note(match view.document {
            None => "The flow is Rust code: there is no diagram of it here.",
            Some(_) => "This version of dflow can't read the document of the run.",
        });
    }
    Ok(match view.status {
        RunStatus::Rejected if args.wait => Exit::Rejected,
        RunStatus::Failed | RunStatus::Expired | RunStatus::Cancelled if args.wait => Exit::Failed,
        _ => Exit::Done,
    })
}

/// Waits until a run has ended; Ctrl-C ends the waiting, and nothing else.
async fn until_ended(
    context: &Context,
    hub: &PersistenceHub,
    run: RunId,
) -> Result<RunView, Failure> {
    let mut signals = EndSignals::catch();
    context.terminal.note("Waiting for its end; Ctrl-C ends the waiting alone.");
    let ended = tokio::select! {
        ended = hub.ended(run) => Some(ended),
        () = signals.next() => None,
    };
    match ended {
        Some(ended) => Ok(ended?),
        None => {
            let message = "interrupted; the run goes on as it did";
            match context.terminal.json {
                true => {
                    let error = Error::new(ErrorKind::ShuttingDown, message).with_run(run);
                    say(&to_json(&problem(&error)));
                }
                false => context.terminal.note(message),
            }
            Err(Failure::Told(Exit::Interrupted))
        }
    }
}

fn describe(context: &Context, view: &RunView, flow: Option<&Flow>, style: Style) -> String {
    // Sections are indented.
    let (now, width) = (now(), context.terminal.width_of_results() - INDENT);
    let mut text = format!(
        "{}  {}  {}\n\n",
        style.status(view.status),
        style.bold(&clean_line(view.flow_id.as_str())),
        style.dim(&view.run_id.to_string()),
    );
    let at = |at: Timestamp| format!("{at} ({})", relative(now, at));
    let mut row = |name: &str, value: &str| {
        let row = format!("  {}  {value}", style.dim(&format!("{name:9}")));
        text.push_str(&context.terminal.fitted(&row));
    };
    row("created", &at(view.created_at));
    row("updated", &at(view.updated_at));
    if let Some(due) = view.due_at.filter(|_| !view.status.is_final()) {
        row("due", &at(due));
    }
    if let Some(owner) = &view.driven_by {
        row("driven by", &clean_line(owner));
    }
    for (name, value) in &view.metadata {
        row("metadata", &clean_line(&format!("{name}={}", words::spell(value))));
    }
    match flow {
        Some(flow) => {
            let drawn = tree(flow.def(), &view.positions, view.status, width, style);
            section(&mut text, "flow", &drawn, style);
        }
        None if !view.positions.is_empty() => {
            let positions: Vec<String> =
                view.positions.iter().map(|it| clean_line(&it.to_string())).collect();
            section(&mut text, "stands at", &positions.join("\n"), style);
        }
        None => {}
    }
    if !view.accepted.is_empty() {
        let body = receipts(&view.accepted, width) + &who_goes_on(context, view, style);
        section(&mut text, "accepted, and not worked in yet", &body, style);
    }
    if let Some(cancellation) = &view.cancelling {
        let body = format!("{}, once whoever drives the run comes to it", cancelled(cancellation));
        section(&mut text, "accepted", &body, style);
    }
    let run = view.run_id.to_string();
    for wait in &view.waits {
        let title = format!("open wait {}", clean_line(wait.id.as_str()));
        let mut body = format!("{}\n", prompt(&wait.prompt, width));
        if let Some(shown) = &wait.shown {
            body.push_str(&within(&outline(shown, 2), width));
        }
        let expires = match wait.expires_at {
            Some(end) => format!("expires {}", at(end)),
            None => "never expires".to_owned(),
        };
        body.push_str(&message_within(&expires, width));
        section(&mut text, &title, &body, style);
        let mut command = vec!["reissue", &run];
        if view.waits.len() > 1 {
            command.push(wait.id.as_str());
        }
        let (name, command) = (style.dim("new key"), style.cyan(&context.command(&command)));
        text.push_str(&format!("{:INDENT$}{name}  {command}\n", ""));
    }
    if !view.receipts.is_empty() {
        let earlier = match view.earlier_receipts {
            0 => String::new(),
            1 => "(an earlier one)\n".to_owned(),
            n => format!("({n} earlier ones)\n"),
        };
        section(&mut text, "receipts", &(earlier + &receipts(&view.receipts, width)), style);
    }
    if let Some(ended) = &view.ended {
        section(&mut text, "ended", &message_within(&why(ended), width), style);
    }
    if let Some(output) = &view.output {
        section(&mut text, "output", &within(&outline(output, 0), width), style);
    }
    text
}

fn receipts(receipts: &[Receipt], width: usize) -> String {
    receipts.iter().map(|it| message_within(&receipt(it), width)).collect()
}

/// Who works in what was accepted.
fn who_goes_on(context: &Context, view: &RunView, style: Style) -> String {
    let (run, next) = (view.run_id.to_string(), style.dim("next"));
    match (view.status, &view.driven_by, &view.document) {
        (status, ..) if status.is_final() => {
            let retry = style.cyan(&context.command(&["retry", &run]));
            format!("kept for when it is retried:\n{next}  {retry}")
        }
        (_, Some(_), _) => "whoever drives it is told, and continues it".to_owned(),
        (.., None) => "the program that has its flow continues it".to_owned(),
        (.., Some(_)) => {
            let work = style.cyan(&context.command(&["work", "--once"]));
            format!("a worker continues it; or now:\n{next}  {work}")
        }
    }
}

/// How far what stands in a section is indented.
const INDENT: usize = 4;

fn section(text: &mut String, title: &str, body: &str, style: Style) {
    text.push_str(&format!("\n  {}\n", style.dim(title)));
    for line in body.lines() {
        text.push_str(&format!("{:INDENT$}{line}\n", ""));
    }
}

fn why(ended: &dynamic_flow::hub::Ended) -> String {
    use dynamic_flow::hub::Ended;
    match ended {
        Ended::Rejected { position, .. } => clean_line(&format!("{position} said no")),
        Ended::Failed(failure) | Ended::SetAside(failure) => {
            clean_line(&format!("{}: {} ({})", failure.position, failure.message, failure.code))
        }
        Ended::Cancelled(cancellation) => cancelled(cancellation),
    }
}

fn cancelled(Cancellation { by, reason, .. }: &Cancellation) -> String {
    let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
    clean_line(&format!("cancelled{by}{reason}"))
}
