//! `doctor`: how the store is, and whether everything is set up well.

use std::collections::BTreeMap;

use dynamic_flow::{
    Result,
    hub::PersistenceHub,
    store::{Filter, Summary, compiled_in},
};

use crate::{
    context::Context,
    failure::{Exit, Failure},
    output::{Newest, Report},
    render::{Style, clean_line},
};

/// How many runs are read at once.
const PAGE: usize = 1_000;

/// How many runs are counted: whoever has more did not ask for their exact number, and waits.
const COUNTED: usize = 10_000;

pub(super) async fn doctor(context: &Context) -> Result<Exit, Failure> {
    let keyring = context.keyring()?;
    let hub = context.hub().await?;
    let health = hub.health().await?;
    let Census { runs, newest, all_counted } = count(&hub, COUNTED).await?;
    let newest = match newest {
        Some(newest) => Some(open(&hub, &newest).await),
        None => None,
    };
    let mut warnings = health.warnings;
    if keyring.is_none() {
        warnings.push(
            "Runs are stored unsealed: whoever reads the store reads them. Set \
             FLOW_ENCRYPTION_KEY; `dflow keygen` makes a key."
                .into(),
        );
    }
    let report = Report {
        healthy: newest.as_ref().is_none_or(|newest| newest.opens),
        backend: health.backend,
        location: health.location,
        latency_ms: health.latency.as_secs_f64() * 1e3,
        durable: health.durable,
        encrypted: keyring.is_some(),
        key_ids: keyring.iter().flat_map(|it| it.key_ids()).map(|id| id.to_string()).collect(),
        runs,
        all_counted,
        newest,
        backends: compiled_in().iter().map(ToString::to_string).collect(),
        warnings,
    };
    context.terminal.result(&report, |style| describe(&report, style))?;
    Ok(if report.healthy { Exit::Done } else { Exit::State })
}

/// The runs in a store.
#[derive(Default)]
struct Census {
    /// How many there are, by status.
    runs: BTreeMap<String, usize>,
    newest: Option<Summary>,
    /// Whether `runs` are all that there are.
    all_counted: bool,
}

/// Counts the newest runs, up to so many.
async fn count(hub: &PersistenceHub, most: usize) -> Result<Census> {
    let mut census = Census::default();
    let (mut after, mut left) = (None, most);
    while left > 0 {
        let page = hub.query(&Filter::default(), after, left.min(PAGE)).await?;
        left -= page.items.len();
        for run in page.items {
            *census.runs.entry(run.status.to_string()).or_default() += 1;
            census.newest.get_or_insert(run);
        }
        after = page.next;
        if after.is_none() {
            census.all_counted = true;
            break;
        }
    }
    Ok(census)
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
    match (counts.join(", "), report.all_counted) {
        (counts, _) if counts.is_empty() => line(&good, "There are no runs."),
        (counts, true) => line(&good, &format!("Runs: {counts}.")),
        (counts, false) => line(&good, &format!("Among the newest runs: {counts}.")),
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
    use dynamic_flow::{Schema, hub::SuspensionRequest, store::MemoryStore};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn many_runs_are_not_all_counted() {
        let store = std::sync::Arc::new(MemoryStore::new());
        let hub = PersistenceHub::builder(store).plaintext().build().await.unwrap();
        let none = count(&hub, 2).await.unwrap();
        assert!(none.all_counted && none.runs.is_empty() && none.newest.is_none());
        let mut last = None;
        for n in 0..3 {
            let schema = Schema::new(json!({ "type": "string" })).unwrap();
            let request = SuspensionRequest::new("ask", schema);
            last = Some(hub.suspend(&n, request).await.unwrap());
        }
        let some = count(&hub, 2).await.unwrap();
        assert_eq!(some.runs.values().sum::<usize>(), 2);
        assert!(!some.all_counted);
        let all = count(&hub, 4).await.unwrap();
        assert_eq!(all.runs.values().sum::<usize>(), 3);
        assert!(all.all_counted);
        assert_eq!(all.newest.unwrap().id, last.unwrap().run_id);
    }
}
