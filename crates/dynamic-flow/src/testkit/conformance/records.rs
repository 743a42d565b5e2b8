//! Insert, get and delete of one record.

use std::time::Duration;

use super::{
    Subject,
    build::{
        assert_kind, at, claim, due, full, id, id_at, listed, plain, queue, read, sealed, wait,
    },
    dice::Dice,
};
use crate::{
    clock::Timestamp,
    codec::Sealed,
    engine::RunStatus,
    error::ErrorKind,
    id::{Epoch, KeyDigest, Revision, RunId},
    metadata::{MAX_METADATA_NAME_BYTES, MAX_METADATA_TEXT_BYTES},
    store::{Change, Claim, Expect, Filter, Lease, MAX_COUNTER, Record, WaitIndex},
    wait::{Metadata, Scalar},
};

/// Texts that one backend or another would take for something else.
pub(super) const ODD_TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "A",
    "a ",
    " a",
    "a/b",
    "a.b",
    "a\\b",
    "a_b",
    "a%b",
    "a*b",
    "a:b",
    "a b",
    "a\nb",
    "a\tb",
    "..",
    "../a",
    "/",
    "'; DROP TABLE suspended_flows; --",
    "\"quoted\"",
    "'",
    "\"",
    "`",
    "`ticked`",
    "a` = 1 //",
    "$",
    "$dollar",
    "$where",
    "a.$b",
    ".",
    ".a",
    "a.",
    "a..b",
    "{curly}",
    "}",
    "{{ x }}",
    "${x}",
    "[0]",
    "*",
    "?",
    "$1",
    ":a",
    "\\u0000",
    "_id",
    "null",
    "true",
    "1",
    "1.0",
    "é",
    "e\u{301}",
    "ß",
    "SS",
    "İ",
    "日本語",
    "🦀🏳️‍🌈",
    "\u{202e}right to left",
    "\u{feff}bom",
    "\u{1}\u{1f}\u{7f}",
    "\u{10ffff}",
];

/// Inserts the record and compares what is read back.
async fn round_trip(subject: &Subject, record: Record) {
    let store = subject.provisioned().await;
    store.insert(record.clone()).await.expect("insert");
    assert_same!(read(&*store, record.id).await, record);
}

/// Every field of a record comes back.
pub async fn a_record_reads_back_as_it_was_written(subject: Subject) {
    for (n, status) in (1..).zip(RunStatus::ALL) {
        round_trip(&subject, Record { status, ..full(id(n)) }).await;
    }
}

/// Nothing is something: an empty text is not a missing one, nor the other way round.
pub async fn empty_fields_read_back_empty(subject: Subject) {
    round_trip(&subject, plain(id(1))).await;
    let no_text = Record {
        flow_id: "".into(),
        queue: Some(queue("")),
        waits: vec![WaitIndex { keys: vec![], ..wait("", "", None) }],
        metadata: Metadata::from([(String::new(), "".into())]),
        lease: Some(Lease { owner: String::new(), until: at(0) }),
        snapshot: Sealed(vec![]),
        inbox: vec![Sealed(vec![]), sealed("x"), Sealed(vec![])],
        ..plain(id(2))
    };
    round_trip(&subject, no_text).await;
    round_trip(&subject, Record { queue: Some(queue("q")), due_at: None, ..plain(id(3)) }).await;
    round_trip(&subject, Record { queue: None, due_at: Some(at(0)), ..plain(id(4)) }).await;
    let lone_lease = Some(Lease { owner: "w".into(), until: at(9) });
    round_trip(&subject, Record { lease: lone_lease, ..plain(id(5)) }).await;
}

