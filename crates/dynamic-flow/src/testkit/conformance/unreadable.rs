//! Records that do not read back. How a store keeps them only its own tests know, so these checks are
//! none of the suite: they are told how a record is damaged behind the store's back.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Subject,
    build::{at, claim, full, id, insert_all, queue},
};
use crate::{
    codec::{EncryptionKey, Keyring},
    error::ErrorKind,
    flow::Flow,
    hub::{Cleanup, HubBuilder, Outcome, PersistenceHub},
    id::RunId,
    store::{Claim, Cursor, Filter, Listed, Store, id_of},
    testkit::ManualClock,
    tool::AwaitInput,
    wait::Metadata,
};

/// A damaged record hides no other: pages of any size list all of them, newest first, each once,
/// say where those are that do not read back, and come to an end; claims give all others. The open
/// waits of a run are what `damage` should make unreadable.
///
/// # Panics
/// If the store fails, or lists anything else.
pub async fn damaged_records_hide_no_others(subject: Subject, damage: impl AsyncFn(RunId)) {
    let store = subject.provisioned().await;
    let ids: Vec<RunId> = (0..8).rev().map(id).collect();
    let records: Vec<_> = ids.iter().map(|id| full(*id)).collect();
    insert_all(&*store, &records).await;
    // The newest, the oldest, and two in a row.
    let damaged: BTreeSet<RunId> = [0, 3, 4, 7].map(|place| ids[place]).into();
    for id in &damaged {
        damage(*id).await;
        let error = store.get(*id).await.expect_err("it does not read back");
        assert_eq!((error.kind(), error.run_id()), (ErrorKind::CorruptState, Some(*id)), "{error}");
    }
    for limit in [1, 2, 3, 4, 7, 8, 100] {
        let listed = pages(&*store, &Filter::default(), limit).await;
        assert_eq!(listed.iter().map(id_of).collect::<Vec<_>>(), ids, "{limit} at a time");
        for unreadable in listed.iter().filter_map(|it| it.as_ref().err()) {
            assert!(damaged.contains(&unreadable.id), "{unreadable}");
            let shown = unreadable.to_string();
            assert!(unreadable.place.contains(&place_of(unreadable.id, &shown)), "{shown}");
            assert!(!shown.contains('\n') && !shown.contains("manager-approval"), "{shown}");
        }
        let healthy = listed.iter().filter(|it| it.is_ok()).count();
        assert_eq!(healthy, ids.len() - damaged.len());
    }
    let healthy: Vec<_> = ids.iter().filter(|id| !damaged.contains(id)).copied().collect();
    for filter in filters() {
        for limit in [1, 3, 100] {
            let listed = pages(&*store, &filter, limit).await;
            let found: Vec<_> = listed.iter().flatten().map(|summary| summary.id).collect();
            assert_eq!(found, healthy, "{limit} at a time: {filter:?}");
        }
    }
    let mut given = BTreeSet::new();
    for _ in &ids {
        let queues = vec![queue("purchase-approval")];
        // Where those that don't read back are alone, it may say so.
        let more = store.claim(Claim { queues, limit: 3, ..claim(at(1_000_000)) }).await;
        given.extend(more.iter().flatten().map(|record| record.id));
    }
    // A claim writes some of what may have been damaged.
    let missing: Vec<_> = healthy.iter().filter(|id| !given.contains(id)).collect();
    assert!(missing.is_empty(), "claims pass over {missing:?} beside those that don't read back");
    let young = Filter { created_after: Some(at(4)), ..Filter::default() };
    let young = pages(&*store, &young, 2).await;
    assert_eq!(young.iter().map(id_of).collect::<Vec<_>>(), ids[..4], "times are those of ids");
}

/// The id as the place spells it: with or without dashes.
fn place_of(id: RunId, shown: &str) -> String {
    let id = id.to_string();
    let plain = id.replace('-', "");
    if shown.contains(&format!("'{plain}'")) { plain } else { id }
}

/// One criterion of each kind, which all records meet, and some pairs.
fn filters() -> Vec<Filter> {
    let all = Filter::default;
    let status = || [full(id(0)).status].into();
    let flow = || Some("purchase-approval".into());
    let tool = || Some("manager-approval".into());
    vec![
        Filter { status: status(), ..all() },
        Filter { flow_id: flow(), ..all() },
        Filter { tool_id: tool(), ..all() },
        Filter { metadata: Metadata::from([("urgent".into(), true.into())]), ..all() },
        Filter { expires_before: Some(at(9_001)), ..all() },
        Filter { expires_after: Some(at(9_000)), status: status(), ..all() },
        Filter { expires_after: Some(at(9_000)), flow_id: flow(), ..all() },
        Filter { tool_id: tool(), expires_before: Some(at(9_001)), ..all() },
        Filter { tool_id: tool(), flow_id: flow(), metadata: full(id(0)).metadata, ..all() },
    ]
}

