//! Limits and settings, on both sides of where they lie.

use dynamic_flow::{
    Cancellation, Clock as _, ErrorKind, Flow, Result, RunId, RunStatus, Schema, SuspensionKey,
    ToolError, WaitId,
    codec::{Codec, EncryptionKey},
    days, hours,
    hub::{
        Cleanup, Handle, HubOptions, KeyGenerator, PersistenceHub, RunOptions, SuspensionRequest,
    },
    store::Filter,
    tool::{AwaitInput, tool_fn},
};
use serde_json::{Value, json};

use crate::support::{
    Counter, Counts, Order, World, approval_flow, completed, order, parked, restate, suspended, yes,
};

#[tokio::test]
async fn an_input_may_be_as_large_as_the_limit_and_no_larger() {
    let (world, counts) = (World::new(), Counts::default());
    // Both are of the same length: what a run starts with, and what answers its wait.
    let mut first = order();
    let answer = serde_json::to_vec(&yes()).unwrap().len();
    while serde_json::to_vec(&first).unwrap().len() < answer {
        first.id.push('7');
    }
    let at_most = |bytes| world.builder().configure(|options| options.max_input_size = bytes);
    let hub = at_most(answer).build().await.unwrap();
    let handle = hub.register(approval_flow(&counts)).unwrap();
    let suspension = suspended(handle.run(first.clone()).await);
    let key = suspension.only().unwrap().key().unwrap();

    let narrow = at_most(answer - 1).build().await.unwrap();
    let handle = narrow.register(approval_flow(&counts)).unwrap();
    assert_eq!(handle.run(first).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(narrow.resume(key, yes()).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(hub.query(&Filter::default(), None, 9).await.unwrap().items.len(), 1);
    completed(hub.resume(key, yes()).await);
}

#[tokio::test]
async fn an_answer_that_can_not_be_stored_is_refused() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = Flow::input::<Order>("deep")
        .keep(|o| {
            o.keep(|o| {
                o.await_input(AwaitInput::<Value>::new("one").no_timeout()).sleep("s", hours(1))
            })
        })
        .build()
        .unwrap();
    let handle = hub.register(&flow).unwrap();
    for depth in 90..127 {
        let s = suspended(handle.run(order()).await);
        let key = s.only().unwrap().key().unwrap();
        let deep = (0..depth).fold(json!(1), |v, _| json!([v]));
        if let Err(error) = hub.resume(key, deep).await {
            let open = hub.question(key).await;
            let view = hub.get(s.run_id).await.unwrap();
            assert!(
                open.is_ok(),
                "depth {depth}: {error}; yet accepted: {:?}, status {}",
                open.err(),
                view.status
            );
        }
    }
}

#[tokio::test]
async fn settings_that_can_not_work_are_refused_when_the_hub_is_built() {
    type Change = fn(&mut HubOptions, std::time::Duration);
    let world = World::new();
    // What is finer than a millisecond is no time at all: a worker would look without a pause.
    let none = std::time::Duration::from_micros(999);
    let changes: [(&str, Change); 5] = [
        ("lease", |options, none| options.lease = none),
        ("default_timeout", |options, none| options.default_timeout = none),
        ("concurrency", |options, _| options.concurrency = 0),
        ("poll_interval", |options, none| options.poll_interval = none),
        ("max_takeovers", |options, _| options.max_takeovers = 0),
    ];
    for (name, change) in changes {
        let builder = world.builder().configure(|options| change(options, none));
        let error = builder.build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().starts_with(name), "{error}");
    }
}

#[tokio::test]
async fn a_codec_brings_its_limits_along_and_those_that_are_said_after_it_count() {
    let (world, counts) = (World::new(), Counts::default());
    let codec = || world.builder().codec(Codec::builder().plaintext().max_state_size(100));
    let narrow = codec().build().await.unwrap().register(approval_flow(&counts)).unwrap();
    assert_eq!(narrow.run(order()).await.unwrap_err().kind(), ErrorKind::StateTooLarge);
    let silent = Codec::builder().plaintext();
    let silent = world.builder().max_state_size(100).codec(silent).build().await.unwrap();
    let silent = silent.register(approval_flow(&counts)).unwrap().run(order()).await;
    assert_eq!(
        silent.unwrap_err().kind(),
        ErrorKind::StateTooLarge,
        "the codec says nothing of it"
    );
    let wide = codec().configure(|options| options.max_state_size = 100_000);
    let wide = wide.build().await.unwrap().register(approval_flow(&counts)).unwrap();
    suspended(wide.run(order()).await);
}

