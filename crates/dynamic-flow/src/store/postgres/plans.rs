//! How the server goes about each statement when there are very many runs: by an index, always.
//!
//! Needs a server, and rows: 20,000 are enough for every `cargo xtask test`. A million, with what
//! the server says of each statement in a file:
//!
//! ```console
//! DFLOW_TEST_POSTGRES_URL=… DFLOW_TEST_POSTGRES_ROWS=1000000 \
//! DFLOW_TEST_POSTGRES_PLANS=/tmp/explain-postgres.txt \
//! cargo test --release -p dynamic-flow --features postgres --lib postgres::plans
//! ```

use std::{env, fmt::Write as _, time::Duration};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{
    PostgresConfig,
    claim::claim,
    config::Settings,
    connection::{Statement, Way},
    provision::provision,
    query::query,
    rows::find,
    tables::{Tables, identifier},
    write,
};
use crate::{
    clock::Timestamp,
    codec::Sealed,
    engine::RunStatus,
    id::{Epoch, KeyDigest, Revision, RunId},
    store::{Change, Claim, Cursor, Expect, Filter, Lease, Queue, Record, WaitIndex},
    wait::Metadata,
};

const URL: &str = "DFLOW_TEST_POSTGRES_URL";
const ROWS: &str = "DFLOW_TEST_POSTGRES_ROWS";
const PLANS: &str = "DFLOW_TEST_POSTGRES_PLANS";

/// When the first of the runs was created; each of the others a millisecond later.
const START: i64 = 1_795_420_800_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

/// The `n`-th run.
fn id(n: i64) -> RunId {
    let mut bytes = *RunId::floor(at(n)).as_bytes();
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&((1 << 63) | u64::try_from(n).unwrap()).to_be_bytes());
    RunId::from_bytes(bytes)
}

/// So many parked runs: of ten flows, waiting for one of a hundred tools, one in a thousand for one
/// customer. The first hundred are due, and the first of all has failed. After them twice as many
/// runs of the first flow, which have ended.
fn fill(tables: &Tables, rows: i64) -> String {
    let Tables { flows, waits, metadata, .. } = tables;
    let id = format!(
        "(lpad(to_hex({START} + n), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid"
    );
    let runs = format!("generate_series(0, {rows} - 1) AS n");
    let ended = format!("generate_series(2 * {rows}, 4 * {rows} - 1) AS n");
    let due = format!("CASE WHEN n < 100 THEN {START} ELSE {START} + 86400000 + n END");
    format!(
        "INSERT INTO {flows} (id, revision, epoch, updated_at, due_at, attempts, inbox_len, flow_id, \
           queue, status, waits, metadata, state, inbox) \
         SELECT {id}, 1, 0, {START}, {due}, 0, 0, 'flow-' || n % 10, 'flow-' || n % 10, \
           CASE WHEN n = 0 THEN 'failed' ELSE 'waiting' END, \
           json_build_array(json_build_object('id', 'ask', 'tool_id', 'tool-' || n % 100, \
             'keys', json_build_array(), 'created_at', {START}, 'expires_at', {due}, \
             'has_default', false)), \
           json_build_object('customer', 'customer-' || n % 1000, 'order', n), \
           decode(repeat(md5(n::text), 32), 'hex'), '{{}}' FROM {runs}; \
         INSERT INTO {waits} (run, tool_id, expires_at) \
           SELECT {id}, 'tool-' || n % 100, {due} FROM {runs}; \
         INSERT INTO {metadata} (run, entry) \
           SELECT {id}, unnest(ARRAY[ \
             '[\"customer\",\"customer-' || n % 1000 || '\"]', '[\"order\",' || n || ']', \
             '[\"parity\",' || n % 2 || ']']) FROM {runs}; \
         INSERT INTO {flows} (id, revision, epoch, updated_at, attempts, inbox_len, flow_id, status, \
           waits, metadata, state, inbox) \
         SELECT {id}, 3, 1, {START}, 0, 0, 'flow-0', 'completed', '[]', '{{}}', \
           decode(repeat(md5(n::text), 8), 'hex'), '{{}}' FROM {ended};"
    )
}

