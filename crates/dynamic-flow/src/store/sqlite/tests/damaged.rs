//! Rows that somebody else has changed, so that they do not read back.

use super::*;
use crate::store::id_of;

#[tokio::test]
async fn a_damaged_row_is_corrupt_state_and_names_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let record = record(10);
    store.insert(record.clone()).await.unwrap();
    let connection = Connection::open(folder.path().join("flows.db")).unwrap();
    for damage in ["waits = '{'", "status = 'dancing'", "revision = -1", "metadata = x'ff'"] {
        connection.execute_batch(&format!("UPDATE suspended_flows SET {damage}")).unwrap();
        let error = store.get(record.id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState, "{damage}");
        assert_eq!(error.run_id(), Some(record.id));
        assert!(error.message().contains(damage.split(' ').next().unwrap()), "{error}");
        connection.execute_batch("DELETE FROM suspended_flows").unwrap();
        connection.execute_batch("DELETE FROM suspended_flow_waits").unwrap();
        connection.execute_batch("DELETE FROM suspended_flow_metadata").unwrap();
        store.insert(record.clone()).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_row_is_listed_with_its_place_and_a_nameless_one_is_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let records: Vec<_> = (0..4).map(|_| record(10)).collect();
    for record in &records {
        store.insert(record.clone()).await.unwrap();
    }
    let mut ids: Vec<_> = records.iter().map(|record| record.id).collect();
    ids.sort_by_key(|id| std::cmp::Reverse(*id));
    let connection = Connection::open(folder.path().join("flows.db")).unwrap();
    let set = |what: &str| {
        let row = format!("UPDATE suspended_flows SET {what} WHERE id = ?1");
        assert_eq!(connection.execute(&row, [ids[1].as_bytes()]).unwrap(), 1);
    };
    for (damage, repair) in [
        ("status = 'dancing'", "status = 'waiting'"),
        ("revision = -1", "revision = 1"),
        ("metadata = x'ff'", "metadata = '{}'"),
        ("inbox_from = 'x'", "inbox_from = 0"),
    ] {
        set(damage);
        let page = store.query(&Filter::default(), None, 2).await.unwrap();
        assert_eq!(page.items.iter().map(id_of).collect::<Vec<_>>(), ids[..2]);
        let unreadable = page.unreadable().next().unwrap().to_string();
        let id = hex::encode(ids[1].as_bytes());
        assert!(unreadable.contains(&format!("id = x'{id}'")), "{unreadable}");
        assert!(unreadable.contains("flows.db"), "{unreadable}");
        assert!(unreadable.contains(damage.split(' ').next().unwrap()), "{unreadable}");
        set(repair);
    }
    // Between the others, where it would take a place on a page.
    let longer = [ids[2].as_bytes().as_slice(), &[0]].concat();
    let odd = "UPDATE suspended_flows SET id = ?1 WHERE id = ?2";
    assert_eq!(connection.execute(odd, (longer, ids[2].as_bytes())).unwrap(), 1);
    let page = store.query(&Filter::default(), None, 2).await.unwrap();
    let rest = store.query(&Filter::default(), page.next, 2).await.unwrap();
    assert_eq!(rest.items.iter().map(id_of).collect::<Vec<_>>(), ids[3..]);
}

#[tokio::test]
async fn due_runs_that_do_not_read_back_do_not_keep_workers_from_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let mut records: Vec<_> = (0..6).map(|_| record(10)).collect();
    for (record, n) in records.iter_mut().zip(0..) {
        record.lease = None;
        record.inbox = vec![Sealed(vec![1])];
        record.due_at = Some(now().after(Duration::from_millis(n)));
        store.insert(record.clone()).await.unwrap();
    }
    let connection = Connection::open(folder.path().join("flows.db")).unwrap();
    let of = |n: usize| hex::encode(records[n].id.as_bytes());
    for damage in [
        format!("UPDATE suspended_flows SET status = 'dancing' WHERE hex(id) = upper('{}')", of(0)),
        format!("UPDATE suspended_flows SET snapshot = 99 WHERE hex(id) = upper('{}')", of(1)),
        format!(
            "UPDATE suspended_flows SET revision = {} WHERE hex(id) = upper('{}')",
            i64::MAX,
            of(2)
        ),
        format!("UPDATE suspended_flow_inbox SET body = 'x' WHERE hex(run) = upper('{}')", of(3)),
    ] {
        assert_eq!(connection.execute(&damage, []).unwrap(), 1, "{damage}");
    }
    let claim = |limit| Claim {
        now: now().after(Duration::from_secs(1)),
        queues: vec![Queue("purchase-approval".into())],
        owner: "worker".into(),
        lease: Duration::from_secs(30),
        limit,
        except: [].into(),
    };
    let [first, second] =
        [store.claim(claim(1)).await.unwrap(), store.claim(claim(9)).await.unwrap()];
    assert_eq!(first.iter().map(|record| record.id).collect::<Vec<_>>(), [records[4].id]);
    assert_eq!(second.iter().map(|record| record.id).collect::<Vec<_>>(), [records[5].id]);
    let held = "SELECT count(*) FROM suspended_flows WHERE lease_owner IS NOT NULL";
    let held: i64 = connection.query_row(held, [], |row| row.get(0)).unwrap();
    assert_eq!(held, 2, "none is claimed for nobody");
}
