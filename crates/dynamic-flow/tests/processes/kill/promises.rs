//! What was done and said in all lives of a client, held against what is promised.

use std::collections::{BTreeMap, BTreeSet};

use dynamic_flow::{Receipt, RunId, RunStatus, WaitId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::Place;

const OUTPUT: &str = "order check weigh one book pay mail two ship";

/// What the process does, in the order in which it does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub(super) enum Done {
    /// A tool began.
    Began { life: u32, tool: String, run: RunId, at: String, key: String },
    /// A tool is through; what it gave is not committed yet.
    Through { life: u32, tool: String, run: RunId },
    /// The store took a snapshot.
    Committed { life: u32, status: Option<RunStatus> },
}

/// What the process told the world, and may not be taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub(super) enum Acknowledged {
    /// A key was given to whoever answers.
    Key { run: RunId, wait: WaitId, key: String },
    /// An answer was accepted.
    Answer { receipt: Receipt },
    /// The run was seen to its end.
    End { output: serde_json::Value, receipts: Vec<Receipt> },
}

/// Holds what was done in all lives together against what is promised.
pub(super) fn check(place: &Place, every_step: bool) {
    let log: Vec<Done> = place.lines("log");
    // Whether what a tool gave before a point of the log was committed by then, by who called it.
    let committed = |tool: &str, run: RunId, before: usize| {
        let through = |done: &Done| match done {
            Done::Through { tool: t, run: r, life } if t == tool && *r == run => Some(*life),
            _ => None,
        };
        (0..before).any(|index| {
            through(&log[index]).is_some_and(|of| {
                log[index..before]
                    .iter()
                    .any(|done| matches!(done, Done::Committed { life, .. } if *life == of))
            })
        })
    };
    let mut calls: BTreeMap<(RunId, &str), (u32, &str, &str)> = BTreeMap::new();
    for (index, done) in log.iter().enumerate() {
        let Done::Began { life, tool, run, at, key } = done else { continue };
        if let Some((last, same_at, same_key)) = calls.get(&(*run, tool)) {
            assert_ne!(life, last, "{tool} ran twice in one life: {log:?}");
            assert_eq!((at, key), (&(*same_at).to_owned(), &(*same_key).to_owned()), "{log:?}");
            assert!(!committed(tool, *run, index), "{tool} ran again: {log:?}");
        }
        calls.insert((*run, tool), (*life, at, key));
        let needs = match tool.as_str() {
            "weigh" if every_step => Some("check"),
            "pay" => Some("book"),
            "mail" => Some("pay"),
            _ => None,
        };
        if let Some(earlier) = needs {
            assert!(committed(earlier, *run, index), "{earlier} is not committed: {log:?}");
        }
    }
    let keys: BTreeSet<_> = calls.values().map(|(_, _, key)| key).collect();
    assert_eq!(keys.len(), calls.len(), "each call has a key of its own: {calls:?}");

    let runs: BTreeSet<RunId> = calls.keys().map(|(run, _)| *run).collect();
    for lost in runs.iter().rev().skip(1) {
        assert!(!every_step, "a run is committed before its first tool: {log:?}");
        let mut tools = calls.keys().filter(|(run, _)| run == lost);
        let before_the_first_wait = tools.all(|(_, tool)| ["check", "weigh"].contains(tool));
        assert!(before_the_first_wait, "a run was left behind: {log:?}");
    }
    let ends = log
        .iter()
        .filter(|done| matches!(done, Done::Committed { status: Some(RunStatus::Completed), .. }));
    assert_eq!(ends.count(), 1, "{log:?}");

    let acknowledged: Vec<Acknowledged> = place.lines("acknowledged");
    let mut ended = 0;
    for what in &acknowledged {
        match what {
            Acknowledged::Key { run, .. } => assert_eq!(Some(run), runs.last(), "{acknowledged:?}"),
            Acknowledged::Answer { .. } => {}
            Acknowledged::End { output, receipts } => {
                ended += 1;
                assert_eq!(*output, json!(OUTPUT));
                let by: Vec<_> = receipts.iter().map(|r| r.by.as_deref().unwrap()).collect();
                assert_eq!(by, ["jane", "joe"], "each wait took one answer");
                for what in &acknowledged {
                    if let Acknowledged::Answer { receipt } = what {
                        assert!(receipts.contains(receipt), "{receipt:?} of {receipts:?}");
                    }
                }
            }
        }
    }
    assert_eq!(ended, 1, "{acknowledged:?}");
}