fn record(n: i64) -> Record {
    Record {
        id: id(n),
        revision: Revision::FIRST,
        epoch: Epoch(0),
        flow_id: "flow-1".into(),
        queue: Some(Queue("flow-1".into())),
        status: RunStatus::Waiting,
        waits: vec![wait()],
        metadata: Metadata::from([("customer".into(), "customer-5".into())]),
        updated_at: at(0),
        due_at: Some(at(0)),
        attempts: 0,
        lease: None,
        snapshot: Sealed(vec![1; 100]),
        inbox: vec![],
    }
}

fn wait() -> WaitIndex {
    WaitIndex {
        id: "ask".into(),
        tool_id: "tool-1".into(),
        keys: vec![KeyDigest::from_bytes([0; 32])],
        created_at: at(0),
        expires_at: Some(at(9)),
        has_default: false,
    }
}

/// A change of everything.
fn change() -> Change {
    Change {
        epoch: Some(Epoch(1)),
        queue: Some(None),
        status: Some(RunStatus::Running),
        waits: Some(vec![wait()]),
        metadata: Some(record(0).metadata),
        due_at: Some(None),
        attempts: Some(0),
        lease: Some(Some(Lease { owner: "hub".into(), until: at(1) })),
        snapshot: Some(Sealed(vec![2; 100])),
        inbox_drop: 1,
        inbox_push: vec![Sealed(vec![3])],
        ..Change::at(at(1))
    }
}

fn claims(limit: usize) -> Claim {
    Claim {
        now: at(0),
        queues: (0..10).map(|n| Queue(format!("flow-{n}"))).collect(),
        owner: "hub".into(),
        lease: Duration::from_secs(30),
        limit,
        except: [].into(),
    }
}

/// Each criterion, alone and with others.
fn filters() -> Vec<(&'static str, Filter)> {
    let any = Filter::default;
    let meta = |name: &str, value| Metadata::from([(name.to_owned(), value)]);
    let customer = || meta("customer", "customer-5".into());
    let parity = || meta("parity", 1.into());
    let few = || Filter { expires_before: Some(at(1)), ..any() };
    let many = || Filter { expires_after: Some(at(1)), ..any() };
    let tool = || Filter { tool_id: Some("tool-42".into()), ..any() };
    vec![
        ("everything", any()),
        ("status, rare", Filter { status: [RunStatus::Failed].into(), ..any() }),
        ("status, common", Filter { status: [RunStatus::Waiting].into(), ..any() }),
        ("all statuses", Filter { status: RunStatus::ALL.into(), ..any() }),
        ("flow", Filter { flow_id: Some("flow-7".into()), ..any() }),
        ("flow, mostly ended", Filter { flow_id: Some("flow-0".into()), ..any() }),
        (
            "flow and rare status",
            Filter {
                flow_id: Some("flow-0".into()),
                status: [RunStatus::Failed, RunStatus::Expired].into(),
                ..any()
            },
        ),
        ("tool", tool()),
        ("tool and status", Filter { status: [RunStatus::Waiting].into(), ..tool() }),
        ("tool and deadline", Filter { expires_before: Some(at(90_000_000)), ..tool() }),
        ("created before", Filter { created_before: Some(at(60)), ..any() }),
        (
            "created between",
            Filter { created_after: Some(at(60)), created_before: Some(at(90)), ..any() },
        ),
        ("deadline, few", few()),
        ("deadline, few, of a flow", Filter { flow_id: Some("flow-7".into()), ..few() }),
        ("deadline, few, of a status", Filter { status: [RunStatus::Waiting].into(), ..few() }),
        ("deadline, many", many()),
        ("deadline, many, of a flow", Filter { flow_id: Some("flow-7".into()), ..many() }),
        ("deadline, many, of a status", Filter { status: [RunStatus::Waiting].into(), ..many() }),
        (
            "deadline, many, of a flow that has mostly ended, of other statuses",
            Filter {
                flow_id: Some("flow-0".into()),
                status: [RunStatus::Waiting, RunStatus::Ready, RunStatus::Running].into(),
                ..many()
            },
        ),
        ("metadata, one", Filter { metadata: meta("order", 3.into()), ..any() }),
        ("metadata, some", Filter { metadata: customer(), ..any() }),
        ("metadata, many", Filter { metadata: parity(), ..any() }),
        (
            "metadata and other metadata",
            Filter { metadata: [customer(), parity()].into_iter().flatten().collect(), ..any() },
        ),
        (
            "metadata and rare status",
            Filter { metadata: parity(), status: [RunStatus::Failed].into(), ..any() },
        ),
        (
            "metadata and tool",
            Filter { metadata: customer(), tool_id: Some("tool-5".into()), ..any() },
        ),
        (
            "metadata and deadline",
            Filter { metadata: customer(), expires_after: Some(at(1)), ..any() },
        ),
        (
            "all at once",
            Filter {
                metadata: customer(),
                tool_id: Some("tool-5".into()),
                flow_id: Some("flow-5".into()),
                status: [RunStatus::Waiting].into(),
                created_after: Some(at(0)),
                created_before: Some(at(900_000)),
                expires_after: Some(at(0)),
                expires_before: Some(at(999_000_000)),
            },
        ),
    ]
}

