use super::*;
use crate::{
    codec::Sealed,
    engine::RunStatus,
    store::{Lease, Queue},
};

/// One that waits for locks as long as it takes.
pub(in super::super) fn folder_in(root: &tempfile::TempDir) -> Folder {
    Folder::new(root.path().to_owned(), Mode::PRIVATE, Duration::MAX)
}

pub(in super::super) fn record() -> Record {
    Record {
        id: RunId::from_bytes([9; 16]),
        revision: Revision::FIRST,
        epoch: Epoch::default(),
        flow_id: "flow".into(),
        queue: Some(Queue("flow".into())),
        status: RunStatus::Waiting,
        waits: Vec::new(),
        metadata: crate::Metadata::new(),
        updated_at: Timestamp::from_millis(0),
        due_at: Some(Timestamp::from_millis(0)),
        attempts: 0,
        lease: Some(Lease { owner: "me".into(), until: Timestamp::from_millis(0) }),
        snapshot: Sealed(vec![1]),
        inbox: Vec::new(),
    }
}

/// What was done to files, each as its last part, hints by their kind.
fn notes(folder: &Folder) -> Vec<String> {
    let kind = |path: &Path| match path.strip_prefix(folder.layout.root()).unwrap() {
        path if path.starts_with("due") => "due hint".to_owned(),
        path if path.ends_with(format!("{}~", record().id)) => "mark".to_owned(),
        path if path.to_string_lossy().ends_with('~') => "hint".to_owned(),
        path => path.to_string_lossy().replace(&record().id.to_string(), "ID"),
    };
    let notes = disk::take_notes();
    notes.iter().map(|(what, path)| format!("{what} {}", kind(path))).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn what_a_power_failure_may_leave_is_not_written_over() {
    use std::os::unix::fs::MetadataExt as _;
    let root = tempfile::tempdir().unwrap();
    let folder = folder_in(&root);
    folder.provision().unwrap();
    let change = || Change::at(Timestamp::from_millis(0));
    let update = || folder.update(record().id, Expect::Any, change());
    let path = folder.layout.record(record().id);
    folder.insert(&record()).unwrap();
    // Held open, so that no other file gets its number.
    let held = fs::File::open(&path).unwrap();
    let first = held.metadata().unwrap().ino();

    disk::fail_next_sync_of(&folder.layout.bucket(record().id));
    update().unwrap_err();
    let unsynced = path.metadata().unwrap().ino();
    disk::take_notes();
    // Who looks whether it was written makes sure that it is.
    assert_eq!(folder.get(record().id).unwrap().unwrap().revision, Revision(2));
    assert_eq!(notes(&folder), ["sync runs/090909"]);
    update().unwrap();
    let third = path.metadata().unwrap().ino();
    assert!(third != first && third != unsynced, "it is a new file");
    update().unwrap();
    assert_eq!(path.metadata().unwrap().ino(), unsynced, "and from here on there are two");
}

#[test]
fn each_write_is_synced_and_its_hints_are_there_before_it_and_after_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder_in(&root);
    folder.layout.set_marks(true);
    folder.provision().unwrap();
    let made = notes(&folder);
    assert!(made[0].starts_with("sync .tmp-dynamic-flow-store-"), "{made:?}");
    assert_eq!(made[1..3], ["rename dynamic-flow-store.json", "sync "], "{made:?}");

    folder.insert(&record()).unwrap();
    let insert =
        ["sync tmp/9/ID.json", "rename runs/090909/ID.json", "sync runs/090909"].as_slice();
    let hints = ["place hint", "place due hint"].as_slice();
    assert_eq!(notes(&folder), [&["sync runs", "place mark"], hints, insert].concat());

    let write =
        ["sync tmp/9/ID.json", "exchange runs/090909/ID.json", "sync runs/090909"].as_slice();

    let change = Change {
        status: Some(RunStatus::Ready),
        due_at: Some(Some(Timestamp::from_millis(5))),
        ..Change::at(Timestamp::from_millis(0))
    };
    folder.update(record().id, Expect::Any, change).unwrap();
    let removed = ["remove hint", "remove due hint"].as_slice();
    assert_eq!(notes(&folder), [hints, write, removed].concat());

    let change = Change::at(Timestamp::from_millis(0));
    folder.update(record().id, Expect::Any, change).unwrap();
    assert_eq!(notes(&folder), write, "nothing is done for what stays as it was");

    folder.renew(record().id, record().epoch, Timestamp::from_millis(9)).unwrap();
    let renewed = ["place due hint", "rename runs/090909/ID.lease", "remove due hint"];
    assert_eq!(notes(&folder), renewed);

    folder.delete(record().id, Expect::Any).unwrap();
    let first = [
        "remove locks/09.spare",
        "remove tmp/9/ID.json",
        "remove runs/090909/ID.json",
        "sync runs/090909",
    ]
    .as_slice();
    let rest = ["remove runs/090909/ID.lease", "remove mark"].as_slice();
    assert_eq!(notes(&folder), [first, rest, removed].concat());

    let mut next = record();
    next.id = RunId::from_bytes([10; 16]);
    folder.insert(&next).unwrap();
    assert!(notes(&folder).contains(&"sync runs".into()));
    next.id = RunId::from_bytes([[10; 8], [0; 8]].concat().try_into().unwrap());
    folder.insert(&next).unwrap();
    assert!(!notes(&folder).contains(&"sync runs".into()), "its name is known to be durable");
    // To another process it is not: whoever made the folder may have died before it was synced.
    let other = folder_in(&root);
    next.id = RunId::from_bytes([[10; 8], [1; 8]].concat().try_into().unwrap());
    other.insert(&next).unwrap();
    assert!(notes(&other).contains(&"sync runs".into()));
}