/// No number is rounded, wrapped or turned into another type.
pub async fn extreme_numbers_read_back_exactly(subject: Subject) {
    let extremes = [
        i64::MIN,
        i64::MIN + 1,
        -(1 << 53) - 1,
        -1,
        0,
        1,
        (1 << 53) - 1,
        (1 << 53) + 1,
        i64::MAX - 1,
        i64::MAX,
    ];
    for (n, number) in (1..).zip(extremes) {
        let time = Timestamp::from_millis(number);
        let record = Record {
            waits: vec![WaitIndex { created_at: time, ..wait("w", "t", Some(time)) }],
            metadata: Metadata::from([("number".into(), number.into())]),
            updated_at: time,
            due_at: Some(time),
            lease: Some(Lease { owner: "w".into(), until: time }),
            ..plain(id(n))
        };
        round_trip(&subject, record).await;
    }
    let counters = [0, 1, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, MAX_COUNTER - 1, MAX_COUNTER];
    for (n, number) in (100..).zip(counters) {
        let record = Record { revision: Revision(number), epoch: Epoch(number), ..plain(id(n)) };
        round_trip(&subject, record).await;
    }
    for (n, attempts) in (200..).zip([1, u32::MAX / 2 + 1, u32::MAX]) {
        round_trip(&subject, Record { attempts, ..plain(id(n)) }).await;
    }
    let floats = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.1 + 0.2,
        1e16,
        9_007_199_254_740_993.0,
        9.223_372_036_854_776e18,
        1.8e19,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        f64::EPSILON,
    ];
    let metadata =
        (100..).zip(floats).map(|(n, float): (u32, f64)| (n.to_string(), float.into())).collect();
    round_trip(&subject, Record { metadata, ..plain(id(300)) }).await;
    let bools = [("yes".into(), true.into()), ("no".into(), false.into())];
    round_trip(&subject, Record { metadata: bools.into(), ..plain(id(301)) }).await;
    for (n, bytes) in [(0, [0; 16]), (1, [0xff; 16])] {
        let strange = Record { attempts: n, ..plain(RunId::from_bytes(bytes)) };
        round_trip(&subject, strange).await;
    }
}

/// Quotes, separators, wildcards, control characters, any script: a text is a text.
pub async fn any_text_reads_back_exactly(subject: Subject) {
    for (n, text) in (1..).zip(ODD_TEXTS) {
        let record = Record {
            flow_id: (*text).into(),
            queue: Some(queue(text)),
            waits: vec![wait(text, text, None), wait("other", text, Some(at(9)))],
            metadata: Metadata::from([((*text).into(), (*text).into())]),
            lease: Some(Lease { owner: (*text).into(), until: at(9) }),
            ..plain(id(n))
        };
        round_trip(&subject, record).await;
    }
    let all = ODD_TEXTS.iter().map(|text| ((*text).into(), Scalar::from(*text))).collect();
    round_trip(&subject, Record { metadata: all, ..plain(id(1000)) }).await;
    let longest = Metadata::from([("n".repeat(128), "ü".repeat(2048).into())]);
    round_trip(&subject, Record { metadata: longest, ..plain(id(1001)) }).await;
}

/// Sealed bytes are bytes: zeros, high bits and line ends among them.
pub async fn any_bytes_read_back_exactly(subject: Subject) {
    let all = Sealed((0..=255).collect());
    let zeros = Sealed(vec![0; 100]);
    let digest = KeyDigest::from_bytes(std::array::from_fn(|n| (n * 8) as u8));
    let keys = vec![digest, KeyDigest::from_bytes([0; 32]), KeyDigest::from_bytes([0xff; 32])];
    let record = Record {
        snapshot: all.clone(),
        inbox: vec![zeros.clone(), all, Sealed(b"\r\n\n\0".to_vec())],
        waits: vec![WaitIndex { keys, ..wait("w", "t", None) }],
        ..plain(id(1))
    };
    round_trip(&subject, record).await;
    round_trip(&subject, Record { snapshot: zeros, ..plain(id(2)) }).await;
}

/// A large snapshot and a large answer are stored, replaced and read as a whole.
pub async fn four_mebibytes_are_held(subject: Subject) {
    let large = |seed: usize| Sealed((0..4 << 20).map(|n| (n * 31 / 7 + seed) as u8).collect());
    let record = Record { snapshot: large(1), inbox: vec![large(2)], ..plain(id(1)) };
    round_trip(&subject, record).await;
    let store = subject.store();
    let change = Change {
        snapshot: Some(large(3)),
        inbox_drop: 1,
        inbox_push: vec![large(4)],
        ..Change::at(at(1))
    };
    store.update(id(1), Expect::Any, change).await.expect("update");
    let after = read(&*store, id(1)).await;
    assert!(after.snapshot == large(3), "the new snapshot");
    assert!(after.inbox == [large(4)], "the new inbox");
}

/// Bytes that nothing compresses, zeros among them; the same for the same seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..length).map(|_| dice.roll(256) as u8).collect()
}

/// Around the lengths at which bytes take another form on the wire or on disk.
pub async fn lengths_at_which_forms_change_are_held(subject: Subject) {
    let lengths = [
        1,
        15,
        16,
        17,
        127,
        128,
        255,
        256,
        257,
        2_047,
        4_095,
        4_096,
        4_097,
        32_767,
        32_768,
        65_535,
        65_536,
        65_537,
        1 << 20,
    ];
    for (n, length) in (1..).zip(lengths) {
        let (snapshot, item) = (Sealed(noise(length, n)), Sealed(noise(length, n + 1000)));
        let record = Record { snapshot, inbox: vec![item.clone(), item], ..plain(id(n)) };
        round_trip(&subject, record).await;
    }
}