/// The plan that is kept for a prepared statement, whatever it is called with.
async fn kept_plan(client: &Client, statement: &Statement<'_>) -> Vec<String> {
    let types: Vec<_> = statement.values.iter().map(|(_, of)| of.name().to_owned()).collect();
    let nulls = vec!["NULL"; types.len()].join(", ");
    let script = format!(
        "SET plan_cache_mode = force_generic_plan; PREPARE kept ({}) AS {}; \
         EXPLAIN EXECUTE kept ({nulls}); DEALLOCATE kept",
        types.join(", "),
        statement.sql
    );
    let said = client.simple_query(&script).await.unwrap();
    let rows = said.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    rows.collect()
}

/// What is done for a statement that is planned each time, and how long it takes.
async fn done(client: &Client, statement: &Statement<'_>) -> Vec<String> {
    let sql = format!("EXPLAIN (ANALYZE, BUFFERS) {}", statement.sql);
    let values: Vec<_> =
        statement.values.iter().map(|(value, of)| (&**value as _, of.clone())).collect();
    let rows = client.query_typed(&sql, &values).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect()
}

/// Says what is wrong with a plan, if anything is.
fn complaint(plan: &[String]) -> Option<&'static str> {
    if plan.iter().any(|line| line.contains("Seq Scan on")) {
        return Some("reads a table from end to end");
    }
    let by_index = plan.iter().any(|line| line.contains("Index") || line.contains("Insert on"));
    (!by_index).then_some("goes by no index")
}

/// Says what is wrong with what was done: an index, too, may be read from end to end, which takes
/// thousands of pages. So many runs may be looked at beside those that are given.
fn waste(done: &[String], beside: i64) -> Option<&'static str> {
    let most = 1000 + 10 * u64::try_from(beside).unwrap();
    let line = done.iter().find(|line| line.contains("Buffers:")).expect("BUFFERS was asked for");
    let shared = line.split_once("shared ").expect("pages of tables").1;
    let pages: u64 = shared
        .split(' ')
        .filter_map(|word| word.strip_prefix("hit=").or(word.strip_prefix("read=")))
        .map(|count| count.parse::<u64>().expect("a number"))
        .sum();
    (pages > most).then_some("takes more pages than it should")
}

