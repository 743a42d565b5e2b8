//! The folder: whose it is, who may read it, and what goes wrong with it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use dynamic_flow::{
    Error, ErrorKind,
    store::{Expect, FileStore, Filter, Store},
};
use dynamic_flow_services::{SmallDisk, skip};

use super::support::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn folders(path: &Path) -> Vec<std::path::PathBuf> {
    let inner = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let inner = inner.filter(|path| path.is_dir()).flat_map(|path| folders(&path));
    std::iter::once(path.to_owned()).chain(inner).collect()
}

/// Asserts that an error is the store's, names the path, and says something of that.
fn assert_says(error: &Error, path: &Path, words: &str) {
    assert_eq!(error.kind(), ErrorKind::StorageError, "{error}");
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(text.contains(words), "{text}");
    assert!(!text.contains('\n'), "{text}");
}

#[tokio::test]
async fn files_are_their_owners_alone() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    place.store.renew(record.id, record.epoch, NOW).await.unwrap_err();
    for file in files(&place.path) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    for folder in folders(&place.path) {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
}

#[tokio::test]
async fn permissions_can_be_widened_to_a_group_and_not_to_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows");
    let store = FileStore::new(&path).permissions(0o660);
    store.provision().await.unwrap();
    let record = parked();
    store.insert(record.clone()).await.unwrap();
    assert!(files(&path).iter().all(|file| mode(file) == 0o660));
    assert!(folders(&path).iter().all(|folder| mode(folder) == 0o770));
    assert_eq!(store.health().await.unwrap().warnings, Vec::<String>::new());

    for nonsense in [0o400, 0o066, 0o700, 0o1600] {
        let store = FileStore::new(folder.path().join("other")).permissions(nonsense);
        assert_eq!(kind(store.provision().await), ErrorKind::InvalidConfig, "{nonsense:o}");
    }
    assert!(!folder.path().join("other").exists());
}

#[tokio::test]
async fn in_a_folder_of_a_group_all_belongs_to_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let special = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7000;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o2770)).unwrap();
    if special(folder.path()) != 0o2000 {
        return skip("no folder gives its group here");
    }
    let path = folder.path().join("flows");
    let store = FileStore::new(&path).permissions(0o660);
    store.provision().await.unwrap();
    store.insert(parked()).await.unwrap();
    for folder in folders(&path) {
        assert_eq!((special(&folder), mode(&folder)), (0o2000, 0o770), "{}", folder.display());
    }
    for file in files(&path) {
        assert_eq!((special(&file), mode(&file)), (0, 0o660), "{}", file.display());
    }
}

#[tokio::test]
async fn health_tells_of_permissions_and_that_it_works() {
    let place = Place::new().await;
    let health = place.store.health().await.unwrap();
    assert_eq!(health.backend, "file");
    assert_eq!(health.location, place.path.display().to_string());
    assert!(!health.latency.is_zero());
    let warns = |what: &str| health.warnings.iter().any(|warning| warning.contains(what));
    assert!(!warns("open to others") && !warns("could not be written"), "{health:?}");
    assert_eq!(files(&place.path.join("tmp")).len(), 0);

    fs::set_permissions(place.path.join("runs"), fs::Permissions::from_mode(0o755)).unwrap();
    let health = place.store.health().await.unwrap();
    assert!(health.warnings.iter().any(|w| w.contains("open to others (755)")), "{health:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_may_provision_at_once_and_again() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let path = folder.path().join(format!("{round}/a/b"));
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let store = FileStore::new(&path);
                tokio::spawn(async move {
                    store.provision().await?;
                    store.insert(parked()).await
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let store = FileStore::new(&path);
        store.provision().await.unwrap();
        assert_eq!(list(&store, &Filter::default()).await.unwrap().len(), 20);
        assert_eq!(files(&path.join("tmp")).len(), 0);
    }
}

#[tokio::test]
async fn a_folder_with_other_things_in_it_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "\\begin").unwrap();
    let refused = FileStore::new(folder.path()).provision().await.unwrap_err();
    assert_says(&refused, folder.path(), "thesis.tex");
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn a_fresh_volume_or_a_folder_kept_by_git_is_no_foreign_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    fs::write(folder.path().join(".gitkeep"), "").unwrap();
    let store = FileStore::new(folder.path());
    store.provision().await.unwrap();
    store.insert(parked()).await.unwrap();
}

