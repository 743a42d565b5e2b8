//! What the two builds have in common: where they keep runs, and how they tell what they did.

use std::{
    env,
    fs::OpenOptions,
    io::{Read as _, Write as _},
};

use dynamic_flow::{
    Flow, SuspensionKey, ToolError,
    codec::Keyring,
    hub::{Outcome, PersistenceHub},
    store,
    tool::{FnTool, tool_fn},
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

/// A tool that writes down that it ran, and in which build.
pub(crate) fn step<I, O>(build: &'static str, id: &'static str, work: fn(I) -> O) -> FnTool<I, O>
where
    I: DeserializeOwned + JsonSchema + Send + 'static,
    O: Serialize + DeserializeOwned + JsonSchema + Send + 'static,
{
    tool_fn(id, move |input: I| async move {
        let path = env::var("DFLOW_TEST_LOG").unwrap();
        let mut log = OpenOptions::new().create(true).append(true).open(path).unwrap();
        log.write_all(format!("\"{build} {id}\"\n").as_bytes()).unwrap();
        Ok::<_, ToolError>(work(input))
    })
}

/// Runs the flow and tells the key; or, where a key is on standard input, resumes with it, and
/// tells how the parked runs get on with this build and what came out.
pub(crate) async fn serve<O>(flow: Flow<u32, O>)
where
    O: Serialize + DeserializeOwned + 'static,
{
    let key: Keyring = Keyring::new(env::var("DFLOW_TEST_KEY").unwrap().parse().unwrap());
    let store = store::open(&env::var("DFLOW_TEST_STORE").unwrap()).unwrap();
    let hub = PersistenceHub::builder(store).keyring(key).build().await.unwrap();
    let mut given = String::new();
    std::io::stdin().read_to_string(&mut given).unwrap();
    let told = if given.is_empty() {
        let handle = hub.register(flow.clone()).unwrap();
        match handle.run(17).await.unwrap() {
            Outcome::Suspended(parked) => {
                parked.only().unwrap().key().unwrap().expose().to_string()
            }
            _ => panic!("it did not stop"),
        }
    } else {
        let report = hub.check(&flow.erase()).await.unwrap();
        hub.register(flow.clone()).unwrap();
        let key: SuspensionKey = given.trim().parse().unwrap();
        match hub.resume(&key, serde_json::json!("jane")).await.unwrap() {
            Outcome::Completed(done) => format!(
                "{} same, {} compatible, {} stranded; {}",
                report.same,
                report.compatible,
                report.stranded.len(),
                done.output
            ),
            _ => panic!("it did not end"),
        }
    };
    std::io::stdout().write_all(format!("> {told}\n").as_bytes()).unwrap();
}
