//! The cycle on Redis beside its floor, and single calls beside ten thousand and a million parked
//! runs.

use std::sync::Arc;

use dynamic_flow::{
    seconds,
    store::{RedisConfig, RedisStore},
};
use redis::{AsyncCommands as _, Client, aio::MultiplexedConnection};
use tokio::runtime::Runtime;

use crate::{
    Result,
    args::Args,
    floor::changed,
    flow::Bench,
    server::{Floor, Plan, copy},
    table::Table,
};

/// Where the server is. Nothing is measured where it is not set.
const URL: &str = "DFLOW_TEST_REDIS_URL";
/// How many runs are written at once when very many are.
const AT_ONCE: usize = 512;

const PLAN: Plan = Plan {
    name: "Redis",
    batch: 50,
    batches: [5, 25],
    warm_up: 1,
    times: [50, 400],
    parked: [[10_000, 100_000], [10_000, 1_000_000]],
};

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let Ok(url) = std::env::var(URL) else {
        eprintln!("  Redis is not measured: {URL} is not set");
        return Ok(());
    };
    let mut config = RedisConfig::from_url(&url)?;
    config.key_prefix = format!("dflow_bench_{}:", std::process::id());
    // Beside a million others a call may wait while one of them makes the server sync.
    config.operation_timeout = seconds(60);
    let floor = runtime.block_on(Values::new(&url, &config.key_prefix))?;
    let stores =
        [Arc::new(RedisStore::new(config.clone())?) as _, Arc::new(RedisStore::new(config)?) as _];
    let result = PLAN.measure(args, runtime, stores, &floor, table);
    runtime.block_on(floor.clear())?;
    result
}

/// The same number of writes and reads of whole values, through the same driver.
#[derive(Clone)]
struct Values {
    server: MultiplexedConnection,
    prefix: Arc<str>,
}

impl Values {
    async fn new(url: &str, prefix: &str) -> Result<Self> {
        let base = url.split('?').next().unwrap_or_default();
        let server = Client::open(base)?.get_multiplexed_async_connection().await?;
        Ok(Self { server, prefix: prefix.into() })
    }

    /// The bytes of memory that the server uses for data.
    async fn used(&self) -> Result<f64> {
        let info: String =
            redis::cmd("INFO").arg("memory").query_async(&mut self.server.clone()).await?;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
        Ok(used.ok_or("the server does not tell what it uses")?.trim().parse()?)
    }

    /// Removes what was measured with.
    async fn clear(&self) -> Result<()> {
        let mut server = self.server.clone();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}*", self.prefix)).arg("COUNT").arg(10_000);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut server).await?;
            if !keys.is_empty() {
                let _: () = server.unlink(keys).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}

impl Floor for Values {
    async fn cycle(&self, number: usize, body: &[u8]) -> Result<()> {
        let mut server = self.server.clone();
        let key = format!("{}floor:{number}", self.prefix);
        let written: bool = server.set_nx(&key, body).await?;
        if !written {
            return Err("there is such a value".into());
        }
        let read: Vec<u8> = server.get(&key).await?;
        let _: () = server.set(&key, changed(&read)).await?;
        Ok(server.set(&key, body).await?)
    }

    async fn park(&self, bench: &Bench, from: usize, to: usize) -> Result<Option<f64>> {
        let before = self.used().await?;
        copy(bench, from, to, AT_ONCE).await?;
        Ok(Some((self.used().await? - before) / (to - from) as f64))
    }
}