#[tokio::test]
async fn a_folder_of_a_newer_version_or_with_a_damaged_marker_is_refused() {
    let place = Place::new().await;
    let marker = place.path.join("dynamic-flow-store.json");
    fs::write(&marker, "{\"dynamic_flow_store\":2}").unwrap();
    let newer = place.store.provision().await.unwrap_err();
    assert_says(&newer, &marker, "newer dynamic-flow");
    fs::write(&marker, "hello").unwrap();
    let damaged = place.store.provision().await.unwrap_err();
    assert_eq!(damaged.kind(), ErrorKind::CorruptState);
    assert!(damaged.to_string().contains("dynamic-flow-store.json"), "{damaged}");
}

#[tokio::test]
async fn a_file_where_the_folder_should_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("flows")] {
        let refused = FileStore::new(&path).provision().await.unwrap_err();
        assert_says(&refused, &path, "make a folder");
        assert!(refused.message().contains("a file is where a folder should be"), "{refused}");
    }
    let empty = FileStore::new("").provision().await.unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    // Not even root writes there.
    let refused = FileStore::new("/proc/flows").provision().await.unwrap_err();
    assert_says(&refused, Path::new("/proc/flows"), "make a folder");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_not_an_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flows");
    let store = FileStore::new(&path);
    let record = parked();
    let failures = [
        store.get(record.id).await.map(|_| ()).unwrap_err(),
        store.insert(record.clone()).await.unwrap_err(),
        store.delete(record.id, Expect::Any).await.unwrap_err(),
        store.claim(claim(NOW, 1)).await.map(|_| ()).unwrap_err(),
        store.query(&Filter::default(), None, 1).await.map(|_| ()).unwrap_err(),
        store.health().await.map(|_| ()).unwrap_err(),
        store.rebuild().await.map(|_| ()).unwrap_err(),
    ];
    for error in &failures {
        assert_says(error, &path, "provision the store");
    }
    assert!(!path.exists(), "no call but provision makes it");
}

#[tokio::test]
async fn foreign_files_beside_records_do_no_harm() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    let bucket = place.record(record.id).parent().unwrap().to_owned();
    for name in ["notes.txt", "a~b", ".DS_Store", "µ", &format!("{}.bak", record.id)] {
        fs::write(bucket.join(name), "?").unwrap();
        fs::write(place.path.join("tmp").join(name), "?").unwrap();
        fs::write(place.due_hints()[0].with_file_name(name), "?").unwrap();
        fs::create_dir_all(place.path.join("runs").join(name)).unwrap();
        fs::create_dir_all(place.path.join("due").join(name)).unwrap();
    }
    // As it is written by others than us.
    let upper = record.id.to_string().to_uppercase();
    fs::write(bucket.join(format!("{upper}.json")), "?").unwrap();

    place.store.provision().await.unwrap();
    assert_eq!(place.list(&Filter::default()).await.len(), 1);
    assert_eq!(place.list(&Filter { flow_id: Some("none".into()), ..Filter::default() }).await, []);
    assert_eq!(place.claimed(at(3_600_000), 9).await, [record.id]);
    assert_eq!(place.store.rebuild().await.unwrap().records, 1);
    assert!(bucket.join("notes.txt").exists());
}

