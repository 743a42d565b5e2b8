//! `doctor`: how the store is, and whether everything is set up well.

use std::collections::BTreeMap;

use dynamic_flow::{
    Error, ErrorKind, RunId,
    codec::Keyring,
    hub::PersistenceHub,
    store::{Filter, Unreadable, compiled_in},
};
use futures::{StreamExt as _, stream};

use crate::{
    context::{Context, Missing},
    failure::{Exit, Failure},
    output::{Newest, Report},
    render::{Style, clean_line, many},
};

/// How many runs are read at once.
const PAGE: usize = 1_000;

/// How many runs are counted: whoever has more did not ask for their exact number, and waits.
const COUNTED: usize = 10_000;

/// How many of those are named that do not read back, or do not open.
const NAMED: usize = 20;

/// How many of them are opened, to see whether they do.
const TRIED: usize = 1_000;

/// How many are opened at the same time: no more than a hub has connections.
const TOGETHER: usize = 8;

pub(super) async fn doctor(context: &Context) -> Result<Exit, Failure> {
    let keyring = context.keyring()?;
    if let Some(health) = context.health_without_store().await? {
        // What it lacks may be put right before anything is kept there.
        let problem = format!("The store can't be used: {}.", context.no_store().message());
        let problems = health.problem.into_iter().chain([problem]).collect::<Vec<_>>().join(" ");
        return tell(
            context,
            &Report {
                latency_ms: health.latency.as_secs_f64() * 1e3,
                durable: health.durable,
                warnings: health.warnings,
                ..broken(health.backend, health.location, keyring.as_ref(), problems)
            },
        );
    }
    let hub = match context.hub(Missing::Refuse).await {
        Ok(hub) => hub,
        Err(error) => return unopened(context, keyring.as_ref(), error).await,
    };
    let health = match hub.health().await {
        Ok(health) => health,
        Err(error) => return unopened(context, keyring.as_ref(), error).await,
    };
    let mut problem = health.problem;
    if problem.is_none()
        && let Err(error) = hub.try_write().await
    {
        problem = Some(format!("Nothing can be written: {error}."));
    }
    let Counted { runs, ids, unreadable, all_counted, problem: unlisted } =
        count(&hub, COUNTED).await;
    let unlisted = unlisted.map(|why| format!("The runs can't be listed: {why}"));
    let problems: Vec<String> = problem.into_iter().chain(unlisted).collect();
    let problem = (!problems.is_empty()).then(|| problems.join(" "));
    let sample = sample(&ids, TRIED);
    let tries = stream::iter(&sample).map(|run| open(&hub, *run));
    let tried: Vec<_> = tries.buffered(TOGETHER).collect().await;
    let mut warnings = health.warnings;
    if keyring.is_none() {
        let closed = sample.iter().zip(&tried).filter(|(_, tried)| !tried.opens);
        let any_sealed = stream::iter(closed).any(|(run, _)| is_sealed(&hub, *run)).await;
        warnings.push(if any_sealed { NO_KEY.into() } else { UNSEALED.into() });
        // What is written into the store is driven as if it had been started here.
        warnings.extend(context.config.http.powers().map(|powers| {
            format!(
                "By [http], flows may {powers}; so may whoever can write the store, where no key \
                 is set."
            )
        }));
    }
    warnings.extend(context.config.http.unset_secrets().map(|(name, variable)| {
        format!("The secret {name} of [http] has no value: {variable} is not set.")
    }));
    warnings.extend(context.config.http.unbound_secrets().map(|name| {
        format!(
            "The secret {name} of [http] may be sent to every allowed host; `hosts` beside its \
             `env` would say to which."
        )
    }));
    // Where runs can't be listed, that is what is told.
    let overdue = hub.overdue(COUNTED).await.unwrap_or_default();
    if overdue > 0 {
        warnings.push(format!(
            "Overdue: {}, whose deadline has passed or which nobody continues. `dflow work` sees to \
             that; is it running?",
            many(overdue, "run")
        ));
    }
    let report = Report {
        healthy: problem.is_none() && unreadable.is_empty() && tried.iter().all(|run| run.opens),
        backend: health.backend,
        location: health.location,
        latency_ms: health.latency.as_secs_f64() * 1e3,
        durable: health.durable,
        encrypted: keyring.is_some(),
        key_ids: key_ids(keyring.as_ref()),
        runs,
        all_counted,
        overdue,
        unreadable: unreadable.iter().map(Into::into).collect(),
        problem,
        newest: tried.first().cloned(),
        tried: tried.len(),
        unopened: tried.into_iter().filter(|run| !run.opens).collect(),
        backends: compiled_in().iter().map(ToString::to_string).collect(),
        warnings,
    };
    tell(context, &report)
}

