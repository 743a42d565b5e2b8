//! Whether records and the entries of the index go together: a look at some of both, chosen by chance.
//!
//! A server that throws keys away, or somebody who removes them, knows nothing of the other half. All
//! of them are never looked at: what is rare is found by one look or another, and not by each.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use redis::{Cmd, Value, cmd};

use super::{
    Shared, config::Address, entry, health::permitted, reply, servers::Effect, trouble::Trouble,
};
use crate::{engine::RunStatus, id::RunId};

/// How many entries of each partition are looked at.
const ENTRIES: usize = 64;
/// How many keys of each server are looked at, twice.
const KEYS: usize = 1_000;

/// What there is to say of both.
pub(super) async fn look(shared: &Shared) -> Result<Vec<String>, Trouble> {
    let partitions = 0..shared.keys.partitions.len();
    let entries = try_join_all(partitions.map(|n| without_record(shared, n))).await?;
    let mut said: Vec<_> = of_entries(&entries.concat()).into_iter().collect();
    let masters = shared.servers.masters().await?;
    match permitted(try_join_all(masters.iter().map(|it| records(shared, it))).await)? {
        Some(found) => {
            let mut runs: BTreeMap<usize, BTreeSet<RunId>> = BTreeMap::new();
            for run in found.into_iter().flatten() {
                runs.entry(shared.keys.of(run)).or_default().insert(run);
            }
            let lost = runs.into_iter().map(|(n, runs)| without_entry(shared, n, runs));
            said.extend(of_records(&try_join_all(lost).await?.concat()));
        }
        None => said.push(
            "This user may not use SCAN, so whether all records are in an index could not be checked."
                .into(),
        ),
    }
    Ok(said)
}

fn of_entries(lost: &[RunId]) -> Option<String> {
    let run = lost.first()?;
    Some(format!(
        "Of some index entries that were looked at, those of {} have no record, as of {run}: it was \
         thrown away or removed by hand; set maxmemory-policy noeviction, and restore a backup if the \
         runs are needed.",
        runs(lost.len())
    ))
}

fn of_records(lost: &[RunId]) -> Option<String> {
    let run = lost.first()?;
    Some(format!(
        "Of some records that were looked at, {} are in no index, as {run}: they are neither listed nor \
         continued, until an answer or another write puts them back; set maxmemory-policy noeviction, \
         and restore a backup if others wait.",
        runs(lost.len())
    ))
}

fn runs(count: usize) -> String {
    if count == 1 { "1 run".into() } else { format!("{count} runs") }
}

/// The runs of some entries whose records are not there, but for those that Redis removed after
/// their time: these have said what they would leave behind.
async fn without_record(shared: &Shared, partition: usize) -> Result<Vec<RunId>, Trouble> {
    let partition = &shared.keys.partitions[partition];
    let send = async |calls: &[Cmd]| shared.servers.send(Effect::Read, partition.slot, calls).await;
    let mut some = cmd("ZRANDMEMBER");
    some.arg(&partition.index).arg(ENTRIES);
    let entries = reply::all_bytes(send(&[some]).await?.pop().ok_or(Trouble::Confused)?)?;
    let runs: BTreeMap<RunId, Vec<u8>> =
        entries.into_iter().filter_map(|entry| Some((entry::id_of(&entry)?, entry))).collect();
    let mut calls = Vec::new();
    for (run, entry) in &runs {
        calls.push(exists(&partition.record(*run)));
        // In this order: an entry that is still there where its record is not did not go with it.
        let mut score = cmd("ZSCORE");
        score.arg(&partition.index).arg(entry);
        calls.push(score);
        let (first, last) = entry::mark_range(*run);
        let mut mark = cmd("ZLEXCOUNT");
        mark.arg(&partition.index).arg(first).arg(last);
        calls.push(mark);
    }
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let replies = send(&calls).await?;
    let lost = runs.into_keys().zip(replies.chunks(3)).filter(|(_, reply)| {
        reply[0] == Value::Int(0) && reply[1] != Value::Nil && reply[2] == Value::Int(0)
    });
    Ok(lost.map(|(run, _)| run).collect())
}

/// The runs of some records at a server.
async fn records(shared: &Shared, server: &Address) -> Result<Vec<RunId>, Trouble> {
    let mut runs = Vec::new();
    // A place by chance, then what follows; after the end that is the beginning.
    let mut cursor = getrandom::u64().unwrap_or(0).to_string();
    for _ in 0..2 {
        let mut scan = cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(shared.keys.records()).arg("COUNT").arg(KEYS);
        let found = shared.servers.at(server, &[scan], false).await?.pop();
        let mut found = reply::list(found.ok_or(Trouble::Confused)?)?.into_iter();
        cursor = reply::text(found.next().ok_or(Trouble::Confused)?)?;
        let keys = reply::all_bytes(found.next().ok_or(Trouble::Confused)?)?;
        runs.extend(keys.iter().filter_map(|key| shared.keys.run_of(key)));
    }
    Ok(runs)
}

/// Those of the runs that have no entry of any status, though their records are there.
async fn without_entry(
    shared: &Shared,
    partition: usize,
    runs: BTreeSet<RunId>,
) -> Result<Vec<RunId>, Trouble> {
    let partition = &shared.keys.partitions[partition];
    let calls = runs.iter().flat_map(|run| {
        let mut scores = cmd("ZMSCORE");
        scores.arg(&partition.index);
        for status in RunStatus::ALL {
            scores.arg([&*entry::of_status(status), run.as_bytes()].concat());
        }
        // In this order: a record that is still there where its entry is not did not go with it.
        [scores, exists(&partition.record(*run))]
    });
    let calls: Vec<_> = calls.collect();
    let replies = shared.servers.send(Effect::Read, partition.slot, &calls).await?;
    let mut lost = Vec::new();
    for (run, reply) in runs.into_iter().zip(replies.chunks(2)) {
        let scores = reply::list(reply[0].clone())?;
        if scores.iter().all(|score| *score == Value::Nil) && reply[1] == Value::Int(1) {
            lost.push(run);
        }
    }
    Ok(lost)
}

fn exists(key: &str) -> Cmd {
    let mut exists = cmd("EXISTS");
    exists.arg(key);
    exists
}
