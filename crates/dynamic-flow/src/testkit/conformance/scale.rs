//! A store that holds very many parked runs, and the calls that must not feel it.

use std::time::{Duration, Instant};

use super::{
    Subject,
    build::{at, id, plain, queue, wait},
};
use crate::{
    engine::RunStatus,
    store::{Claim, Filter, Record},
    wait::Metadata,
};

/// How long single calls took, with very many parked runs in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scale {
    /// How many runs were parked.
    pub runs: u64,
    /// Inserting one of them, on average.
    pub insert: Duration,
    /// A claim of ten out of a hundred that are due.
    pub claim: Duration,
    /// A claim when nothing is due.
    pub idle_claim: Duration,
    /// A page of fifty, for each of several filters by name.
    pub pages: Vec<(&'static str, Duration)>,
}

/// Parks so many runs, a hundred of them due, and measures a claim and pages of queries.
///
/// # Panics
/// If what is claimed or listed is not what was parked.
pub async fn scale(subject: Subject, runs: u64) -> Scale {
    let store = subject.provisioned().await;
    let began = Instant::now();
    let mut inserts = tokio::task::JoinSet::new();
    for n in 0..runs {
        let store = store.clone();
        inserts.spawn(async move { store.insert(parked(n, runs)).await.expect("insert") });
        // Enough at once for a store to write many together, few enough to hold in memory.
        if inserts.len() >= 256 {
            inserts.join_next().await.expect("a task").expect("an insert");
        }
    }
    inserts.join_all().await;
    let insert = began.elapsed() / u32::try_from(runs.max(1)).unwrap_or(u32::MAX);

    let mut measured = Vec::new();
    for (name, filter, expected) in filters(runs) {
        let began = Instant::now();
        let page = store.query(&filter, None, 50).await.expect("query");
        measured.push((name, began.elapsed()));
        assert_same!(page.items.len() as u64, expected.min(50), "{name}");
        assert_eq!(page.next.is_some(), expected > 50, "{name}");
    }
    let ten = |millis| Claim {
        now: at(millis),
        queues: (0..10).map(|n| queue(&format!("flow-{n}"))).collect(),
        owner: "scale".into(),
        lease: Duration::from_secs(60),
        limit: 10,
        except: [].into(),
    };
    let began = Instant::now();
    assert_eq!(store.claim(ten(-1)).await.expect("claim"), []);
    let idle_claim = began.elapsed();
    let began = Instant::now();
    let given = store.claim(ten(0)).await.expect("claim");
    let claim = began.elapsed();
    assert_eq!(given.len() as u64, due_ones(runs).min(10));
    Scale { runs, insert, claim, idle_claim, pages: measured }
}

fn due_ones(runs: u64) -> u64 {
    runs.min(100)
}

/// The `n`-th run: of ten flows, waiting for one of a hundred tools, due in a day or now.
fn parked(n: u64, runs: u64) -> Record {
    let due = n < due_ones(runs);
    let until = if due { at(0) } else { at(86_400_000 + n as i64) };
    Record {
        flow_id: format!("flow-{}", n % 10).as_str().into(),
        queue: Some(queue(&format!("flow-{}", n % 10))),
        // The oldest run is the only one that failed: whoever looks for it passes all others.
        status: if n == 0 { RunStatus::Failed } else { RunStatus::Waiting },
        waits: vec![wait("ask", &format!("tool-{}", n % 100), Some(until))],
        metadata: Metadata::from([
            ("customer".into(), format!("customer-{}", n % 1000).into()),
            ("order".into(), (n as i64).into()),
        ]),
        due_at: Some(until),
        ..plain(id(n))
    }
}

/// Filters with their names and how many of so many runs match.
fn filters(runs: u64) -> Vec<(&'static str, Filter, u64)> {
    let every = |step: u64, first: u64| (runs + step - 1).saturating_sub(first) / step;
    let base = Filter::default;
    let meta = |name: &str, value| Metadata::from([(name.to_owned(), value)]);
    vec![
        ("everything", base(), runs),
        ("status, rare", Filter { status: [RunStatus::Failed].into(), ..base() }, runs.min(1)),
        ("status, common", Filter { status: [RunStatus::Waiting].into(), ..base() }, runs - 1),
        ("flow", Filter { flow_id: Some("flow-7".into()), ..base() }, every(10, 7)),
        (
            "flow and rare status",
            Filter { flow_id: Some("flow-0".into()), status: [RunStatus::Failed].into(), ..base() },
            runs.min(1),
        ),
        ("tool", Filter { tool_id: Some("tool-42".into()), ..base() }, every(100, 42)),
        ("created before", Filter { created_before: Some(at(60)), ..base() }, runs.min(60)),
        ("expires before, few", Filter { expires_before: Some(at(1)), ..base() }, due_ones(runs)),
        (
            "expires after, many",
            Filter { expires_after: Some(at(1)), ..base() },
            runs - due_ones(runs),
        ),
        (
            "metadata, some",
            Filter { metadata: meta("customer", "customer-5".into()), ..base() },
            every(1000, 5),
        ),
        (
            "metadata, one",
            Filter { metadata: meta("order", 3.into()), ..base() },
            u64::from(runs > 3),
        ),
    ]
}