/// Prints a report.
fn tell(context: &Context, report: &Report) -> Result<Exit, Failure> {
    context.terminal.result(report, |style| context.terminal.fitted(&describe(report, style)))?;
    Ok(if report.healthy { Exit::Done } else { Exit::State })
}

/// Reports that a store on this machine is there and can't be used: a monitor reads that as it reads
/// everything else.
///
/// # Errors
/// The same error, where the store is not there, is on a server, or something else is wrong.
async fn unopened(
    context: &Context,
    keyring: Option<&Keyring>,
    error: Error,
) -> Result<Exit, Failure> {
    let (Some((backend, location)), ErrorKind::StorageError) =
        (context.place_of_store().await, error.kind())
    else {
        return Err(error.into());
    };
    let problem = format!("The store can't be used: {error}");
    let report = broken(backend, location, keyring, problem);
    context.terminal.result(&report, |style| {
        let problem = report.problem.as_deref().unwrap_or_default();
        context.terminal.fitted(&format!("{} {}\n", style.red("✗"), clean_line(problem)))
    })?;
    Ok(Exit::State)
}

/// The report on a store of which nothing is known but why it can't be used.
fn broken(backend: String, location: String, keyring: Option<&Keyring>, problem: String) -> Report {
    Report {
        healthy: false,
        backend,
        location,
        latency_ms: 0.0,
        durable: false,
        encrypted: keyring.is_some(),
        key_ids: key_ids(keyring),
        runs: BTreeMap::new(),
        all_counted: false,
        overdue: 0,
        unreadable: Vec::new(),
        problem: Some(problem),
        newest: None,
        tried: 0,
        unopened: Vec::new(),
        backends: compiled_in().iter().map(ToString::to_string).collect(),
        warnings: Vec::new(),
    }
}

/// The ids of the keys at hand.
fn key_ids(keyring: Option<&Keyring>) -> Vec<String> {
    keyring.into_iter().flat_map(|it| it.key_ids()).map(|id| id.to_string()).collect()
}

/// Where there is no key, and no run that was sealed with one.
const UNSEALED: &str = "Runs are stored unsealed: whoever can read or write the store can read or \
     change them. Set FLOW_ENCRYPTION_KEY for a new store (`dflow keygen` makes a key); unsealed runs \
     continue only without it.";
/// Where there is no key, and runs were sealed with one.
const NO_KEY: &str = "No key is set, and there are sealed runs: they do not open without \
     FLOW_ENCRYPTION_KEY, and new runs would be stored unsealed.";

/// What was found of the runs.
#[derive(Default)]
struct Counted {
    /// How many there are, by status.
    runs: BTreeMap<String, usize>,
    /// Those that were counted, newest first.
    ids: Vec<RunId>,
    /// Those whose records do not read back.
    unreadable: Vec<Unreadable>,
    /// Whether `runs` are all that there are.
    all_counted: bool,
    /// Why not all of them could be listed.
    problem: Option<String>,
}

/// Counts the newest runs, up to so many.
async fn count(hub: &PersistenceHub, most: usize) -> Counted {
    let mut counted = Counted::default();
    let (mut after, mut left) = (None, most);
    while left > 0 {
        let page = match hub.query(&Filter::default(), after, left.min(PAGE)).await {
            Ok(page) => page,
            Err(error) => {
                counted.problem = Some(error.to_string());
                return counted;
            }
        };
        left -= page.items.len();
        for listed in page.items {
            match listed {
                Ok(run) => {
                    *counted.runs.entry(run.status.to_string()).or_default() += 1;
                    counted.ids.push(run.id);
                }
                Err(unreadable) => counted.unreadable.push(unreadable),
            }
        }
        after = page.next;
        if after.is_none() {
            counted.all_counted = true;
            break;
        }
    }
    counted
}

/// So many of the runs at the most: the first, the last and some between.
fn sample(runs: &[RunId], most: usize) -> Vec<RunId> {
    let count = runs.len().min(most);
    let place = |n: usize| n * (runs.len() - 1) / (count - 1).max(1);
    (0..count).map(|n| runs[place(n)]).collect()
}

async fn open(hub: &PersistenceHub, run: RunId) -> Newest {
    let problem = match hub.get(run).await {
        // It went since it was counted.
        Err(error) if error.kind() != ErrorKind::RunNotFound => Some(error.to_string()),
        _ => None,
    };
    Newest { run_id: run.into(), opens: problem.is_none(), problem }
}