/// A long text that nothing compresses has its place in the index as well, up to its last letter.
pub async fn long_texts_are_found_whole(subject: Subject) {
    let store = subject.provisioned().await;
    let text = |length: usize, last: char| {
        let mut dice = Dice(length as u64);
        let letters = (1..length).map(|_| char::from(b'!' + dice.roll(94) as u8));
        letters.chain([last]).collect::<String>()
    };
    let lengths = [127, 255, 256, 1_000, 2_000, 2_690, 2_720, 4_000, MAX_METADATA_TEXT_BYTES];
    let entry = |length: usize, last| {
        let name = text(length.min(MAX_METADATA_NAME_BYTES), last);
        Metadata::from([(name, text(length, last).into()), ("same".into(), 1.into())])
    };
    for (n, length) in (1..).zip(lengths) {
        for (n, last) in [(n, 'a'), (n + 100, 'b')] {
            let record = Record { metadata: entry(length, last), ..plain(id(n)) };
            store.insert(record.clone()).await.expect("insert");
            assert_same!(read(&*store, id(n)).await, record);
        }
    }
    for (n, length) in (1..).zip(lengths) {
        for (n, last) in [(n, 'a'), (n + 100, 'b')] {
            let filter = Filter { metadata: entry(length, last), ..Filter::default() };
            assert_eq!(listed(&*store, &filter).await, [id(n)], "{length} bytes and {last}");
        }
    }
}

/// A run may have hundreds of open waits and of accepted answers.
pub async fn many_waits_and_items_are_held(subject: Subject) {
    let record = Record {
        waits: (0..300).map(|n| wait(&format!("w:{n}"), &format!("t{}", n % 7), None)).collect(),
        inbox: (0..300).map(|n| sealed(&format!("item {n}"))).collect(),
        ..plain(id(1))
    };
    round_trip(&subject, record).await;
}

/// Reading what is not there is no error.
pub async fn a_record_that_is_not_there_is_none(subject: Subject) {
    let store = subject.provisioned().await;
    assert_eq!(store.get(id(1)).await.expect("get"), None);
    store.insert(plain(id(1))).await.expect("insert");
    assert_eq!(store.get(id_at(1, 2)).await.expect("get"), None);
}

/// The first record of an id stays, even if the second is the same or later.
pub async fn a_second_insert_is_refused_and_keeps_the_first(subject: Subject) {
    let store = subject.provisioned().await;
    let first = full(id(1));
    store.insert(first.clone()).await.expect("insert");
    assert_kind(store.insert(first.clone()).await, ErrorKind::AlreadyExists);
    let mut second = due(id(1), at(0));
    second.revision = Revision(99);
    second.metadata = Metadata::from([("second".into(), true.into())]);
    second.waits = vec![wait("second", "second", Some(at(1)))];
    second.inbox = vec![sealed("second")];
    assert_kind(store.insert(second.clone()).await, ErrorKind::AlreadyExists);
    assert_same!(read(&*store, id(1)).await, first);
    let of_second = Filter { metadata: second.metadata, ..Filter::default() };
    assert_eq!(listed(&*store, &of_second).await, []);
    let of_tool = Filter { tool_id: Some("second".into()), ..Filter::default() };
    assert_eq!(listed(&*store, &of_tool).await, []);
    assert_eq!(store.claim(claim(at(100))).await.expect("claim"), []);
}