/// Turns all pages, and checks of each that it is full unless it is the last.
async fn pages(store: &dyn Store, filter: &Filter, limit: usize) -> Vec<Listed> {
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = store.query(filter, after, limit).await.expect("query");
        assert!(page.items.len() <= limit, "{} items on a page of {limit}", page.items.len());
        listed.extend(page.items);
        let Some(next) = page.next else { return listed };
        assert_eq!(listed.len() % limit, 0, "a page that is not the last one is full");
        assert_eq!(Some(next.0), listed.last().map(id_of), "the cursor is the last item");
        assert!(
            after.is_none_or(|before: Cursor| next.0 < before.0),
            "each page is older than the last"
        );
        after = Some(next);
    }
}

/// A hub does for all others what it is asked to do, and names those that do not read back: it lists,
/// checks, counts, seals anew and removes.
///
/// # Panics
/// If it fails, passes over a run or removes one that does not read back.
pub async fn a_hub_does_its_work_beside_damaged_records(
    subject: Subject,
    damage: impl AsyncFn(RunId),
) {
    let store = subject.provisioned().await;
    let clock = ManualClock::new(at(0));
    let builder = || PersistenceHub::builder(store.clone()).clock(clock.clone());
    let keys = || EncryptionKey::generate().expect("randomness");
    let old = keys();
    let older = old.expose().parse().expect("a key");
    let hub = waiting(builder().keyring(Keyring::new(old))).await;
    let mut runs = Vec::new();
    for n in 0..5 {
        let handle = hub.register(question()).expect("register");
        match handle.run(n).await.expect("run") {
            Outcome::Suspended(parked) => runs.push(parked.run_id),
            other => panic!("{other:?}"),
        }
        clock.advance(Duration::from_millis(1));
    }
    let damaged: BTreeSet<_> = [runs[1], runs[3]].into();
    for run in &damaged {
        damage(*run).await;
    }
    let named = |runs: &mut dyn Iterator<Item = RunId>| runs.collect::<BTreeSet<_>>();
    let whole = || runs.iter().copied().filter(|run| !damaged.contains(run));

    let page = hub.query(&Filter::default(), None, 10).await.expect("query");
    assert_eq!(named(&mut page.unreadable().map(|it| it.id)), damaged);
    assert_eq!(page.readable().count(), 3);
    let report = hub.check(&question().erase()).await.expect("check");
    assert_eq!((report.runs, report.same), (5, 3), "{report:?}");
    assert_eq!(named(&mut report.unopened.iter().map(|it| it.run_id)), damaged);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(hub.overdue(10).await.expect("overdue"), 3);

    let hub = waiting(builder().keyring(Keyring::new(keys()).with_older(older))).await;
    let (mut resealed, mut unreadable, mut after) = (0, BTreeSet::new(), None);
    loop {
        let report = hub.reseal(after, 2).await.expect("reseal");
        assert_eq!(report.failed, 0);
        resealed += report.resealed;
        unreadable.extend(report.unreadable.iter().map(|it| it.id));
        after = report.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((resealed, unreadable), (3, damaged.clone()));

    let cleaned = hub.cleanup(&Cleanup::new().expired_only()).await.expect("cleanup");
    assert_eq!(named(&mut cleaned.deleted.iter().copied()), named(&mut whole()));
    assert_eq!(named(&mut cleaned.errors.iter().map(|it| it.run_id)), damaged);
    let cleaned = hub.cleanup(&Cleanup::new().all()).await.expect("cleanup");
    assert_eq!((cleaned.deleted_count, cleaned.errors.len()), (0, 2), "they stay where they are");
    let left = hub.query(&Filter::default(), None, 10).await.expect("query");
    assert_eq!((left.readable().count(), left.unreadable().count()), (0, 2));
}

async fn waiting(builder: HubBuilder) -> PersistenceHub {
    let hub = builder.build().await.expect("a hub");
    hub.register(question()).expect("register");
    hub
}

fn question() -> Flow<u32, String> {
    let ask = AwaitInput::<String>::new("ask").prompt("Well?").timeout(Duration::from_secs(60));
    Flow::input::<u32>("question").await_input(ask).build().expect("a flow")
}