/// Whether a run was sealed with a key.
async fn is_sealed(hub: &PersistenceHub, run: RunId) -> bool {
    hub.sealed_info(run).await.is_ok_and(|info| info.key_id.is_some())
}

fn describe(report: &Report, style: Style) -> String {
    let good = style.green("✓");
    let bad = style.red("✗");
    let warning = style.yellow("!");
    let mut text = String::new();
    let mut line =
        |mark: &str, what: &str| text.push_str(&format!("{mark} {}\n", clean_line(what)));
    line(
        &good,
        &format!(
            "The {} store at {} answers within {:.1} ms.",
            report.backend, report.location, report.latency_ms
        ),
    );
    match report.durable {
        true => line(&good, "What is acknowledged survives a power failure."),
        false => line(&warning, "What is acknowledged may not survive a power failure."),
    }
    if report.encrypted {
        let ids = report.key_ids.join(", ");
        line(&good, &format!("Runs are sealed with AES-256-GCM; keys at hand: {ids}."));
    }
    let counts: Vec<String> =
        report.runs.iter().map(|(status, count)| format!("{count} {status}")).collect();
    if let Some(problem) = &report.problem {
        line(&bad, problem);
    }
    match counts.join(", ") {
        counts if counts.is_empty() => {
            if report.problem.is_none() && report.unreadable.is_empty() {
                line(&good, "There are no runs.");
            }
        }
        counts if report.all_counted => line(&good, &format!("Runs: {counts}.")),
        counts => line(&good, &format!("Among the newest runs: {counts}.")),
    }
    match (report.tried, report.unopened.len()) {
        (0, _) => {}
        (1, 0) => line(&good, "The run opens."),
        (tried, 0) => line(&good, &format!("All {tried} runs that were tried open.")),
        (tried, n) => line(&bad, &format!("Of {} tried, {n} did not open:", many(tried, "run"))),
    }
    for problem in report.unopened.iter().filter_map(|run| run.problem.as_ref()).take(NAMED) {
        line(&bad, problem);
    }
    if report.unopened.len() > NAMED {
        let more = report.unopened.len() - NAMED;
        line(&bad, &format!("There are {more} more; --json has them all."));
    }
    let unreadable = report.unreadable.len();
    if unreadable > 0 {
        let what = many(unreadable, "run");
        line(&bad, &format!("{what} can't be read, and can't continue until restored:"));
    }
    for it in report.unreadable.iter().take(NAMED) {
        line(&bad, &format!("{}: {}", it.place, it.reason));
    }
    if unreadable > NAMED {
        line(&bad, &format!("There are {} more; --json has them all.", unreadable - NAMED));
    }
    for it in &report.warnings {
        line(&warning, it);
    }
    let schemes = report.backends.join(", ");
    line(&good, &format!("This build opens store URLs with the schemes {schemes}."));
    text
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use dynamic_flow::{
        Schema, Timestamp, hub::SuspensionRequest, store::MemoryStore, testkit::ManualClock,
    };
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn many_runs_are_not_all_counted() {
        let store = Arc::new(MemoryStore::new());
        let clock = ManualClock::new(Timestamp::from_millis(0));
        let hub = PersistenceHub::builder(store).plaintext().clock(clock.clone());
        let hub = hub.build().await.unwrap();
        let none = count(&hub, 2).await;
        assert!(none.all_counted && none.runs.is_empty() && none.ids.is_empty());
        let mut last = None;
        for n in 0..3 {
            let schema = Schema::new(json!({ "type": "string" })).unwrap();
            let request = SuspensionRequest::new("ask", schema);
            last = Some(hub.suspend(&n, request).await.unwrap());
            clock.advance(Duration::from_secs(1));
        }
        let some = count(&hub, 2).await;
        assert_eq!(some.runs.values().sum::<usize>(), 2);
        assert!(!some.all_counted);
        let all = count(&hub, 4).await;
        assert_eq!(all.runs.values().sum::<usize>(), 3);
        assert!(all.all_counted);
        assert_eq!(all.ids[0], last.unwrap().run_id);
    }

    #[test]
    fn some_of_many_runs_are_tried_from_the_newest_to_the_oldest() {
        let runs: Vec<RunId> = (0..100).map(|n| RunId::from_bytes([n; 16])).collect();
        let some = sample(&runs, 20);
        assert_eq!((some.len(), some[0], some[19]), (20, runs[0], runs[99]));
        assert!(some.is_sorted() && some[10] > runs[40] && some[10] < runs[60]);
        assert_eq!(sample(&runs[..3], 20), runs[..3]);
        assert_eq!(sample(&runs[..1], 20), runs[..1]);
        assert_eq!(sample(&[], 20), []);
    }
}
