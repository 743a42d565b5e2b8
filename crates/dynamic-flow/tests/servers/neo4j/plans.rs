//! Which indexes the server goes by, in its own words: what the store sends is sent once more, with
//! `EXPLAIN` before it.

use std::time::Duration;

use dynamic_flow::{
    Metadata, RunStatus,
    store::{Claim, Filter, Neo4jStore, Queue, Store as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    ground::Ground,
    proxy::Proxy,
    records::{at, waiting},
};

/// Bolt's greeting, and the one version that the driver speaks.
const GREETING: [u8; 20] = [0x60, 0x60, 0xb0, 0x17, 0, 0, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// `PULL {n: -1}`.
const PULL: [u8; 6] = [0xb1, 0x3f, 0xa1, 0x81, b'n', 0xff];
const HELLO: u8 = 0x01;
const RUN: u8 = 0x10;
const SUCCESS: u8 = 0x70;

/// The messages in what a client sent, over one connection after the other, the second byte of each
/// being its kind. Whoever only looks whether the server is there sends a greeting and no message.
fn messages(sent: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut message) = (Vec::new(), Vec::new());
    let mut rest = sent;
    while rest.starts_with(&GREETING[..4]) {
        rest = &rest[GREETING.len()..];
    }
    while let Some((header, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*header));
        if length == 0 {
            all.push(std::mem::take(&mut message));
        }
        message.extend(&after[..length]);
        rest = &after[length..];
    }
    all
}

/// The same statement, to be explained.
fn explained(run: &[u8]) -> Vec<u8> {
    let (at, length) = match run[2] {
        0xd0 => (4, usize::from(run[3])),
        0xd1 => (5, usize::from(u16::from_be_bytes([run[3], run[4]]))),
        other => panic!("a statement of an unexpected length: {other:x}"),
    };
    let text = [b"EXPLAIN ", &run[at..at + length]].concat();
    let header = [&[0xb3, RUN, 0xd1][..], &u16::try_from(text.len()).unwrap().to_be_bytes()];
    [&header.concat()[..], &text, &run[at + length..]].concat()
}

/// A conversation with the server that was begun as the store began its own.
struct Conversation(TcpStream);

impl Conversation {
    async fn begin(ground: &Ground, hello: &[u8]) -> Self {
        let server: url::Url = ground.config().uri.parse().unwrap();
        let address = (server.host_str().unwrap().to_owned(), server.port().unwrap_or(7687));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&GREETING).await.unwrap();
        stream.read_u32().await.unwrap();
        let mut it = Self(stream);
        it.say(hello).await;
        it.hear().await;
        it
    }

    async fn say(&mut self, message: &[u8]) {
        for part in message.chunks(usize::from(u16::MAX)) {
            self.0.write_u16(u16::try_from(part.len()).unwrap()).await.unwrap();
            self.0.write_all(part).await.unwrap();
        }
        self.0.write_u16(0).await.unwrap();
    }

    /// The next message, which must say that all is well.
    async fn hear(&mut self) -> String {
        let mut message = Vec::new();
        loop {
            let length = self.0.read_u16().await.unwrap();
            if length == 0 && !message.is_empty() {
                break;
            }
            let from = message.len();
            message.resize(from + usize::from(length), 0);
            self.0.read_exact(&mut message[from..]).await.unwrap();
        }
        let text = String::from_utf8_lossy(&message).into_owned();
        assert_eq!(message[1], SUCCESS, "{text}");
        text
    }

    /// The plan of a statement, as the server tells it.
    async fn explain(&mut self, run: &[u8]) -> String {
        self.say(&explained(run)).await;
        self.say(&PULL).await;
        self.hear().await;
        self.hear().await
    }
}

/// What goes through everything, or puts everything in order first.
const SLOW: [&str; 5] = ["LabelScan", "AllNodes", "TypeScan", "IndexScan", "Sort@"];

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_every_statement() {
    let Some(ground) = Ground::new() else { return };
    let proxy = Proxy::before(&ground.config()).await;
    let mut config = proxy.instead(ground.config());
    config.pool_size = 1;
    let store = Neo4jStore::new(config).unwrap();
    store.provision().await.unwrap();
    for n in 0..20 {
        store.insert(waiting(n, "purchase", "manager", "jane")).await.unwrap();
    }
    let hello = messages(&proxy.sent()).into_iter().find(|it| it[1] == HELLO).expect("a hello");
    let mut server = Conversation::begin(&ground, &hello).await;

    let any = Filter::default;
    let waits = || Filter { expires_after: Some(at(0)), ..any() };
    let of_jane = || Metadata::from([("approver".into(), "jane".into())]);
    for (filter, leader) in [
        (any(), "SuspendedFlow(id)"),
        (Filter { created_after: Some(at(3)), ..any() }, "SuspendedFlow(id)"),
        (Filter { status: RunStatus::ALL.into(), ..any() }, "SuspendedFlow(status, id)"),
        (Filter { status: [RunStatus::Failed].into(), ..waits() }, "SuspendedFlow(status, id)"),
        (Filter { flow_id: Some("x".into()), ..any() }, "SuspendedFlow(flowId, status, id)"),
        (Filter { flow_id: Some("x".into()), ..waits() }, "SuspendedFlow(flowId, status, id)"),
        (Filter { tool_id: Some("x".into()), ..any() }, "WAITS_FOR(tool, run)"),
        (Filter { tool_id: Some("x".into()), ..waits() }, "WAITS_FOR(tool, run)"),
        (waits(), "WAITS_FOR(expiresAt)"),
        (Filter { metadata: of_jane(), ..any() }, "HAS(entry, run)"),
        (Filter { metadata: of_jane(), tool_id: Some("x".into()), ..waits() }, "HAS(entry, run)"),
    ] {
        store.query(&filter, None, 5).await.unwrap();
        let sent = messages(&proxy.sent());
        let runs: Vec<_> = sent.iter().filter(|it| it[1] == RUN).collect();
        assert!(!runs.is_empty());
        for run in runs {
            let plan = server.explain(run).await.replace(&ground.config().namespace, "");
            let plan = plan.replace('`', "");
            assert!(plan.contains(leader), "{filter:?} is not led by {leader}: {plan}");
            for slow in SLOW {
                assert!(!plan.contains(slow), "{filter:?}: {slow} in {plan}");
            }
        }
    }

    let claim = Claim {
        now: at(0),
        queues: vec![Queue("purchase".into()), Queue("review".into())],
        owner: "me".into(),
        lease: Duration::from_secs(60),
        limit: 10,
        except: [].into(),
    };
    store.claim(claim).await.unwrap();
    let sent = messages(&proxy.sent());
    let run = sent.iter().find(|it| it[1] == RUN).expect("a claim");
    let plan = server.explain(run).await.replace(&ground.config().namespace, "").replace('`', "");
    assert!(plan.contains("SuspendedFlow(queue, dueAt)"), "{plan}");
    for slow in SLOW {
        assert!(!plan.contains(slow), "a claim: {slow} in {plan}");
    }
    // What is looked at under the lock must not be what was read before it: the plan is told from
    // its end to its beginning.
    let (_, table) = plan.split_once("string-representation").unwrap();
    let table = table.split("\n\n").find(|part| part.contains("| Operator")).unwrap();
    let lock = table.find("f._lock").expect("a lock");
    let looks = table.rfind("f.leaseUntil").expect("a condition");
    assert!(looks < lock, "{table}");
}
