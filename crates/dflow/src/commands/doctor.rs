//! `doctor`: how the store is, and whether everything is set up well.

use std::collections::BTreeMap;

use dynamic_flow::{
    hub::PersistenceHub,
    store::{Filter, Summary, compiled_in},
};

use crate::{
    context::Context,
    failure::{Exit, Failure},
    output::{Newest, Report},
    render::{Style, clean_line, many},
};

/// How many runs are read at once.
const PAGE: usize = 1_000;

/// How many runs are counted: whoever has more did not ask for their exact number, and waits.
const COUNTED: usize = 10_000;

pub(super) async fn doctor(context: &Context) -> Result<Exit, Failure> {
    let keyring = context.keyring()?;
    let hub = context.hub().await?;
    let health = hub.health().await?;
    let Counted { runs, newest, all_counted, problem } = count(&hub, COUNTED).await;
    let newest = match newest {
        Some(newest) => Some(open(&hub, &newest).await),
        None => None,
    };
    let mut warnings = health.warnings;
    if keyring.is_none() {
        warnings.push(
            "Runs are stored unsealed: whoever reads the store reads them. Set \
             FLOW_ENCRYPTION_KEY for a new store (`dflow keygen` makes a key); unsealed runs go on \
             without it only."
                .into(),
        );
    }
    warnings.extend(context.config.http.unset_secrets().map(|(name, variable)| {
        format!("The secret {name} of [http] has no value: {variable} is not set.")
    }));
    // Where runs can't be listed, that is what is told.
    let overdue = hub.overdue(COUNTED).await.unwrap_or_default();
    if overdue > 0 {
        warnings.push(format!(
            "Overdue: {}, whose deadline has passed. `dflow work` sees to deadlines; is it running?",
            many(overdue, "run")
        ));
    }
    let report = Report {
        healthy: problem.is_none() && newest.as_ref().is_none_or(|newest| newest.opens),
        backend: health.backend,
        location: health.location,
        latency_ms: health.latency.as_secs_f64() * 1e3,
        durable: health.durable,
        encrypted: keyring.is_some(),
        key_ids: keyring.iter().flat_map(|it| it.key_ids()).map(|id| id.to_string()).collect(),
        runs,
        all_counted,
        overdue,
        problem,
        newest,
        backends: compiled_in().iter().map(ToString::to_string).collect(),
        warnings,
    };
    context.terminal.result(&report, |style| describe(&report, style))?;
    Ok(if report.healthy { Exit::Done } else { Exit::State })
}

/// What was found of the runs.
#[derive(Default)]
struct Counted {
    /// How many there are, by status.
    runs: BTreeMap<String, usize>,
    newest: Option<Summary>,
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
        for run in page.items {
            *counted.runs.entry(run.status.to_string()).or_default() += 1;
            counted.newest.get_or_insert(run);
        }
        after = page.next;
        if after.is_none() {
            counted.all_counted = true;
            break;
        }
    }
    counted
}

async fn open(hub: &PersistenceHub, run: &Summary) -> Newest {
    let problem = hub.get(run.id).await.err().map(|error| error.to_string());
    Newest { run_id: run.id.into(), opens: problem.is_none(), problem }
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
    match (&report.problem, counts.join(", ")) {
        (Some(problem), _) => line(&bad, &format!("The runs can't be listed: {problem}")),
        (None, counts) if counts.is_empty() => line(&good, "There are no runs."),
        (None, counts) if report.all_counted => line(&good, &format!("Runs: {counts}.")),
        (None, counts) => line(&good, &format!("Among the newest runs: {counts}.")),
    }
    match report.newest.as_ref().map(|newest| &newest.problem) {
        Some(Some(problem)) => line(&bad, &format!("The newest run does not open: {problem}")),
        Some(None) => line(&good, "The newest run opens."),
        None => {}
    }
    for it in &report.warnings {
        line(&warning, it);
    }
    line(&good, &format!("This build has the backends {}.", report.backends.join(", ")));
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
        assert!(none.all_counted && none.runs.is_empty() && none.newest.is_none());
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
        assert_eq!(all.newest.unwrap().id, last.unwrap().run_id);
    }
}
