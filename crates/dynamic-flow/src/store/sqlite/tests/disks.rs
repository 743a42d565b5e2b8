//! Disks that are full, and those on which nothing can be written.

use std::io::Write as _;

use dynamic_flow_services::{SmallDisk, skip};

use super::*;

/// A file system of so many KiB; none where there is no right to mount one, which is then said.
fn small_disk(kibibytes: u32) -> Option<SmallDisk> {
    let disk = SmallDisk::mount(kibibytes);
    if let Err(error) = &disk {
        skip(&format!("a small disk needs the right to mount one: {error:#}"));
    }
    disk.ok()
}

#[tokio::test]
async fn a_full_disk_is_told_before_a_run_fails() {
    let Some(disk) = small_disk(1000) else { return };
    let path = disk.path().join("flows.db");
    let store = SqliteStore::new(&path);
    let record = record(1000);
    store.insert(record.clone()).await.unwrap();
    let is_told = async || {
        let problem = store.health().await.unwrap().problem;
        problem
            .is_some_and(|it| it.contains("could not be written there") && it.contains("make room"))
    };
    assert!(!is_told().await);
    let mut rest = fs::File::create(disk.path().join("rest")).unwrap();
    while rest.write_all(&[0; 1024]).is_ok() {}
    assert!(is_told().await);
    let names = fs::read_dir(disk.path()).unwrap().map(|it| it.unwrap().file_name());
    assert!(!names.into_iter().any(|it| it.to_string_lossy().contains("probe")), "it is removed");
    // What the log has room for yet.
    let refused = loop {
        if let Err(error) = store.insert(self::record(1000)).await {
            break error;
        }
    };
    assert!(refused.message().contains("can't even remove runs"), "{refused}");
}

#[tokio::test]
async fn a_disk_that_is_read_only_is_called_so() {
    let Some(disk) = small_disk(1000) else { return };
    let path = disk.path().join("flows.db");
    let store = SqliteStore::new(&path);
    store.insert(record(1)).await.unwrap();
    drop(store);
    // Without what SQLite keeps beside the file while it is open.
    let left = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while disk.path().join("flows.db-wal").exists() {
        assert!(std::time::Instant::now() < left, "the store does not end");
        std::thread::yield_now();
    }
    disk.make_read_only().unwrap();
    for path in [path, disk.path().join("new.db")] {
        let refused = SqliteStore::new(path).query(&Filter::default(), None, 1).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageError);
        assert!(refused.message().contains("the file system is read-only"), "{refused}");
    }
}