/// What one backend can't hold, none takes; nothing is written.
pub async fn what_no_store_may_hold_is_refused(subject: Subject) {
    let store = subject.provisioned().await;
    let nul = "a\0b";
    let meta = |name: &str, value: Scalar| Metadata::from([(name.to_owned(), value)]);
    let base = || plain(id(1));
    let over = MAX_COUNTER + 1;
    let lease = |owner: &str| Some(Lease { owner: owner.into(), until: at(1) });
    let records = [
        Record { metadata: meta(nul, 1.into()), ..base() },
        Record { metadata: meta("n", nul.into()), ..base() },
        Record { metadata: meta("n", f64::NAN.into()), ..base() },
        Record { metadata: meta("n", f64::NEG_INFINITY.into()), ..base() },
        Record { metadata: meta(&"n".repeat(129), 1.into()), ..base() },
        Record { metadata: meta("n", "t".repeat(4097).into()), ..base() },
        Record { metadata: (0..65).map(|n| (n.to_string(), n.into())).collect(), ..base() },
        Record { flow_id: nul.into(), ..base() },
        Record { queue: Some(queue(nul)), ..base() },
        Record { waits: vec![wait(nul, "t", None)], ..base() },
        Record { waits: vec![wait("w", nul, None)], ..base() },
        Record { lease: lease(nul), ..base() },
        Record { revision: Revision(over), ..base() },
        Record { epoch: Epoch(over), ..base() },
    ];
    for record in records {
        assert_kind(store.insert(record).await, ErrorKind::InvalidArgument);
        assert_eq!(store.get(id(1)).await.expect("get"), None);
    }
    let kept = full(id(2));
    store.insert(kept.clone()).await.expect("insert");
    let base = || Change { attempts: Some(9), ..Change::at(at(2)) };
    let changes = [
        Change { metadata: Some(meta("n", nul.into())), ..base() },
        Change { metadata: Some(meta("n", f64::INFINITY.into())), ..base() },
        Change { queue: Some(Some(queue(nul))), ..base() },
        Change { waits: Some(vec![wait("w", nul, None)]), ..base() },
        Change { lease: Some(lease(nul)), ..base() },
        Change { epoch: Some(Epoch(over)), ..base() },
    ];
    for change in changes {
        assert_kind(store.update(id(2), Expect::Any, change).await, ErrorKind::InvalidArgument);
        assert_same!(read(&*store, id(2)).await, kept);
    }
    let claims = [
        Claim { owner: nul.into(), ..claim(at(1)) },
        Claim { queues: vec![queue(nul)], ..claim(at(1)) },
    ];
    for claim in claims {
        assert_kind(store.claim(claim).await, ErrorKind::InvalidArgument);
    }
}

/// A record goes only if it is what is expected.
pub async fn a_delete_is_conditional(subject: Subject) {
    let store = subject.provisioned().await;
    assert_kind(store.delete(id(1), Expect::Any).await, ErrorKind::Conflict);
    assert_kind(store.delete(id(1), Expect::Revision(Revision(1))).await, ErrorKind::Conflict);
    let record = full(id(1));
    store.insert(record.clone()).await.expect("insert");
    for wrong in [0, 6, 8, u64::MAX] {
        let expect = Expect::Revision(Revision(wrong));
        assert_kind(store.delete(id(1), expect).await, ErrorKind::Conflict);
    }
    assert_same!(read(&*store, id(1)).await, record);
    store.delete(id(1), Expect::Revision(Revision(7))).await.expect("delete");
    assert_eq!(store.get(id(1)).await.expect("get"), None);
    store.insert(full(id(2))).await.expect("insert");
    store.delete(id(2), Expect::Any).await.expect("delete");
    assert_eq!(store.get(id(2)).await.expect("get"), None);
    assert_kind(store.delete(id(2), Expect::Any).await, ErrorKind::Conflict);
}

/// Nobody who still has the record in hand brings it back.
pub async fn a_deleted_record_stays_deleted(subject: Subject) {
    let [store, other] = subject.pair().await;
    let record = Record { lease: None, ..full(id(1)) };
    store.insert(record.clone()).await.expect("insert");
    let late = Claim {
        queues: vec![queue("purchase-approval")],
        lease: Duration::from_secs(1),
        ..claim(at(100_000))
    };
    let held = other.claim(late.clone()).await.expect("claim").remove(0);
    store.delete(id(1), Expect::Any).await.expect("delete");
    let change = Change { snapshot: Some(sealed("late")), ..Change::at(at(9)) };
    for store in [&store, &other] {
        for expect in [Expect::Any, Expect::Revision(held.revision)] {
            let update = store.update(id(1), expect, change.clone()).await;
            assert_kind(update, ErrorKind::Conflict);
        }
        assert_kind(store.renew(id(1), held.epoch, at(999_999)).await, ErrorKind::Conflict);
        let much_later = Claim { now: at(1_000_000_000), ..late.clone() };
        assert_eq!(store.claim(much_later).await.expect("claim"), []);
        assert_eq!(store.get(id(1)).await.expect("get"), None);
        assert_eq!(listed(&**store, &Filter::default()).await, []);
        let filters = [
            Filter { flow_id: Some(record.flow_id.clone()), ..Filter::default() },
            Filter { tool_id: Some("audit".into()), ..Filter::default() },
            Filter { expires_after: Some(at(0)), ..Filter::default() },
            Filter { metadata: record.metadata.clone(), ..Filter::default() },
            Filter { status: [RunStatus::Running].into(), ..Filter::default() },
        ];
        for filter in filters {
            assert_eq!(listed(&**store, &filter).await, [], "{filter:?}");
        }
    }
}
