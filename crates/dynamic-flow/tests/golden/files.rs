//! The files: written once, read for ever.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use dynamic_flow::{
    Timestamp,
    codec::{Binding, Codec, Part, Sealed, SealedInfo},
    store::{Record, Store},
    testkit::engine::Snapshot,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::world::{Case, Golden, Parked, Sealing, World};

/// A record, and what a test must know to go on with it.
#[derive(Serialize, Deserialize)]
struct File {
    /// When it was parked.
    at: Timestamp,
    /// The key of its wait.
    key: Option<String>,
    #[serde(default)]
    note: Value,
    record: Record,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// All formats that there were: of the snapshot, and of the bytes that it is sealed in.
const FORMATS: [&str; 3] = ["v1.1", "v2.1", "v2.2"];

/// The cases that were added later, each with the format of its day.
const ADDED: [(&str, &str); 1] = [("outgrown", "v2.2")];

/// The formats in which a case was parked.
fn formats_of(case: &str) -> &'static [&'static str] {
    let since = ADDED.iter().find(|(added, _)| *added == case).map(|(_, since)| since);
    let begin = since.map_or(Some(0), |since| FORMATS.iter().position(|it| it == since));
    &FORMATS[begin.expect("a format")..]
}

/// That of this build.
fn folder_of_today(file: &File) -> PathBuf {
    let format = format!("v{}.{}", Snapshot::FORMAT, sealed_format(&file.record));
    assert!(FORMATS.contains(&&*format), "{format} is new: tell the tests of it");
    root().join(format)
}

fn sealed_format(record: &Record) -> u8 {
    Codec::sealed_info(&record.snapshot).unwrap().format
}

/// Every golden file of every format.
pub(crate) fn all() -> Vec<PathBuf> {
    let files = FORMATS.iter().flat_map(|format| fs::read_dir(root().join(format)).unwrap());
    files.map(|entry| entry.unwrap().path()).collect()
}

pub(crate) async fn check(case: Case) {
    let fresh = park(&case).await;
    let current = folder_of_today(&fresh).join(case.name).with_extension("json");
    if std::env::var_os("DFLOW_GOLDEN").is_some_and(|mode| mode == "write") {
        write(&current, &fresh);
    }
    assert!(
        current.exists(),
        "{} is missing: DFLOW_GOLDEN=write cargo test -p dynamic-flow --test golden",
        current.display()
    );
    assert_same_form(&read(&current), &fresh, case.sealing);

    for format in formats_of(case.name) {
        let file = root().join(format).join(case.name).with_extension("json");
        assert!(file.exists(), "{} is gone", file.display());
        resume(&case, read(&file), sealed_format(&fresh.record)).await;
    }
}

async fn park(case: &Case) -> File {
    let world = World::then(case.sealing);
    let Parked { run, key, note } = (case.park)(world.clone()).await;
    let record = world.store.get(run).await.unwrap().expect("the run was stored");
    let at = dynamic_flow::Clock::now(&world.clock);
    File { at, key: key.map(|key| key.expose()), note, record }
}

async fn resume(case: &Case, file: File, sealed_today: u8) {
    let world = World::now(file.at, case.sealing);
    let run = file.record.id;
    let before = open(&file.record, case.sealing);
    world.store.insert(file.record).await.unwrap();
    let key = file.key.map(|key| key.parse().unwrap());
    (case.finish)(world.clone(), Golden { run, key, note: file.note }).await;
    world.assert_nothing_ran_again();
    let Some(record) = world.store.get(run).await.unwrap() else { return };
    let after = open(&record, case.sealing);
    if after["sequence"] != before["sequence"] {
        assert_eq!(after["format"], Snapshot::FORMAT, "what is written is in today's form");
        assert_eq!(sealed_format(&record), sealed_today, "in bytes that are sealed as today");
    }
}

/// The snapshot of a record, as it was written.
fn open(record: &Record, sealing: Sealing) -> Value {
    let binding = Binding { run: record.id, flow: &record.flow_id, part: Part::Snapshot };
    sealing.codec().open::<Value>(&record.snapshot, binding).unwrap().0
}

/// Writes a file that is not there yet.
fn write(path: &Path, file: &File) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if let Ok(mut new) = OpenOptions::new().write(true).create_new(true).open(path) {
        writeln!(new, "{}", serde_json::to_string_pretty(file).unwrap()).unwrap();
    }
}

fn read(path: &Path) -> File {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Holds two records of the same case against each other, sealed parts opened; what can't be the
/// same twice is left out.
fn assert_same_form(golden: &File, fresh: &File, sealing: Sealing) {
    let (old, new) = (form(&golden.record, sealing), form(&fresh.record, sealing));
    let mut differences = Vec::new();
    compare(&old, &new, "", &mut differences);
    assert!(
        differences.is_empty(),
        "the stored form changed; give a new field a serde default that is not written, or raise \
         Snapshot::FORMAT (or that of sealed bytes) and keep reading the old form:\n{}",
        differences.join("\n")
    );
}

fn form(record: &Record, sealing: Sealing) -> Value {
    let codec = sealing.codec();
    let open = |sealed: &Sealed, part| {
        let binding = Binding { run: record.id, flow: &record.flow_id, part };
        let (value, _) = codec.open::<Value>(sealed, binding).unwrap();
        let info = Codec::sealed_info(sealed).unwrap();
        let SealedInfo { format, part, compression, cipher, key_id, sequence, .. } = info;
        // On which state an item was accepted; of the first of them it was not said.
        let sequence = if part == Part::Inbox { 0 } else { sequence };
        json!({
            "sealed": format!("{format} {part} {compression:?} {cipher} {key_id:?} {sequence}"),
            "value": value,
        })
    };
    let mut form = serde_json::to_value(record).unwrap();
    form["snapshot"] = open(&record.snapshot, Part::Snapshot);
    form["inbox"] = record.inbox.iter().map(|item| open(item, Part::Inbox)).collect();
    mask(&mut form, &record.id.to_string());
    form
}

/// Takes out the run's id, the digests over it or over schemas that are derived, and which lease of
/// its hub a lease is.
fn mask(value: &mut Value, run: &str) {
    match value {
        Value::String(text) if text == run => *text = "RUN".into(),
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, run)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match name.as_str() {
                    "question" | "fingerprint" if field.is_string() => *field = "DIGEST".into(),
                    "owner" => {
                        let hub = field.as_str().and_then(|owner| owner.split('/').next());
                        *field = hub.map(str::to_owned).into();
                    }
                    _ => mask(field, run),
                }
            }
        }
        _ => {}
    }
}

/// Lists what differs, each with its place.
fn compare(old: &Value, new: &Value, at: &str, differences: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, old) in old {
                match new.get(name) {
                    Some(new) => compare(old, new, &format!("{at}/{name}"), differences),
                    None => differences.push(format!("{at}/{name}: is not written any more")),
                }
            }
            for name in new.keys().filter(|name| !old.contains_key(*name)) {
                differences.push(format!("{at}/{name}: is new"));
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(old, new, &format!("{at}/{index}"), differences);
            }
        }
        _ if old == new => {}
        _ => differences.push(format!("{at}: was {old}, is {new}")),
    }
}
