//! Several processes on one folder, and processes that are killed.
//!
//! The processes are this test program, started again for one test that does nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use dynamic_flow::{
    Metadata, Revision, RunId, RunStatus, Scalar,
    store::{Change, Expect, FileStore, Filter, Lease, Record, Store},
};

use super::support::*;

const FOLDER: &str = "FILE_STORE_TEST_FOLDER";

/// Starts this program for one test, on that folder.
fn start(test: &str, folder: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("file_store::processes::{test}"), "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The folder to work on, if this is such a process.
fn folder() -> Option<String> {
    env::var(FOLDER).ok()
}

/// Tells the process that started this one; it has been told when this returns.
fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("> {text}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What a process tells, line by line, until it ends.
fn told(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| Some(line.split_once("> ")?.1.to_owned()))
}

/// Writes without end; tells each write that was acknowledged, as run, revision, or `gone`.
#[tokio::test]
async fn as_a_process_that_writes() {
    let Some(folder) = folder() else { return };
    let store = FileStore::new(folder);
    store.provision().await.unwrap();
    for n in 0_u64.. {
        let record = parked();
        let id = record.id;
        store.insert(record).await.unwrap();
        tell(&format!("{id} 1"));
        let due = Change { due_at: Some(Some(at(0))), ..with_status(RunStatus::Ready) };
        store.update(id, Expect::Revision(Revision(1)), due).await.unwrap();
        tell(&format!("{id} 2"));
        for held in store.claim(claim(at(0), 1)).await.unwrap() {
            tell(&format!("{} {}", held.id, held.revision.0));
            store.renew(held.id, held.epoch, at(60_000)).await.unwrap();
            tell(&format!("{} {} renewed", held.id, held.revision.0));
            if n % 3 == 0 {
                store.delete(held.id, Expect::Revision(held.revision)).await.unwrap();
                tell(&format!("{} gone", held.id));
                continue;
            }
            let done = Change {
                lease: Some(None),
                due_at: Some((n % 3 == 1).then(|| at(120_000))),
                ..with_status(RunStatus::Completed)
            };
            let revision = store.update(held.id, Expect::Revision(held.revision), done).await;
            tell(&format!("{} {}", held.id, revision.unwrap().0));
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_at_any_moment() {
    let place = Place::new().await;
    let mut dice = Dice(0xdead);
    let mut acknowledged: BTreeMap<RunId, String> = BTreeMap::new();
    for _ in 0..40 {
        let mut child = start("as_a_process_that_writes", &place.path);
        let lines = told(&mut child);
        let last = usize::try_from(dice.below(30)).unwrap();
        let until = Duration::from_micros(dice.below(4000));
        let mut killed = None;
        for (n, line) in lines.enumerate() {
            let (id, what) = line.split_once(' ').unwrap();
            acknowledged.insert(id.parse().unwrap(), what.to_owned());
            if n == last {
                let killed_at = Instant::now() + until;
                let id = child.id();
                killed = Some(std::thread::spawn(move || {
                    while Instant::now() < killed_at {
                        std::hint::spin_loop();
                    }
                    Command::new("kill").args(["-9", &id.to_string()]).status().unwrap()
                }));
            }
        }
        child.wait().unwrap();
        assert!(killed.expect("it was to write until it is killed").join().unwrap().success());

        let store = FileStore::new(&place.path);
        store.provision().await.unwrap();
        assert_eq!(files(&place.path.join("tmp")), Vec::<std::path::PathBuf>::new());
        for (id, what) in &mut acknowledged {
            let read = store.get(*id).await.unwrap();
            let renewed = |record: &Record| {
                record.lease.as_ref().is_some_and(|lease| lease.until == at(60_000))
            };
            let revision = what.split(' ').next().and_then(|n| n.parse::<u64>().ok());
            // One more write may have been done and not told.
            match (&read, revision) {
                (Some(read), Some(revision)) if read.revision.0 == revision => {
                    assert!(renewed(read) || !what.ends_with("renewed"), "{id} lost {what}");
                }
                (Some(read), Some(revision)) => {
                    assert_eq!(read.revision.0, revision + 1, "{id} lost {what}");
                }
                (None, Some(_)) => assert!(what.ends_with("renewed"), "{id} lost {what}"),
                (_, None) => assert_eq!(read, None, "{id} came back"),
            }
            // The next process goes on from what is there, told or not.
            *what = match read {
                Some(read) if renewed(&read) => format!("{} renewed", read.revision.0),
                Some(read) => read.revision.0.to_string(),
                None => "gone".into(),
            };
        }
    }
    check_index(&place).await;
}

/// Whether all that is there can be found by all that it can be found by.
async fn check_index(place: &Place) {
    let all = place.list(&Filter::default()).await;
    assert!(all.len() > 20, "{}", all.len());
    for status in RunStatus::ALL {
        let expected: Vec<_> = all.iter().filter(|run| run.status == status).cloned().collect();
        assert_eq!(place.list(&of_status(status)).await, expected);
    }
    let due: BTreeSet<RunId> =
        all.iter().filter(|run| run.due_at.is_some()).map(|run| run.id).collect();
    let far = at(100_000_000_000);
    let claimed = place.claimed(far, usize::MAX).await;
    assert_eq!(claimed.len(), due.len());
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), due);
    assert_eq!(place.due_hints().len(), due.len(), "what was left over is gone after use");
    place.store.rebuild().await.unwrap();
    let hints = place.columns_hints().len();
    assert!(hints >= all.len(), "{hints} {}", all.len());
}

const COUNTERS: u8 = 3;
const STEPS: i64 = 60;

fn counter(n: u8) -> RunId {
    RunId::from_bytes([n; 16])
}

/// Counts in several records, each time from what is there.
#[tokio::test]
async fn as_a_process_that_counts() {
    let Some(folder) = folder() else { return };
    let store = FileStore::new(folder);
    store.provision().await.unwrap();
    for step in 0..STEPS * i64::from(COUNTERS) {
        let id = counter(u8::try_from(step % i64::from(COUNTERS)).unwrap());
        loop {
            let read = store.get(id).await.unwrap().unwrap();
            let Some(Scalar::Int(n)) = read.metadata.get("n") else { panic!("{read:?}") };
            let metadata = Metadata::from([("n".into(), Scalar::Int(n + 1))]);
            let change = Change { metadata: Some(metadata), ..Change::at(NOW) };
            match store.update(id, Expect::Revision(read.revision), change).await {
                Err(error) if error.is_conflict() => {}
                updated => {
                    updated.unwrap();
                    break;
                }
            }
        }
    }
    tell("counted");
}

#[tokio::test]
async fn no_update_is_lost_between_processes() {
    let place = Place::new().await;
    for n in 0..COUNTERS {
        let mut record = parked();
        record.id = counter(n);
        record.metadata = Metadata::from([("n".into(), Scalar::Int(0))]);
        place.store.insert(record).await.unwrap();
    }
    let mut children: Vec<_> =
        (0..4).map(|_| start("as_a_process_that_counts", &place.path)).collect();
    for child in &mut children {
        assert_eq!(told(child).collect::<Vec<_>>(), ["counted"]);
        assert!(child.wait().unwrap().success());
    }
    for n in 0..COUNTERS {
        let record = place.store.get(counter(n)).await.unwrap().unwrap();
        assert_eq!(record.metadata["n"], Scalar::Int(4 * STEPS));
        assert_eq!(record.revision, Revision(1 + 4 * STEPS.cast_unsigned()));
    }
}

/// Claims until there is nothing more, and tells what.
#[tokio::test]
async fn as_a_process_that_claims() {
    let Some(folder) = folder() else { return };
    let store = FileStore::new(folder);
    store.provision().await.unwrap();
    loop {
        let claimed = store.claim(claim(at(0), 3)).await.unwrap();
        if claimed.is_empty() {
            break;
        }
        for record in claimed {
            tell(&record.id.to_string());
            if is_odd(record.id) {
                store.delete(record.id, Expect::Revision(record.revision)).await.unwrap();
            }
        }
    }
}

fn is_odd(id: RunId) -> bool {
    id.as_bytes()[15] % 2 == 1
}

#[tokio::test]
async fn no_run_is_claimed_twice_by_processes() {
    let place = Place::new().await;
    let mut due = BTreeSet::new();
    for n in 0..120 {
        let mut record = parked();
        record.due_at = Some(at(-n * 100));
        if n % 5 == 0 {
            record.lease = Some(Lease { owner: "gone".into(), until: at(-n * 100) });
        }
        due.insert(record.id);
        place.store.insert(record).await.unwrap();
    }
    let mut children: Vec<_> =
        (0..4).map(|_| start("as_a_process_that_claims", &place.path)).collect();
    let mut claimed = Vec::new();
    for child in &mut children {
        claimed.extend(told(child).map(|id| id.parse::<RunId>().unwrap()));
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(claimed.len(), due.len());
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), due);
    let odd = due.iter().filter(|id| is_odd(**id)).count();
    assert_eq!(place.list(&Filter::default()).await.len(), due.len() - odd);
    assert_eq!(place.due_hints().len(), due.len() - odd);
    assert_eq!(files(&place.path.join("tmp")), Vec::<std::path::PathBuf>::new());
}