#[tokio::test]
async fn a_file_that_is_no_record_is_named_and_never_taken_for_one() {
    let place = Place::new().await;
    let (record, other) = (parked(), parked());
    place.store.insert(record.clone()).await.unwrap();
    place.store.insert(other.clone()).await.unwrap();
    let file = place.record(record.id);
    let good = fs::read_to_string(&file).unwrap();
    let swapped = fs::read_to_string(place.record(other.id)).unwrap();
    let cases = [
        (String::new(), "no record"),
        (good[..good.len() / 2].to_owned(), "no record"),
        ("[1]".to_owned(), "no record"),
        (good.replace("\"revision\":1", "\"revision\":\"secret\""), "no record"),
        (swapped, "another run"),
        (good.replace("\"format\":1", "\"format\":2"), "newer dynamic-flow"),
        (good.replace("\"epoch\":", "\"epoch\":1844674407370955161"), "beyond all bounds"),
        (good.replace("AHNl", "A!Nl"), "damaged snapshot"),
    ];
    for (text, words) in cases {
        fs::write(&file, &text).unwrap();
        let error = place.store.get(record.id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState, "{error}");
        let message = error.to_string();
        assert!(message.contains(words), "{message}");
        assert!(message.contains(file.to_str().unwrap()), "{message}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert_eq!(error.run_id(), Some(record.id));
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "it stays as it is");
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = place.store.get(record.id).await.unwrap_err();
    assert_says(&error, &file, "move it away");
}

#[tokio::test]
async fn a_planted_link_is_not_followed() {
    let place = Place::new().await;
    let record = parked();
    let victim = place.path.parent().unwrap().join("victim");
    fs::write(&victim, "precious").unwrap();
    let temp = place.temp(record.id);
    fs::create_dir_all(temp.parent().unwrap()).unwrap();
    symlink(&victim, temp).unwrap();
    place.store.insert(record.clone()).await.unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(place.store.get(record.id).await.unwrap(), Some(record));
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_tidied_up() {
    let place = Place::new().await;
    let record = parked();
    let left = [place.temp(record.id), place.path.join(".tmp-dynamic-flow-store-0123456789abcdef")];
    for path in &left {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{\"form").unwrap();
    }
    // Whose writer holds its lock is being written.
    let busy = parked();
    let busy_temp = place.temp(busy.id);
    fs::create_dir_all(busy_temp.parent().unwrap()).unwrap();
    fs::write(&busy_temp, "{\"form").unwrap();
    let shard = format!("{:02x}", busy.id.as_bytes()[15] % 64);
    let same_shard = record.id.as_bytes()[15] % 64 == busy.id.as_bytes()[15] % 64;
    let lock = fs::File::create(place.path.join("locks").join(shard)).unwrap();
    lock.lock().unwrap();
    place.store.provision().await.unwrap();
    assert_eq!(left[0].exists(), same_shard);
    assert!(!left[1].exists());
    assert!(busy_temp.exists());
    drop(lock);
    place.store.provision().await.unwrap();
    assert!(!busy_temp.exists());
    place.store.insert(record).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_lock_files_let_nobody_in() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    let path = place.path.join("locks").join(format!("{:02x}", record.id.as_bytes()[15] % 64));
    let held = fs::File::open(&path).unwrap();
    held.lock().unwrap();
    let store = place.store.clone();
    let waiting = tokio::spawn(async move { store.delete(record.id, Expect::Any).await });
    while !is_waited_for(&held) {
        std::thread::yield_now();
    }
    // It waits for a file that is deleted now: what it gets then is worth nothing.
    fs::remove_file(&path).unwrap();
    let again = fs::File::create(&path).unwrap();
    again.lock().unwrap();
    drop(held);
    while !waiting.is_finished() && !is_waited_for(&again) {
        std::thread::yield_now();
    }
    assert!(place.store.get(record.id).await.unwrap().is_some());
    drop(again);
    waiting.await.unwrap().unwrap();
}

/// A file system with room for a few files; none where there is no right to mount one, which is
/// then said.
fn small_disk() -> Option<SmallDisk> {
    let disk = SmallDisk::mount(64);
    if let Err(error) = &disk {
        skip(&format!("a small disk needs the right to mount one: {error:#}"));
    }
    disk.ok()
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_nothing_is_half_written() {
    let Some(disk) = small_disk() else { return };
    let path = disk.path().join("flows");
    let store = FileStore::new(&path);
    store.provision().await.unwrap();
    let record = parked();
    store.insert(record.clone()).await.unwrap();
    let before = files(&path);

    let huge = dynamic_flow::codec::Sealed(vec![7; 100_000]);
    let mut other = parked();
    other.snapshot = huge.clone();
    let full = store.insert(other.clone()).await.unwrap_err();
    assert_says(&full, &path, "free space");
    assert!(!full.is_retryable(), "somebody has to make room first");
    assert_eq!(store.get(other.id).await.unwrap(), None);

    let change = dynamic_flow::store::Change {
        snapshot: Some(huge),
        due_at: Some(Some(at(7_200_000))),
        ..with_status(dynamic_flow::RunStatus::Ready)
    };
    let full = store.update(record.id, Expect::Any, change).await.unwrap_err();
    assert_says(&full, &path, "free space");
    assert_eq!(store.get(record.id).await.unwrap(), Some(record.clone()));
    let locks = |path: &std::path::PathBuf| !path.to_str().unwrap().contains("/locks/");
    let after: Vec<_> = files(&path).into_iter().filter(locks).collect();
    assert_eq!(after, before.into_iter().filter(locks).collect::<Vec<_>>());

    let health = store.health().await.unwrap();
    assert!(!health.durable);
    assert!(health.warnings[0].contains("tmpfs"), "{health:?}");
    let problem = health.problem.as_deref().unwrap_or_default();
    assert!(problem.contains("64 KiB could not be written there"), "{health:?}");
    store.delete(record.id, Expect::Any).await.unwrap();
}

#[tokio::test]
async fn a_read_only_disk_can_be_read_and_says_why_it_cannot_be_written() {
    let Some(disk) = small_disk() else { return };
    let path = disk.path().join("flows");
    let store = FileStore::new(&path);
    store.provision().await.unwrap();
    let record = parked();
    store.insert(record.clone()).await.unwrap();
    disk.make_read_only().unwrap();
    let store = FileStore::new(&path);
    store.provision().await.unwrap();
    assert_eq!(store.get(record.id).await.unwrap(), Some(record));
    assert_eq!(list(&store, &Filter::default()).await.unwrap().len(), 1);
    let refused = store.insert(parked()).await.unwrap_err();
    assert_says(&refused, &path, "mount it writable");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_not_healthy() {
    let place = Place::new().await;
    let locks = place.path.join("locks");
    fs::remove_dir_all(&locks).unwrap();
    fs::write(&locks, "").unwrap();
    let health = place.store.health().await.unwrap();
    let problem = health.problem.as_deref().unwrap_or_default();
    assert!(problem.starts_with("Nothing can be written there: StorageError"), "{health:?}");
}

#[tokio::test]
async fn a_record_of_a_newer_form_asks_for_a_newer_program() {
    let place = Place::new().await;
    let record = parked();
    place.store.insert(record.clone()).await.unwrap();
    for (format, words) in [(99, "use a newer dynamic-flow"), (0, "no record")] {
        let text = format!("{{ \"format\": {format}, \"everything\": \"else\" }}");
        fs::write(place.record(record.id), text).unwrap();
        let error = place.store.get(record.id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_folder_in_which_nobody_has_put_anything_is_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let is_there = async || FileStore::new(folder.path()).exists().await.unwrap();
    assert!(!is_there().await);
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    fs::write(folder.path().join(".hidden"), "").unwrap();
    assert!(!is_there().await);
    fs::write(folder.path().join("notes.txt"), "").unwrap();
    assert!(is_there().await, "what it is, `provision` finds out");
    assert!(!FileStore::new(folder.path().join("elsewhere")).exists().await.unwrap());
}