#[tokio::test]
async fn metadata_of_a_run_are_there_to_find_it_by() {
    let (world, counts) = (World::new(), Counts::default());
    let hub = world.hub().await;
    let handle = hub.register(approval_flow(&counts)).unwrap();
    suspended(handle.run(order()).await);
    let options = RunOptions::new().metadata("tenant", "acme");
    let run = suspended(handle.run_with(order(), options).await).run_id;
    let tenant = [("tenant".to_owned(), "acme".into())].into();
    let filter = Filter { metadata: tenant, ..Filter::default() };
    let page = hub.query(&filter, None, 9).await.unwrap();
    assert_eq!(page.readable().map(|run| run.id).collect::<Vec<_>>(), [run]);
    assert_eq!(hub.get(run).await.unwrap().metadata["tenant"], "acme".into());
}

#[tokio::test]
async fn a_run_that_a_newer_version_wrote_is_not_opened() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, _) = parked(&world, &counts).await;
    let run = suspension.run_id;
    let newer = |state: &mut Value| {
        state["format"] = json!(state["format"].as_u64().unwrap() + 1);
    };
    let unknown = |state: &mut Value| state["root"] = json!("in a form that nobody knows yet");
    for change in [newer as fn(&mut Value), unknown] {
        restate(&world, run, change).await;
        let error = hub.get(run).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState);
        assert!(error.message().contains("newer"), "{error}");
    }
}

#[tokio::test]
async fn who_has_no_right_key_hears_nothing_of_state_that_does_not_open() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let other = EncryptionKey::generate().unwrap().expose().to_string();
    let hub = World { key: other, ..world.clone() }.hub().await;
    let stranger = SuspensionKey::from_secret(suspension.run_id, [7; 32]);
    let heard = |error: dynamic_flow::Error| error.kind();
    assert_eq!(heard(hub.question(&stranger).await.unwrap_err()), ErrorKind::SuspensionKeyNotFound);
    assert_eq!(heard(hub.question(&key).await.unwrap_err()), ErrorKind::EncryptionError);
}

#[tokio::test]
async fn a_cleanup_of_what_expired_writes_to_nothing_else() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, overdue, _) = parked(&world, &counts).await;
    let handle = hub.register(approval_flow(&counts)).unwrap();
    let ended = suspended(handle.run(order()).await);
    completed(hub.resume(ended.only().unwrap().key().unwrap(), yes()).await);
    world.clock.advance(hours(4));
    let open = suspended(handle.run(order()).await);
    let record = async |run| world.store.get(run).await.unwrap().unwrap();
    let before = [record(ended.run_id).await, record(open.run_id).await];
    let late = record(overdue.run_id).await;

    let expired = Cleanup::new().expired_only();
    let dry = hub.cleanup(&expired.clone().dry_run()).await.unwrap();
    assert_eq!(dry.deleted, [overdue.run_id], "what would be removed is told");
    assert_eq!(record(overdue.run_id).await, late, "a dry run applies no deadline");
    assert_eq!(hub.cleanup(&expired).await.unwrap().deleted, [overdue.run_id]);
    assert_eq!([record(ended.run_id).await, record(open.run_id).await], before);
}

#[tokio::test]
async fn a_sleep_is_not_what_a_cleanup_of_the_expired_wakes() {
    let world = World::new();
    let hub = world.hub().await;
    let flow = dynamic_flow::Flow::input::<Value>("sleeper").sleep("nap", days(1)).build().unwrap();
    let run = suspended(hub.register(&flow).unwrap().run(json!(1)).await).run_id;
    world.clock.advance(days(1));
    let now = world.clock.now();
    assert_eq!(hub.cleanup(&Cleanup::new().expired_only()).await.unwrap().deleted_count, 0);
    let view = hub.get(run).await.unwrap();
    assert_eq!((view.status, view.due_at), (RunStatus::Waiting, Some(now)));
}

#[tokio::test]
async fn a_sleep_as_long_as_the_linger_is_waited_for_and_a_longer_one_parks_the_run() {
    let world = World::new();
    let hub = world.builder().configure(|options| options.linger = hours(1)).build().await.unwrap();
    let flow = |millis| {
        dynamic_flow::Flow::input::<Value>(format!("sleeper-{millis}"))
            .sleep("nap", hours(1) + std::time::Duration::from_millis(millis))
            .build()
            .unwrap()
    };
    suspended(hub.register(flow(1)).unwrap().run(json!(1)).await);
    let handle = hub.register(flow(0)).unwrap();
    let running = tokio::spawn(async move { handle.run(json!(1)).await });
    world.clock.until_sleeping(1).await;
    world.clock.advance(hours(1));
    completed(running.await.unwrap());
}