#[tokio::test]
async fn every_statement_goes_by_an_index() {
    let Some(url) = env::var(URL).ok().filter(|url| !url.is_empty()) else {
        dynamic_flow_services::skip(&format!(
            "{URL} is not set; `cargo xtask test` starts the server"
        ));
        return;
    };
    let rows: i64 = env::var(ROWS).map_or(20_000, |rows| rows.parse().unwrap());
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    let schema_name = format!("dflow_test_{}", hex::encode(random));
    let config = PostgresConfig {
        schema_name: schema_name.clone(),
        operation_timeout: Duration::from_secs(600),
        ..PostgresConfig::from_url(url)
    };
    let way = Way::new(Settings::resolve(config).unwrap());
    let connections = way.connections().unwrap();
    provision(&connections).await.unwrap();
    let tables = &way.settings.tables;
    connections.execute(&fill(tables, rows)).await.unwrap();
    // As the server does by itself after a while.
    for table in [&tables.flows, &tables.waits, &tables.metadata] {
        connections.execute(&format!("VACUUM ANALYZE {table}")).await.unwrap();
    }
    let (report, wrong) = report(&way, rows).await;
    connections
        .execute(&format!("DROP SCHEMA {} CASCADE", identifier(&schema_name)))
        .await
        .unwrap();
    if let Ok(path) = env::var(PLANS) {
        std::fs::write(path, &report).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{report}");
}

/// What the server says of each statement, and what is wrong with it.
async fn report(way: &Way, rows: i64) -> (String, Vec<String>) {
    let tables = &way.settings.tables;
    let (client, connection) = way.connections().unwrap().dialer().dial().await.unwrap();
    tokio::spawn(connection);
    // As a session is that the store has not set up.
    client.batch_execute("SET enable_seqscan = on").await.unwrap();
    let mut report = format!("{rows} parked runs\n");
    let mut wrong = Vec::new();
    let (inserted, changed, claimed) = (record(rows), change(), claims(10));
    let small = Change { inbox_push: vec![Sealed(vec![3])], ..Change::at(at(1)) };
    let expect = Expect::Revision(Revision::FIRST);
    let middle = id(rows / 2);
    let prepared = [
        ("get", find(tables, middle)),
        ("insert", write::insert(tables, &inserted, Some("1")).unwrap()),
        ("update, small", write::update(tables, middle, expect, &small, None).unwrap()),
        ("update of everything", write::update(tables, middle, expect, &changed, None).unwrap()),
        ("lock", write::lock(tables, middle)),
        ("delete", write::delete(tables, middle, expect)),
        ("claim", claim(tables, &claimed)),
        ("renew", write::renew(tables, middle, Epoch(0), at(1))),
    ];
    for (name, statement) in prepared {
        let plan = kept_plan(&client, &statement).await;
        write!(report, "\n{name}, as it is planned for all values\n  {}\n", plan.join("\n  "))
            .unwrap();
        wrong.extend(complaint(&plan).map(|what| format!("{name} {what}")));
        // Twice: the first time it may find what it reads on the disk.
        let mut plan = Vec::new();
        for _ in 0..2 {
            client.batch_execute("RESET plan_cache_mode; BEGIN").await.unwrap();
            plan = done(&client, &statement).await;
            client.batch_execute("ROLLBACK").await.unwrap();
        }
        write!(report, "{name}, as it was done\n  {}\n", plan.join("\n  ")).unwrap();
        wrong.extend(waste(&plan, 0).map(|what| format!("{name} {what}")));
    }
    for (name, filter) in filters() {
        for (from, after) in [("", None), (", from the middle on", Some(Cursor(middle)))] {
            let mut plan = Vec::new();
            for _ in 0..2 {
                let statement = query(tables, &filter, after, 50).unwrap();
                plan = done(&client, &statement).await;
            }
            let name = format!("query: {name}{from}");
            write!(report, "\n{name}\n  {}\n", plan.join("\n  ")).unwrap();
            // Of several criteria the rarest one leads, and what it finds may all be looked at.
            let beside = if name.contains(" and ") || name.contains("all at once") {
                rows / 1000
            } else {
                0
            };
            let complaints = [complaint(&plan), waste(&plan, beside)].into_iter().flatten();
            wrong.extend(complaints.map(|what| format!("{name} {what}")));
        }
    }
    (report, wrong)
}