/// Makes one key, and then no more.
struct OneKey(Counter);

impl KeyGenerator for OneKey {
    fn generate(&self, run: RunId) -> Result<SuspensionKey> {
        assert_eq!(self.0.add(), 1, "no more keys");
        SuspensionKey::generate(run)
    }
}

#[tokio::test]
async fn a_panic_in_what_a_hub_was_given_comes_to_whoever_called_it() {
    let (world, counts) = (World::new(), Counts::default());
    let keys = OneKey(Counter::default());
    let hub = world.builder().key_generator(keys).build().await.unwrap();
    let suspension = suspended(hub.register(approval_flow(&counts)).unwrap().run(order()).await);
    let wait = suspension.only().unwrap().id.clone();
    let caller = tokio::spawn({
        let (hub, run) = (hub.clone(), suspension.run_id);
        async move { hub.reissue(run, &wait).await }
    });
    assert!(caller.await.unwrap_err().is_panic());
    completed(hub.resume(suspension.only().unwrap().key().unwrap(), yes()).await);
}

#[tokio::test]
async fn metadata_of_a_run_and_of_its_question_have_room_beside_each_other() {
    let world = World::new();
    let hub = world.hub().await;
    let calls = Counter::default();
    let c = calls.clone();
    let mut ask = AwaitInput::<bool>::new("second").no_timeout();
    for n in 0..32 {
        ask = ask.metadata(format!("wait-{n}"), n);
    }
    let flow = Flow::input::<Order>("tagged")
        .await_input(AwaitInput::<bool>::new("first").no_timeout())
        .tool(tool_fn("pay", move |yes: bool| {
            c.add();
            async move { Ok::<_, ToolError>(yes) }
        }))
        .await_input(ask)
        .build()
        .unwrap();
    let mut options = RunOptions::new();
    for n in 0..32 {
        options = options.metadata(format!("run-{n}"), n);
    }
    let handle = hub.register(&flow).unwrap();
    let suspension = suspended(handle.run_with(order(), options.clone()).await);
    suspended(hub.resume(suspension.only().unwrap().key().unwrap(), json!(true)).await);
    assert_eq!(calls.get(), 1);
    // Beside those of a question, one more would have no room: that is told before anything is done.
    let one_more = handle.run_with(order(), options.metadata("run-32", 32)).await.unwrap_err();
    assert_eq!(one_more.kind(), ErrorKind::InvalidArgument);
    assert!(one_more.message().contains("at most 32"), "{one_more}");
}

/// Whatever a hub does can be spawned, whatever the flow's types.
#[test]
fn the_futures_of_all_calls_can_go_to_other_threads() {
    fn is_send<T: Send>(_: impl FnOnce(Calls) -> T) {}
    struct Calls {
        hub: PersistenceHub,
        handle: Handle<Order, Order>,
        key: SuspensionKey,
        run: RunId,
    }
    is_send(|it| async move { it.handle.run(order()).await });
    is_send(|it| async move { it.handle.run_with(order(), RunOptions::new()).await });
    is_send(|it| async move { it.handle.resume(&it.key, json!(1)).await });
    is_send(|it| async move { it.handle.drive(it.run).await });
    is_send(|it| async move { it.hub.answer(&it.key, json!(1)).await });
    is_send(|it| async move { it.hub.cancel(it.run, Cancellation::new()).await });
    is_send(|it| async move { it.hub.retry(it.run).await });
    is_send(|it| async move { it.hub.reissue(it.run, &WaitId::from("ask#1")).await });
    is_send(|it| async move { it.hub.get(it.run).await });
    is_send(|it| async move { it.hub.query(&Filter::default(), None, 9).await });
    is_send(|it| async move { it.hub.cleanup(&Cleanup::new().all()).await });
    is_send(|it| async move { it.hub.suspend(&1, request()).await });
    is_send(|it| async move { it.hub.resume_state::<Order>(&it.key, json!(1)).await });
    is_send(|it| async move { it.hub.claim_states::<Order>(9).await });
    is_send(|it| async move { it.hub.work().await });
    is_send(|it| async move { it.hub.work_once().await });
    is_send(|it| async move { it.hub.health().await });
    is_send(|it| async move { it.hub.shutdown(hours(1)).await });
    is_send(|it| async move { it.hub.events().next().await });
}

fn request() -> SuspensionRequest {
    SuspensionRequest::new("ask", Schema::any())
}
